from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localnet.barrier import Barrier

Event = tuple[str, tuple[str | int, ...]]


def feed(barrier: Barrier, event: Event) -> None:
    getattr(barrier, event[0])(*event[1])


def slot_events(slot: int, opportunities: int, planned: int, due: list[str]) -> list[Event]:
    """What a slot brings: its report, its opportunities with their answers, and the results of the plans before it."""
    events: list[Event] = [("report", (slot, opportunities))]
    for index in range(opportunities):
        name = f"{slot}-{index}"
        events.append(("opportunity", (name, slot)))
        events.append(("plan", (f"plan-{name}", name, slot)) if index < planned else ("refusal", (name,)))
    return events + [("result", (plan,)) for plan in due]


@st.composite
def histories(draw: st.DrawFn) -> list[list[Event]]:
    """Return slots of events in any order, some of them twice."""
    history: list[list[Event]] = []
    due: list[str] = []
    for slot in range(1, draw(st.integers(2, 5))):
        count = draw(st.integers(0, 4))
        planned = draw(st.integers(0, count))
        events = slot_events(slot, count, planned, due)
        repeats = draw(st.lists(st.sampled_from(events), max_size=4))
        history.append(draw(st.permutations(events + repeats)))
        due = [f"plan-{slot}-{index}" for index in range(planned)]
    return history


@settings(max_examples=150)
@given(histories())
def test_a_slot_is_settled_exactly_when_everything_was_heard_in_whatever_order(history: list[list[Event]]):
    barrier = Barrier()
    for slot, events in enumerate(history, start=1):
        barrier.begin(slot)
        for position, event in enumerate(events):
            if set(events[:position]) != set(events):
                assert barrier.waiting(), (slot, position)
            feed(barrier, event)
        assert not barrier.waiting()


@settings(max_examples=100)
@given(histories(), st.data())
def test_hearing_more_never_makes_a_slot_wait_for_more_results(history: list[list[Event]], data: st.DataObject):
    barrier = Barrier()
    for slot, events in enumerate(history, start=1):
        barrier.begin(slot)
        lost = data.draw(st.sets(st.integers(0, len(events) - 1), max_size=2))
        for position, event in enumerate(events):
            if position not in lost:
                feed(barrier, event)
        barrier.give_up()
        left = barrier.waiting()
        assert not left.outcomes
        assert not left.results


def test_what_was_given_up_does_not_delay_the_next_slot():
    barrier = Barrier()
    barrier.begin(1)
    barrier.report(1, 2)
    barrier.opportunity("a", 1)
    barrier.opportunity("b", 1)
    barrier.plan("plan-a", "a", 1)
    assert str(barrier.waiting()) == "slot 1 waits for 1 plans or refusals"
    assert barrier.give_up().outcomes == ("b",)
    barrier.begin(2)
    barrier.report(2, 0)
    assert barrier.waiting().results == ("plan-a",)
    barrier.give_up()
    barrier.begin(3)
    barrier.report(3, 0)
    assert barrier.idle
    assert barrier.given_up == 2
    # What comes late after all does no harm.
    barrier.plan("plan-b", "b", 3)
    barrier.result("plan-b")
    barrier.result("plan-a")
    assert barrier.idle


def test_a_plan_lands_as_many_slots_later_as_configured():
    barrier = Barrier(landing_slots=2)
    barrier.begin(1)
    barrier.report(1, 1)
    barrier.opportunity("a", 1)
    barrier.plan("plan-a", "a", 1)
    for slot in (2, 3):
        assert not barrier.waiting()
        assert not barrier.idle
        barrier.begin(slot)
        barrier.report(slot, 0)
    assert barrier.waiting().results == ("plan-a",)
    barrier.result("plan-a")
    assert barrier.idle


def test_the_present_slot_may_not_go_back():
    barrier = Barrier()
    barrier.begin(3)
    for slot, _ in pairwise((3, 2, 1)):
        with pytest.raises(ValueError, match="does not come after"):
            barrier.begin(slot)


def test_memory_stays_bounded_over_many_slots():
    barrier = Barrier()
    due: list[str] = []
    for slot in range(1, 2000):
        barrier.begin(slot)
        for event in slot_events(slot, 3, 2, due):
            feed(barrier, event)
        due = [f"plan-{slot}-{index}" for index in range(2)]
        assert not barrier.waiting()
    assert len(barrier._seen) < 60
    assert len(barrier._reports) < 60
    assert len(barrier._answered) < 200
    assert len(barrier._landed) < 200
