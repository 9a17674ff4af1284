"""When which pool is read, under a clock that is turned by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from markets.solana.watch.schedule import Intervals, Rank, Schedule, Turn

from .clock import NS_PER_S, FakeClock

INTERVALS = Intervals(fast_s=1.0, slow_s=30.0, stale_s=60.0, retry_s=0.25)


class Desk:
    """A schedule whose reads take no time."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.schedule = Schedule(INTERVALS, self.clock)

    def read(self) -> list[str]:
        """Read what is due; return it in order."""
        pools = [pool for turn in self.schedule.begin() for pool in turn.pools]
        for pool in pools:
            self.schedule.done(pool)
        return pools

    def reads_of(self, pool: str, seconds: float) -> list[float]:
        """Return when a pool is read, seconds from now."""
        begin, times = self.clock.now_ns, []
        while self.clock.now_ns - begin < seconds * NS_PER_S:
            if pool in self.read():
                times.append(round((self.clock.now_ns - begin) / NS_PER_S, 3))
            self.clock.forward(min(0.05, max(self.schedule.wait_s(), 0.001)))
        return times


def test_constant_product_is_read_every_second_subscribed_or_not():
    desk = Desk()
    desk.schedule.add("cp", slow=False)
    assert desk.reads_of("cp", 3.5) == [0, 1, 2, 3]
    desk.schedule.subscribed("cp", True)
    assert len(desk.reads_of("cp", 10)) in (10, 11)


def test_concentrated_liquidity_is_read_every_thirty_seconds_while_subscribed():
    desk = Desk()
    desk.schedule.add("cl", slow=True)
    assert len(desk.reads_of("cl", 4.5)) == 5
    desk.schedule.subscribed("cl", True)
    # At once: what changed before the subscription stood was not told.
    assert desk.reads_of("cl", 65) == [0, 30, 60]
    desk.schedule.subscribed("cl", False)
    assert len(desk.reads_of("cl", 4.5)) == 5


def test_somebody_who_waits_goes_before_what_changed_and_that_before_what_is_due():
    desk = Desk()
    for pool in ("due", "dirty", "urgent", "fresh"):
        desk.schedule.add(pool, slow=False)
    desk.read()
    desk.clock.forward(0.5)
    desk.schedule.dirty("fresh")
    desk.read()
    desk.clock.forward(0.5)
    desk.schedule.dirty("dirty")
    assert desk.schedule.urgent("urgent")
    assert not desk.schedule.urgent("nobody")
    assert desk.schedule.begin() == [
        Turn(Rank.URGENT, ("urgent",)),
        Turn(Rank.DIRTY, ("dirty",)),
        Turn(Rank.DUE, ("due",)),
    ]


def test_what_happens_during_a_read_is_read_again():
    desk = Desk()
    desk.schedule.add("a", slow=True)
    assert desk.schedule.begin()
    desk.schedule.dirty("a")
    assert desk.schedule.begin() == [], "it is under way"
    desk.schedule.done("a")
    assert desk.schedule.begin() == [Turn(Rank.DIRTY, ("a",))]
    desk.schedule.urgent("a")
    desk.schedule.done("a")
    assert desk.schedule.begin() == [Turn(Rank.URGENT, ("a",))]


def test_a_read_that_told_nothing_new_enough_is_made_again():
    desk = Desk()
    desk.schedule.add("a", slow=True)
    desk.schedule.begin()
    desk.schedule.done("a", confirmed=False)
    assert desk.schedule.age_s("a") is None
    assert desk.schedule.begin() == [Turn(Rank.DIRTY, ("a",))]
    desk.schedule.done("a")
    desk.clock.forward(2)
    assert desk.schedule.age_s("a") == 2


def test_a_read_that_fails_is_repeated_with_growing_pauses_and_others_go_on():
    desk = Desk()
    desk.schedule.add("bad", slow=False)
    desk.schedule.add("good", slow=False)
    begin, tries, good = desk.clock.now_ns, [], 0
    while desk.clock.now_ns - begin < 5 * NS_PER_S:
        for turn in desk.schedule.begin():
            for pool in turn.pools:
                if pool == "bad":
                    tries.append(round((desk.clock.now_ns - begin) / NS_PER_S, 2))
                    desk.schedule.failed([pool])
                else:
                    good += 1
                    desk.schedule.done(pool)
        desk.clock.forward(0.01)
    assert tries[:5] == [0, 0.25, 0.75, 1.75, 2.75]
    assert good == 5
    # Somebody who waits does not wait for that.
    desk.schedule.urgent("bad")
    assert desk.schedule.begin()[0] == Turn(Rank.URGENT, ("bad",))


