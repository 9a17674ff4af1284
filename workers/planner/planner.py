"""Answer opportunities in order of arrival, each exactly once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pipeline.messages import ExecutionPlan, ExecutionResult, Mode, Opportunity, PlanRefusal
from pipeline.permit import Allowed, Refused
from workers.planner.cycle import Quotes
from workers.planner.decide import Approved, Moment, Rules, decide
from workers.planner.limits import PlanLimits
from workers.planner.open_plans import OpenPlans, Swap
from workers.planner.outcome import outcome_of

# Answers remembered by their opportunity, newest last. The bus brings a message again only while it is unacknowledged,
# and holds far fewer of those at once.
_REMEMBERED = 65_536

Outcome = ExecutionPlan | PlanRefusal


class Market(Quotes, Protocol):
    """Quotes, and the market's present moment."""

    def moment(self, opportunity: Opportunity) -> Moment:
        """Return market slot and time, never before the opportunity's own."""


class Planner:
    """What was decided, and the limits that the next decision meets."""

    def __init__(
        self,
        *,
        rules: Rules,
        open_plans: OpenPlans,
        limits: PlanLimits,
        market: Market,
        gate: Callable[[], Allowed | Refused],
        mode: Mode,
        wall_ns: Callable[[], int],
        producer: str,
    ) -> None:
        """Start with nothing decided; `remember` and `settle` bring back what was."""
        self._rules = rules
        self._open = open_plans
        self._limits = limits
        self._market = market
        self._gate = gate
        self._mode = mode
        self._wall_ns = wall_ns
        self._producer = producer
        self._decided: dict[str, None] = {}
        # Decided, and not yet known to be stored: given again, the opportunity gets the same answer.
        self._unstored: dict[str, Outcome] = {}

    def answer(self, opportunity: Opportunity) -> Outcome | None:
        """Return the answer to publish, or None where it is stored already."""
        waiting = self._unstored.get(opportunity.id)
        if waiting is not None:
            return waiting
        if opportunity.id in self._decided:
            return None
        moment = self._market.moment(opportunity)
        verdict = self._gate() if self._rules.settings.enabled else None
        decision = decide(
            opportunity,
            moment,
            quotes=self._market,
            open_plans=self._open,
            limits=self._limits,
            rules=self._rules,
            permit_epoch=verdict.epoch if isinstance(verdict, Allowed) else None,
        )
        outcome = outcome_of(
            opportunity,
            decision,
            moment,
            mode=self._mode,
            created_ns=self._wall_ns(),
            producer=self._producer,
        )
        if isinstance(decision, Approved):
            self._count(outcome)
        self._unstored[opportunity.id] = outcome
        return outcome

    def stored(self, opportunity_id: str) -> None:
        """Note that the answer is in the stream."""
        self._unstored.pop(opportunity_id, None)
        self._decided[opportunity_id] = None
        if len(self._decided) > _REMEMBERED:
            del self._decided[next(iter(self._decided))]

    def remember(self, outcome: Outcome) -> None:
        """Take over an answer that an earlier process gave."""
        self.stored(outcome.correlation_id)
        self._count(outcome)

    @property
    def open_plans(self) -> int:
        """Return how many plans have no result yet."""
        return len(self._open)

    def settle(self, result: ExecutionResult) -> None:
        """Take a result: its plan is no longer open."""
        self._open.settle(result.plan_id, result.slot)

    def _count(self, outcome: Outcome) -> None:
        if not isinstance(outcome, ExecutionPlan):
            return
        swaps = [Swap(leg.pool, leg.token_in, leg.amount_in) for leg in outcome.legs]
        if self._open.add(outcome.id, outcome.token, outcome.amount_in, swaps, slot=outcome.slot):
            self._limits.add(outcome.planned_ns)
