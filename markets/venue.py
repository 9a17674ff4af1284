"""What the executor asks of a venue. A mode is an adapter behind this interface, never an `if` in the executor.

A plan is prepared first: whatever has to be asked or computed is, and the plan gets a reference that is recorded in its
claim before anything begins. Whoever finds the claim later can ask the venue by that reference what became of the plan:
a crash between the claim and the outcome is then a question with an answer, not a guess.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Protocol

from markets.costs import Costs
from markets.tokens import SOL_MINT
from pipeline.messages import ExecutionPlan, Fill, Mode


@dataclass(frozen=True, slots=True)
class Trace:
    """What is known of a plan's transaction, and when each step was done (wall clock, ns); 0 where unknown."""

    signature: str = ""
    wallet: str = ""
    last_valid_block_height: int = 0
    bundle: str = ""
    simulated_amount_out: int = 0
    """What the last leg gave in the simulation, base units."""
    compute_units: int = 0
    built_ns: int = 0
    simulated_ns: int = 0
    submitted_ns: int = 0
    landed_ns: int = 0
    resolved: bool = False
    """True where the outcome was read from the chain by another process than the one that submitted."""


NO_TRACE = Trace()
"""Of a venue that sends nothing."""


@dataclass(frozen=True, slots=True)
class Filled:
    """Every leg filled."""

    slot: int
    fills: tuple[Fill, ...]
    sol_price_usd_e6: int
    costs: Costs
    """What was really paid."""
    trace: Trace = NO_TRACE

    @property
    def amount_out(self) -> int:
        """Return what the last leg gave."""
        return self.fills[-1].amount_out


@dataclass(frozen=True, slots=True)
class Reverted:
    """A leg could not give its minimum, or the transaction failed otherwise: every leg undone, the tip not paid."""

    slot: int
    leg: int
    """Index of the leg that failed; -1 where it was none of them."""
    cause: str
    sol_price_usd_e6: int
    costs: Costs
    """What was really paid: the network's fees."""
    trace: Trace = NO_TRACE


@dataclass(frozen=True, slots=True)
class Dropped:
    """Submitted and never landed, and cannot any more; nothing paid."""

    slot: int
    cause: str
    trace: Trace = NO_TRACE


@dataclass(frozen=True, slots=True)
class RanOut:
    """Did not land while its blockhash was valid, and cannot any more; nothing paid."""

    slot: int
    cause: str
    trace: Trace = NO_TRACE


Landing = Filled | Reverted | Dropped | RanOut


@dataclass(frozen=True, slots=True)
class RefusedBySimulation:
    """The transaction would fail, or give too little; nothing sent."""

    slot: int
    reason: str
    trace: Trace = NO_TRACE


@dataclass(frozen=True, slots=True)
class RefusedByWallet:
    """No transaction was made: nobody could pay for it, or it would not pay; nothing sent."""

    slot: int
    reason: str
    trace: Trace = NO_TRACE


NotPrepared = RefusedBySimulation | RefusedByWallet


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulation told that went well."""

    amount_out: int
    """What the last leg gave, base units."""
    units: int
    """Compute units."""
    at_ns: int
    """Wall-clock time of the answer."""


@dataclass(frozen=True)
class Prepared:
    """A plan that is ready to be submitted. Venues keep what they need beside these."""

    reference: str
    """Names the submission, to this venue in any process."""
    trace: Trace = field(default=NO_TRACE)
    trial: asyncio.Future[Simulated | RefusedBySimulation] | None = field(default=None, repr=False)
    """A simulation that is under way, or why the plan ends after all: awaited before the gate, not before the claim."""


@dataclass(frozen=True, slots=True)
class NeverBegun:
    """The venue never saw the submission, and cannot see it any more."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """The submission may still land: ask again."""

    after_s: float
    trace: Trace = NO_TRACE


Recovery = Landing | NeverBegun | Undecided


async def tried_out(ready: Prepared) -> Prepared | RefusedBySimulation:
    """Return what is ready with what its simulation told, if one was under way, or why it ends here."""
    if ready.trial is None:
        return ready
    told = await asyncio.shield(ready.trial)
    if isinstance(told, RefusedBySimulation):
        return told
    return replace(ready, trace=replace(ready.trace, simulated_amount_out=told.amount_out, simulated_ns=told.at_ns))


def in_token(plan: ExecutionPlan, lamports: int) -> int:
    """Return lamports in base units of the plan's token at the plan's own price of SOL, rounded up: against us."""
    planned = plan.base_fee + plan.priority_fee + plan.tip
    if plan.token == SOL_MINT:
        return lamports
    return -(-plan.cost * lamports // planned) if planned else 0


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

    async def prepare(self, plan: ExecutionPlan) -> Prepared | NotPrepared:
        """Do everything that comes before the claim, or say why the plan ends here. Nothing begins."""

    def submit(self, plan: ExecutionPlan, prepared: Prepared) -> asyncio.Future[Landing]:
        """Begin. Synchronous, so that nothing stands between the gate and the effect; the future tells the outcome."""

    def withdraw(self, prepared: Prepared) -> None:
        """Give back what was set aside for a plan that will not be submitted."""

    async def recover(self, plan: ExecutionPlan, reference: str) -> Recovery:
        """Tell what became of a submission that another process may have begun."""
