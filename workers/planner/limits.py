"""Limits over many plans: how many in a window, and how much is open. Counted in market time, not by the wall clock."""

from __future__ import annotations

from collections import deque

from pipeline.messages import Refusal, RefusalReason
from workers.planner.open_plans import OpenPlans


class PlanLimits:
    """Rate of plans, and open exposure per token."""

    def __init__(self, open_plans: OpenPlans, *, max_plans: int, window_ns: int) -> None:
        """Start with nothing planned."""
        self._open = open_plans
        self._max_plans = max_plans
        self._window_ns = window_ns
        self._planned: deque[int] = deque()
        self._now_ns = 0

    def check(self, token: str, amount_in: int, max_open: int, *, now_ns: int) -> list[Refusal]:
        """Return the limits that one more plan would break."""
        self._now_ns = max(self._now_ns, now_ns)
        horizon = self._now_ns - self._window_ns
        while self._planned and self._planned[0] <= horizon:
            self._planned.popleft()
        broken: list[Refusal] = []
        if len(self._planned) >= self._max_plans:
            measured = float(len(self._planned) + 1)
            broken.append(_refusal(RefusalReason.RATE_LIMITED, measured, self._max_plans, "planner.max_plans"))
        wanted = self._open.amount(token) + amount_in
        if wanted > max_open:
            broken.append(_refusal(RefusalReason.EXPOSURE_LIMIT, float(wanted), max_open, token))
        return broken

    def add(self, planned_ns: int) -> None:
        """Count a plan; market time never goes back."""
        self._now_ns = max(self._now_ns, planned_ns)
        self._planned.append(self._now_ns)


def _refusal(reason: RefusalReason, measured: float, limit: int, subject: str) -> Refusal:
    return Refusal(reason=reason, measured=measured, limit=float(limit), subject=subject)
