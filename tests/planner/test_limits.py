"""Limits over many plans, counted in market time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.messages import RefusalReason

from .opportunities import limits

SECOND = 1_000_000_000


def broken(found: list) -> list[RefusalReason]:
    return [RefusalReason(refusal.reason) for refusal in found]


def test_rate_is_a_sliding_window_of_market_time() -> None:
    found = limits(max_plans=2, window_ns=SECOND)
    for number, now in enumerate((0, SECOND // 2)):
        assert not found.check(SOL_MINT, 1, 100, slot=1, now_ns=now)
        found.add(str(number), SOL_MINT, 1, planned_ns=now)
    assert broken(found.check(SOL_MINT, 1, 100, slot=1, now_ns=SECOND - 1)) == [RefusalReason.RATE_LIMITED]
    assert not found.check(SOL_MINT, 1, 100, slot=1, now_ns=SECOND)
    # A clock that goes back does not open the window again.
    found.add("2", SOL_MINT, 1, planned_ns=SECOND)
    assert broken(found.check(SOL_MINT, 1, 100, slot=1, now_ns=0)) == [RefusalReason.RATE_LIMITED]


def test_exposure_ends_with_the_slot_after_the_result() -> None:
    found = limits()
    found.add("a", SOL_MINT, 60, planned_ns=0)
    assert broken(found.check(SOL_MINT, 41, 100, slot=5, now_ns=0)) == [RefusalReason.EXPOSURE_LIMIT]
    assert not found.check(SOL_MINT, 40, 100, slot=5, now_ns=0)
    assert not found.check(USDC_MINT, 100, 100, slot=5, now_ns=0)
    found.settle("a", 6)
    assert found.check(SOL_MINT, 41, 100, slot=5, now_ns=0)
    assert found.check(SOL_MINT, 41, 100, slot=6, now_ns=0)
    assert not found.check(SOL_MINT, 100, 100, slot=7, now_ns=0)
    found.settle("a", 6)
    found.settle("a", 8)
    assert not found.check(SOL_MINT, 100, 100, slot=9, now_ns=0)
    assert (found.open_amount(SOL_MINT), found.open_plans) == (0, 0)


def test_a_result_may_come_before_its_plan() -> None:
    found = limits()
    found.settle("a", 6)
    found.add("a", SOL_MINT, 60, planned_ns=0)
    assert found.open_amount(SOL_MINT) == 60
    found.check(SOL_MINT, 1, 1, slot=7, now_ns=0)
    assert found.open_amount(SOL_MINT) == 0


def test_a_plan_counts_once() -> None:
    found = limits()
    found.add("a", SOL_MINT, 60, planned_ns=0)
    found.add("a", SOL_MINT, 60, planned_ns=0)
    assert found.open_amount(SOL_MINT) == 60


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
    found = limits(max_plans=max_plans, window_ns=3 * SECOND)
    slot, planned, open_plans, ended = 1, [], {}, {}
    for kind, number, value in events:
        now = slot * SECOND
        if kind == "time":
            slot += number
        elif kind == "result":
            found.settle(str(number), slot + value)
            if number in open_plans:
                ended[number] = min(ended.get(number, 10**9), slot + value)
        elif number not in open_plans:
            open_plans = {key: amount for key, amount in open_plans.items() if ended.get(key, 10**9) >= slot}
            if not found.check(SOL_MINT, value, max_open, slot=slot, now_ns=now):
                found.add(str(number), SOL_MINT, value, planned_ns=now)
                planned.append(now)
                open_plans[number] = value
                ended.pop(number, None)
                early = found._closing
                for closing, ids in early.items():
                    if str(number) in ids:
                        ended[number] = min(ended.get(number, 10**9), closing)
        assert len([t for t in planned if t > now - 3 * SECOND]) <= max_plans
        assert found.open_amount(SOL_MINT) <= max_open
        assert found.open_amount(SOL_MINT) >= 0
