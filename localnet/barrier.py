"""When a slot is settled: the pure half of the lockstep between the market and the workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a slot still waits for."""

    slot: int
    report: bool
    """The scanner has not reported the slot."""
    opportunities: int
    """Opportunities that the report counted and that were not seen yet."""
    outcomes: tuple[str, ...]
    """Opportunities without a plan or a refusal."""
    results: tuple[str, ...]
    """Plans that should have landed by now and have no result."""

    def __bool__(self) -> bool:
        """Tell whether anything is missing."""
        return self.report or bool(self.opportunities or self.outcomes or self.results)

    def __str__(self) -> str:
        """Say what is missing, for a log or a health message."""
        parts = ["the scanner's report"] if self.report else []
        parts += [f"{self.opportunities} opportunities"] if self.opportunities else []
        parts += [f"{len(self.outcomes)} plans or refusals"] if self.outcomes else []
        parts += [f"{len(self.results)} results"] if self.results else []
        return f"slot {self.slot} waits for " + (", ".join(parts) or "nothing")


@dataclass(slots=True)
class Barrier:
    """Follows a slot's messages, in whatever order and however often they come.

    A slot is settled when the scanner has reported it, every opportunity it counted has been seen, every opportunity
    seen so far has its plan or refusal, and every plan that lands in this slot or before has its result.
    """

    landing_slots: int = 1
    slot: int = 0
    _reports: dict[int, int] = field(default_factory=dict)
    _seen: dict[int, set[str]] = field(default_factory=dict)
    _open: dict[str, int] = field(default_factory=dict)
    _answered: dict[str, int] = field(default_factory=dict)
    _plans: dict[str, int] = field(default_factory=dict)
    _landed: dict[str, int] = field(default_factory=dict)
    given_up: int = 0

    def begin(self, slot: int) -> None:
        """Start waiting for a slot; what is older than it can no longer be heard of twice is forgotten."""
        if slot <= self.slot:
            raise ValueError(f"slot {slot} does not come after {self.slot}")
        self.slot = slot
        horizon = slot - 50
        for table in (self._reports, self._seen):
            _forget(table, horizon)
        for ids in (self._answered, self._landed):
            _forget_ids(ids, horizon)

    def report(self, slot: int, opportunities: int) -> None:
        """Note the scanner's report; a repeat can only raise the count."""
        self._reports[slot] = max(opportunities, self._reports.get(slot, 0))

    def opportunity(self, id_: str, slot: int) -> None:
        """Note an opportunity."""
        self._seen.setdefault(slot, set()).add(id_)
        if id_ not in self._answered:
            self._open.setdefault(id_, slot)

    def refusal(self, opportunity: str) -> None:
        """Note that an opportunity was refused."""
        self._open.pop(opportunity, None)
        self._answered[opportunity] = self.slot

    def plan(self, id_: str, opportunity: str, slot: int) -> None:
        """Note that an opportunity became a plan, at a slot."""
        self.refusal(opportunity)
        if id_ not in self._landed:
            self._plans.setdefault(id_, slot)

    def submitted(self, plan: str, signature: str, last_valid_block_height: int) -> None:
        """Note that a plan's transaction was handed to the network; where there is no chain, nothing ever is."""

    def result(self, plan: str) -> None:
        """Note that a plan has its result."""
        self._forget_plan(plan)
        self._landed[plan] = self.slot

    def waiting(self) -> Waiting:
        """Return what the present slot still waits for."""
        due = self.slot - self.landing_slots
        counted = self._reports.get(self.slot)
        seen = len(self._seen.get(self.slot, ()))
        return Waiting(
            slot=self.slot,
            report=counted is None,
            opportunities=max(0, (counted or 0) - seen),
            outcomes=tuple(id_ for id_, slot in self._open.items() if slot <= self.slot),
            results=tuple(id_ for id_, slot in self._plans.items() if slot <= due),
        )

    @property
    def busy(self) -> bool:
        """Tell whether an opportunity is open, or a plan under way."""
        return bool(self._open or self._plans)

    @property
    def idle(self) -> bool:
        """Tell whether nothing at all is under way, and the present slot is settled."""
        return not self.busy and not self.waiting()

    def give_up(self) -> Waiting:
        """Stop waiting for what is missing now, so that it does not delay the next slots too; return what it was."""
        missing = self.waiting()
        for id_ in missing.outcomes:
            del self._open[id_]
        for id_ in missing.results:
            self._forget_plan(id_)
        self.given_up += len(missing.outcomes) + len(missing.results)
        return missing

    def _forget_plan(self, plan: str) -> None:
        self._plans.pop(plan, None)


@dataclass(slots=True)
class ChainBarrier(Barrier):
    """The same where plans become transactions on a chain.

    A plan is settled in its slot when its transaction was handed to the network, or when its result is there. The
    result is waited for once the chain knows how the transaction ended; until then the market goes on.
    """

    landing_slots: int = 0
    ended: Callable[[str, int], bool] = lambda _signature, _height: False
    """Tell whether the chain knows how a transaction ended, by its signature and its last valid block height."""
    _under_way: dict[str, tuple[str, int]] = field(default_factory=dict)

    def submitted(self, plan: str, signature: str, last_valid_block_height: int) -> None:
        """Note that a plan's transaction was handed to the network."""
        if plan not in self._landed:
            self._plans.pop(plan, None)
            self._under_way[plan] = (signature, last_valid_block_height)

    def plan(self, id_: str, opportunity: str, slot: int) -> None:
        """Note that an opportunity became a plan, at a slot."""
        self.refusal(opportunity)
        if id_ not in self._landed and id_ not in self._under_way:
            self._plans.setdefault(id_, slot)

    def waiting(self) -> Waiting:
        """Return what the present slot still waits for."""
        missing = Barrier.waiting(self)
        return replace(missing, results=missing.results + self.due)

    @property
    def due(self) -> tuple[str, ...]:
        """Return the plans whose transactions ended by now, as far as the chain knows, and that have no result."""
        return tuple(plan for plan, transaction in self._under_way.items() if self.ended(*transaction))

    @property
    def busy(self) -> bool:
        """Tell whether an opportunity is open, a plan under way, or a transaction without a result."""
        return bool(self._open or self._plans or self._under_way)

    def _forget_plan(self, plan: str) -> None:
        self._plans.pop(plan, None)
        self._under_way.pop(plan, None)


def _forget(table: dict[int, int] | dict[int, set[str]], horizon: int) -> None:
    for slot in [slot for slot in table if slot < horizon]:
        del table[slot]


def _forget_ids(table: dict[str, int], horizon: int) -> None:
    for id_ in [id_ for id_, slot in table.items() if slot < horizon]:
        del table[id_]
