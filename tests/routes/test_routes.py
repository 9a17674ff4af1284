"""Routes: ids that follow from the steps, and a book that never lets one id mean two routes."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.routes import MAX_STEPS, Route, RouteBook, RouteRefused, Step, route_of
from pipeline.messages import RouteStep

names = st.text(min_size=1, max_size=8)
steps = st.builds(Step, st.text(max_size=8), st.text(max_size=8), names, names).filter(
    lambda step: step.token_in != step.token_out
)
routes = st.builds(Route, st.lists(steps, min_size=1, max_size=4).map(tuple))


def direct(pool: str = "P", venue: str = "v") -> Route:
    return Route((Step(pool, venue, "A", "B"),))


@given(routes, routes)
def test_the_same_steps_are_the_same_route_and_others_are_not(one: Route, other: Route) -> None:
    again = Route(tuple(Step(step.pool, step.venue, step.token_in, step.token_out) for step in one.steps))
    assert again.route_id == one.route_id
    assert (one.canonical == other.canonical) == (one == other)
    assert 0 < one.route_id < 2**64
    assert route_of(one.to_steps()) == one


def test_an_id_does_not_depend_on_the_process() -> None:
    code = "from markets.routes import *; print(Route((Step('P', 'v', 'A', 'B'),)).route_id)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(made.stdout) == direct().route_id


def test_texts_do_not_run_together() -> None:
    assert direct("ab", "c").route_id != direct("a", "bc").route_id


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        (Step("P", "v", "A", "A"),),
        (Step("P", "v", "", "B"),),
        (Step("P" * 300, "v", "A", "B"),),
        (Step("P", "v", "A", "B"),) * (MAX_STEPS + 1),
    ],
)
def test_what_is_no_route_is_refused(wrong: tuple[Step, ...]) -> None:
    with pytest.raises(RouteRefused):
        Route(wrong)
    with pytest.raises(RouteRefused):
        route_of(RouteStep(pool=s.pool, venue=s.venue, token_in=s.token_in, token_out=s.token_out) for s in wrong)


def test_identical_routes_are_held_once() -> None:
    book = RouteBook()
    route_id, new = book.add(direct())
    assert new
    assert book.add(direct()) == (route_id, False)
    assert len(book) == 1
    assert book.get(route_id) == direct()
    assert book.get(route_id + 1) is None
    assert (book.hits, book.misses) == (1, 1)


def test_an_id_taken_by_another_route_is_refused_and_counted() -> None:
    book = RouteBook()
    first, second = direct("P"), direct("Q")
    book.add(first)
    second.__dict__["route_id"] = first.route_id  # two routes with one id would have to be searched for 2**32 times
    with pytest.raises(RouteRefused, match="another route"):
        book.add(second)
    assert book.collisions == 1
    assert book.get(first.route_id) == first


def test_the_book_is_bounded_and_keeps_what_is_used() -> None:
    book = RouteBook(capacity=2)
    ids = [book.add(direct(str(number)))[0] for number in range(2)]
    assert book.get(ids[0]) is not None
    book.add(direct("2"))
    assert len(book) == 2
    assert book.evicted == 1
    assert book.get(ids[0]) is not None
    assert book.get(ids[1]) is None
    with pytest.raises(ValueError, match="at least one"):
        RouteBook(0)
