"""Token bucket and circuit breaker under a clock that is turned by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.limits import BreakerState, CircuitBreaker, TokenBucket

from .clock import NS_PER_S, FakeClock


def test_what_can_wait_leaves_half_of_the_burst():
    clock = FakeClock()
    bucket, single = TokenBucket(1.0, 4, clock), TokenBucket(1.0, 1, clock)
    taken = 0
    while bucket.roomy and bucket.take():
        taken += 1
    assert (taken, bucket.take(2), bucket.take(), single.roomy) == (2, True, False, False)


def test_a_bucket_gives_its_burst_then_its_rate():
    clock = FakeClock()
    bucket = TokenBucket(2.0, 3, clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    assert bucket.wait_s() == 0.5
    clock.forward(0.499)
    assert not bucket.take()
    clock.forward(0.001)
    assert bucket.take()
    assert not bucket.take()
    clock.forward(3600)
    assert bucket.take(3)
    assert not bucket.take()


def test_a_take_of_several_is_all_or_nothing():
    clock = FakeClock()
    bucket = TokenBucket(1.0, 2, clock)
    assert bucket.take()
    assert not bucket.take(2)
    assert bucket.take(), "the take that failed took nothing"
    with pytest.raises(ValueError, match="never"):
        bucket.wait_s(3)


def test_a_held_bucket_gives_nothing_until_then_and_one_at_a_time_after():
    clock = FakeClock()
    bucket = TokenBucket(10.0, 5, clock)
    bucket.hold(2.0)
    assert bucket.wait_s() == 2.0
    clock.forward(1.999)
    assert not bucket.take()
    clock.forward(0.001)
    assert bucket.take()
    assert not bucket.take()
    # A shorter hold does not shorten a longer one.
    bucket.hold(5.0)
    bucket.hold(1.0)
    assert bucket.wait_s() == 5.0


@given(
    rate=st.floats(0.01, 10_000),
    burst=st.integers(1, 50),
    steps=st.lists(st.tuples(st.integers(-NS_PER_S, 3 * NS_PER_S), st.integers(1, 5)), max_size=60),
)
def test_no_span_of_time_gets_more_than_burst_and_rate(rate: float, burst: int, steps: list[tuple[int, int]]):
    clock = FakeClock()
    bucket = TokenBucket(rate, burst, clock)
    given_at: list[tuple[int, int]] = []
    latest = clock.now_ns
    for ns, wanted in steps:
        clock.now_ns += ns
        n = min(wanted, burst)
        wait = bucket.wait_s(n)
        took = bucket.take(n)
        assert took == (wait == 0)
        # What was given while the clock stood behind counts for the latest time it had shown.
        latest = max(latest, clock.now_ns)
        if took:
            given_at.append((latest, n))
    for first in range(len(given_at)):
        for last in range(first, len(given_at)):
            span_s = (given_at[last][0] - given_at[first][0]) / NS_PER_S
            assert sum(n for _, n in given_at[first : last + 1]) <= burst + rate * span_s + 1e-6


@given(rate=st.floats(0.1, 1000), burst=st.integers(1, 20), n=st.integers(1, 20), used=st.integers(0, 20))
def test_after_the_wait_it_told_there_are_tokens(rate: float, burst: int, n: int, used: int):
    clock = FakeClock()
    bucket = TokenBucket(rate, burst, clock)
    for _ in range(used):
        bucket.take()
    n = min(n, burst)
    clock.now_ns += int(bucket.wait_s(n) * NS_PER_S) + 1
    assert bucket.take(n)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1)])
def test_a_bucket_of_nonsense_is_refused(rate: float, burst: int):
    with pytest.raises(ValueError, match="rate is positive"):
        TokenBucket(rate, burst, FakeClock())


def breaker(clock: FakeClock, failures: int = 3, window: int = 5) -> CircuitBreaker:
    return CircuitBreaker(failures=failures, window=window, open_s=1.0, open_max_s=4.0, clock=clock)


def test_a_breaker_opens_on_failures_and_closes_on_a_trial_that_succeeds():
    clock = FakeClock()
    circuit = breaker(clock)
    for outcome in (False, True, False, True):
        circuit.success() if outcome else circuit.failure()
        assert circuit.allow()
    circuit.failure()
    assert circuit.state is BreakerState.OPEN
    assert not circuit.allow()
    clock.forward(1.0)
    assert circuit.state is BreakerState.HALF_OPEN
    assert circuit.allow()
    assert not circuit.allow(), "one trial at a time"
    circuit.success()
    assert circuit.state is BreakerState.CLOSED
    circuit.failure()
    circuit.failure()
    assert circuit.allow(), "old failures are forgotten"


def test_failures_that_are_long_past_do_not_count():
    circuit = breaker(FakeClock())
    for _ in range(20):
        circuit.failure()
        circuit.failure()
        for _ in range(4):
            circuit.success()
    assert circuit.state is BreakerState.CLOSED
    assert circuit.opened == 0


def test_each_trial_that_fails_doubles_the_pause_up_to_its_limit():
    clock = FakeClock()
    circuit = breaker(clock, failures=1)
    circuit.failure()
    for pause in (1.0, 2.0, 4.0, 4.0):
        assert circuit.wait_s == pause
        clock.forward(pause - 0.001)
        assert not circuit.allow()
        clock.forward(0.001)
        assert circuit.wait_s == 0
        assert circuit.allow()
        circuit.failure()
    clock.forward(4.0)
    assert circuit.allow()
    circuit.success()
    circuit.failure()
    clock.forward(1.0)
    assert circuit.allow(), "after a success the pause is short again"


def test_a_trial_called_off_or_never_told_does_not_lock_the_breaker():
    clock = FakeClock()
    circuit = breaker(clock, failures=1)
    circuit.failure()
    clock.forward(1.0)
    assert circuit.allow()
    circuit.abandon()
    assert circuit.allow()
    assert not circuit.ready
    clock.forward(1.0)
    assert circuit.ready
    assert circuit.allow()


def test_what_comes_late_from_before_the_opening_changes_nothing():
    clock = FakeClock()
    circuit = breaker(clock, failures=1)
    circuit.failure()
    circuit.success()
    circuit.failure()
    assert circuit.state is BreakerState.OPEN
    assert circuit.opened == 1
    clock.forward(1.0)
    assert circuit.allow()


@given(st.lists(st.tuples(st.sampled_from(["ok", "bad", "off", "allow"]), st.floats(0, 3)), max_size=80))
def test_a_breaker_never_locks_for_good_and_is_never_open_without_cause(steps: list[tuple[str, float]]):
    clock = FakeClock()
    circuit = breaker(clock, failures=2, window=3)
    failed = 0
    for action, seconds in steps:
        clock.forward(seconds)
        if action == "allow":
            assert circuit.allow() <= (circuit.state is not BreakerState.OPEN)
        elif action == "ok":
            circuit.success()
        elif action == "bad":
            failed += 1
            circuit.failure()
        else:
            circuit.abandon()
        if failed < 2:
            assert circuit.state is BreakerState.CLOSED
    clock.forward(4.0 + 1.0)
    assert circuit.allow()
    circuit.success()
    assert circuit.state is BreakerState.CLOSED


@pytest.mark.parametrize(("failures", "window"), [(0, 1), (3, 2)])
def test_a_breaker_of_nonsense_is_refused(failures: int, window: int):
    with pytest.raises(ValueError, match="a breaker of"):
        breaker(FakeClock(), failures, window)
