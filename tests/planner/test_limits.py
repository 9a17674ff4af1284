"""Limits over many plans, counted in market time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.messages import Refusal, RefusalReason
from workers.planner.limits import PlanLimits
from workers.planner.open_plans import OpenPlans, Swap

SECOND = 1_000_000_000


class Desk:
    """Limits as the planner uses them."""

    def __init__(self, max_plans: int = 500, window_ns: int = SECOND) -> None:
        self.plans = OpenPlans()
        self.limits = PlanLimits(self.plans, max_plans=max_plans, window_ns=window_ns)

    def check(self, token: str, amount: int, max_open: int, *, slot: int, now_ns: int = 0) -> list[RefusalReason]:
        self.plans.advance(slot)
        found: list[Refusal] = self.limits.check(token, amount, max_open, now_ns=now_ns)
        return [RefusalReason(refusal.reason) for refusal in found]

    def add(self, plan_id: str, token: str, amount: int, planned_ns: int = 0) -> None:
        if self.plans.add(plan_id, token, amount, slot=0):
            self.limits.add(planned_ns)


def test_rate_is_a_sliding_window_of_market_time() -> None:
    desk = Desk(max_plans=2)
    for number, now in enumerate((0, SECOND // 2)):
        assert not desk.check(SOL_MINT, 1, 100, slot=1, now_ns=now)
        desk.add(str(number), SOL_MINT, 1, now)
    assert desk.check(SOL_MINT, 1, 100, slot=1, now_ns=SECOND - 1) == [RefusalReason.RATE_LIMITED]
    assert not desk.check(SOL_MINT, 1, 100, slot=1, now_ns=SECOND)
    # A clock that goes back does not open the window again.
    desk.add("2", SOL_MINT, 1, SECOND)
    assert desk.check(SOL_MINT, 1, 100, slot=1, now_ns=0) == [RefusalReason.RATE_LIMITED]


def test_exposure_ends_with_the_slot_after_the_result() -> None:
    desk = Desk()
    desk.add("a", SOL_MINT, 60)
    assert desk.check(SOL_MINT, 41, 100, slot=5) == [RefusalReason.EXPOSURE_LIMIT]
    assert not desk.check(SOL_MINT, 40, 100, slot=5)
    assert not desk.check(USDC_MINT, 100, 100, slot=5)
    desk.plans.settle("a", 6)
    assert desk.check(SOL_MINT, 41, 100, slot=5)
    assert desk.check(SOL_MINT, 41, 100, slot=6)
    assert not desk.check(SOL_MINT, 100, 100, slot=7)
    desk.plans.settle("a", 6)
    desk.plans.settle("a", 8)
    assert not desk.check(SOL_MINT, 100, 100, slot=9)
    assert (desk.plans.amount(SOL_MINT), len(desk.plans)) == (0, 0)


def test_a_result_may_come_before_its_plan() -> None:
    desk = Desk()
    desk.plans.settle("a", 6)
    desk.add("a", SOL_MINT, 60)
    assert desk.plans.amount(SOL_MINT) == 60
    desk.plans.advance(7)
    assert desk.plans.amount(SOL_MINT) == 0


def test_a_plan_counts_once() -> None:
    desk = Desk()
    desk.add("a", SOL_MINT, 60)
    desk.add("a", SOL_MINT, 60)
    assert desk.plans.amount(SOL_MINT) == 60


def test_swaps_are_kept_by_pool_in_order_while_their_plans_are_open() -> None:
    plans = OpenPlans()
    first, second = Swap("p", SOL_MINT, 1), Swap("p", SOL_MINT, 2)
    plans.add("a", SOL_MINT, 1, [first, Swap("q", USDC_MINT, 9)], slot=1)
    plans.add("b", SOL_MINT, 2, [second], slot=2)
    pending = plans.pending("p")
    assert pending is not None
    assert (pending.generation, pending.swaps) == (0, [first, second])
    assert plans.pending("nowhere") is None
    plans.settle("a", 3)
    plans.advance(3)
    assert (pending.generation, pending.swaps) == (0, [first, second])
    plans.advance(4)
    assert plans.pending("p") is pending
    assert (pending.generation, pending.swaps) == (1, [second])
    assert plans.pending("q") is None


def test_a_plan_without_a_result_is_open_until_nothing_of_it_can_land() -> None:
    plans = OpenPlans()
    plans.add("a", SOL_MINT, 60, [Swap("p", SOL_MINT, 1)], slot=10)
    plans.add("b", SOL_MINT, 5, slot=900)
    plans.advance(1_010)
    assert (plans.amount(SOL_MINT), len(plans)) == (65, 2)
    plans.advance(1_011)
    assert (plans.amount(SOL_MINT), plans.pending("p"), len(plans)) == (5, None, 1)
    plans.settle("a", 1_500)  # late all the same: it is no longer open
    plans.advance(1_600)
    assert (plans.amount(SOL_MINT), len(plans)) == (5, 1)


events = st.lists(
    st.one_of(
        st.tuples(st.just("plan"), st.integers(0, 40), st.integers(1, 50)),
        st.tuples(st.just("result"), st.integers(0, 40), st.integers(0, 3)),
        st.tuples(st.just("time"), st.integers(0, 4), st.just(0)),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(events=events, max_plans=st.integers(1, 5), max_open=st.integers(1, 100))
def test_limits_are_never_passed(events: list[tuple[str, int, int]], max_plans: int, max_open: int) -> None:
    """Against a plain model: plans with their amounts, their times, and the slots of their results."""
    desk = Desk(max_plans=max_plans, window_ns=3 * SECOND)
    slot = 1
    planned: dict[int, tuple[int, int]] = {}
    results: dict[int, int] = {}
    for kind, number, value in events:
        if kind == "time":
            slot += number
        elif kind == "result":
            desk.plans.settle(str(number), slot + value)
            # The first result counts while the plan is open; before the plan is known, the last one does.
            if number not in planned:
                results[number] = slot + value
            else:
                results[number] = min(results.get(number, slot + value), slot + value)
        elif number not in planned and not desk.check(SOL_MINT, value, max_open, slot=slot, now_ns=slot * SECOND):
            desk.add(str(number), SOL_MINT, value, slot * SECOND)
            planned[number] = (slot, value)
        desk.plans.advance(slot)
        recent = [when for when, _ in planned.values() if when > slot - 3]
        still_open = sum(amount for key, (_, amount) in planned.items() if results.get(key, 10**9) >= slot)
        assert len(recent) <= max_plans
        assert desk.plans.amount(SOL_MINT) == still_open <= max_open
        assert len(desk.plans) >= 0