def test_pools_that_are_due_soon_are_read_along():
    desk = Desk()
    desk.schedule.add("a", slow=False)
    desk.read()
    desk.clock.forward(0.05)
    desk.schedule.add("b", slow=False)
    desk.read()
    desk.clock.forward(0.95)
    assert desk.read() == ["a", "b"]


def test_stale_pools_are_found_and_read_first():
    desk = Desk()
    desk.schedule.add("a", slow=False)
    desk.schedule.add("b", slow=False)
    desk.read()
    assert desk.schedule.sweep() == []
    assert desk.schedule.begin() == []
    desk.clock.forward(50)
    desk.schedule.begin()
    desk.schedule.done("b")
    # The answer about a is of an older slot: nobody knows how it is.
    desk.schedule.done("a", confirmed=False)
    desk.clock.forward(11)
    assert desk.schedule.sweep() == ["a"]
    assert desk.schedule.begin() == [Turn(Rank.DIRTY, ("a",)), Turn(Rank.DUE, ("b",))]


def test_one_that_was_never_read_grows_stale_too():
    desk = Desk()
    desk.schedule.add("a", slow=False)
    desk.clock.forward(61)
    assert desk.schedule.sweep() == ["a"]


def test_a_pool_that_is_let_go_is_not_heard_of_again():
    desk = Desk()
    desk.schedule.add("a", slow=False)
    desk.schedule.begin()
    desk.schedule.remove("a")
    desk.schedule.done("a")
    desk.schedule.failed(["a"])
    desk.schedule.dirty("a")
    desk.schedule.subscribed("a", True)
    assert "a" not in desk.schedule
    assert desk.schedule.begin() == []
    assert desk.schedule.wait_s() > 1000


events = st.lists(
    st.tuples(
        st.sampled_from(["dirty", "urgent", "subscribe", "lose", "begin", "done", "older", "fail", "sweep"]),
        st.sampled_from("abc"),
        st.floats(0, 2),
    ),
    max_size=120,
)


@given(events)
def test_no_pool_is_read_twice_at_once_forgotten_or_left_alone(happened: list[tuple[str, str, float]]):
    clock = FakeClock()
    schedule = Schedule(INTERVALS, clock)
    for pool in "abc":
        schedule.add(pool, slow=pool != "a")
    under_way: set[str] = set()
    for what, pool, seconds in happened:
        clock.forward(seconds)
        if what == "begin":
            begun = [one for turn in schedule.begin() for one in turn.pools]
            assert len(begun) == len(set(begun))
            assert not under_way & set(begun)
            under_way |= set(begun)
        elif what in ("done", "older"):
            schedule.done(pool, confirmed=what == "done")
            under_way.discard(pool)
        elif what == "fail":
            schedule.failed([pool])
            under_way.discard(pool)
        elif what == "dirty":
            schedule.dirty(pool)
        elif what == "urgent":
            schedule.urgent(pool)
        elif what == "sweep":
            schedule.sweep()
        else:
            schedule.subscribed(pool, what == "subscribe")
        assert schedule.wait_s() >= 0
    for pool in under_way:
        schedule.failed([pool])
    # The longest that anything waits.
    clock.forward(INTERVALS.slow_s)
    assert {one for turn in schedule.begin() for one in turn.pools} == set("abc")


@given(events)
def test_the_wait_it_tells_is_long_enough_and_not_longer(happened: list[tuple[str, str, float]]):
    clock = FakeClock()
    schedule = Schedule(INTERVALS, clock)
    schedule.add("a", slow=False)
    schedule.add("b", slow=True)
    for what, pool, seconds in happened:
        clock.forward(seconds)
        if what == "dirty":
            schedule.dirty(pool)
        wait_s = schedule.wait_s()
        if wait_s > 0.001:
            clock.forward(wait_s - 0.001)
            assert schedule.begin() == []
        clock.forward(min(wait_s, 0.001))
        turns = schedule.begin()
        assert turns
        for turn in turns:
            for one in turn.pools:
                schedule.failed([one]) if what == "fail" else schedule.done(one)
