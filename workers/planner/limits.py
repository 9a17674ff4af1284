"""Limits over many plans: how many in a window, and how much is open. Counted in market time, not by the wall clock."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from pipeline.messages import Refusal, RefusalReason

# Results that came before their plan was known: at a restart the two streams are read one after the other.
_EARLY_MAX = 50_000


@dataclass(frozen=True, slots=True)
class _Open:
    token: str
    amount_in: int


class PlanLimits:
    """Rate of plans, and open exposure per token.

    A plan is open until its result is in, and counts for every opportunity of a slot up to and with the result's slot:
    the answer then depends on slots alone, not on how fast the result travelled.
    """

    def __init__(self, *, max_plans: int, window_ns: int) -> None:
        """Start with nothing planned."""
        self._max_plans = max_plans
        self._window_ns = window_ns
        self._planned: deque[int] = deque()
        self._now_ns = 0
        self._open: dict[str, _Open] = {}
        self._amounts: dict[str, int] = {}
        self._closing: dict[int, list[str]] = {}
        self._early: OrderedDict[str, int] = OrderedDict()

    def check(self, token: str, amount_in: int, max_open: int, *, slot: int, now_ns: int) -> list[Refusal]:
        """Return the limits that one more plan would break."""
        self._advance(slot, now_ns)
        broken: list[Refusal] = []
        if len(self._planned) >= self._max_plans:
            broken.append(
                Refusal(
                    reason=RefusalReason.RATE_LIMITED,
                    measured=float(len(self._planned) + 1),
                    limit=float(self._max_plans),
                    subject="planner.max_plans",
                )
            )
        wanted = self._amounts.get(token, 0) + amount_in
        if wanted > max_open:
            broken.append(
                Refusal(
                    reason=RefusalReason.EXPOSURE_LIMIT, measured=float(wanted), limit=float(max_open), subject=token
                )
            )
        return broken

    def add(self, plan_id: str, token: str, amount_in: int, *, planned_ns: int) -> None:
        """Count a plan."""
        if plan_id in self._open:
            return
        self._now_ns = max(self._now_ns, planned_ns)
        self._planned.append(self._now_ns)
        self._open[plan_id] = _Open(token, amount_in)
        self._amounts[token] = self._amounts.get(token, 0) + amount_in
        if (slot := self._early.pop(plan_id, None)) is not None:
            self._closing.setdefault(slot, []).append(plan_id)

    def settle(self, plan_id: str, slot: int) -> None:
        """Note a plan's result; its exposure ends for opportunities of later slots."""
        if plan_id in self._open:
            self._closing.setdefault(slot, []).append(plan_id)
            return
        self._early[plan_id] = slot
        if len(self._early) > _EARLY_MAX:
            self._early.popitem(last=False)

    def open_amount(self, token: str) -> int:
        """Return what is open in a token, base units."""
        return self._amounts.get(token, 0)

    @property
    def open_plans(self) -> int:
        """Return how many plans are open."""
        return len(self._open)

    def _advance(self, slot: int, now_ns: int) -> None:
        self._now_ns = max(self._now_ns, now_ns)
        horizon = self._now_ns - self._window_ns
        while self._planned and self._planned[0] <= horizon:
            self._planned.popleft()
        for ended in [closing for closing in self._closing if closing < slot]:
            for plan_id in self._closing.pop(ended):
                # A repeated result finds its plan closed already.
                if (plan := self._open.pop(plan_id, None)) is not None:
                    self._amounts[plan.token] -= plan.amount_in
