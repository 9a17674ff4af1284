"""What the executor asks of a venue. A mode is an adapter behind this interface, never an `if` in the executor.

A plan is submitted under a reference that is known, and recorded in the plan's claim, before anything begins. Whoever
finds the claim later can ask the venue by that reference what became of the plan: a crash between the claim and the
outcome is then a question with an answer, not a guess.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from pipeline.messages import ExecutionPlan, Fill, Mode


@dataclass(frozen=True, slots=True)
class Filled:
    """Every leg filled."""

    slot: int
    fills: tuple[Fill, ...]
    sol_price_usd_e6: int

    @property
    def amount_out(self) -> int:
        """Return what the last leg gave."""
        return self.fills[-1].amount_out


@dataclass(frozen=True, slots=True)
class Reverted:
    """A leg could not give its minimum: every leg undone, the network's fees paid, the tip not."""

    slot: int
    leg: int
    cause: str
    sol_price_usd_e6: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """Submitted and never landed; nothing paid."""

    slot: int
    cause: str


Landing = Filled | Reverted | Dropped


@dataclass(frozen=True, slots=True)
class NeverBegun:
    """The venue never saw the submission, and cannot see it any more."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """The submission may still land: ask again."""

    after_s: float


Recovery = Landing | NeverBegun | Undecided


class Venue(Protocol):
    """A place where plans are executed."""

    mode: Mode

    @property
    def slot(self) -> int:
        """Return the newest slot seen."""

    @property
    def now_ns(self) -> int:
        """Return market time, ns."""

    def announce(self, plan: ExecutionPlan) -> int:
        """Note a plan that may be submitted, in order of arrival, before it is claimed; return its ticket."""

    def decided(self, ticket: int) -> None:
        """Note that the plan of a ticket was submitted, or never will be."""

    def prepare(self, plan: ExecutionPlan) -> str:
        """Return the reference under which the plan will be submitted. Nothing begins."""

    def submit(self, plan: ExecutionPlan, reference: str) -> asyncio.Future[Landing]:
        """Begin. Synchronous, so that nothing stands between the gate and the effect; the future tells the outcome."""

    async def recover(self, plan: ExecutionPlan, reference: str) -> Recovery:
        """Tell what became of a submission that another process may have begun."""
