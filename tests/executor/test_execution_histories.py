"""Deaths at every step and lost answers, one by one and in any order: one result for each plan in the end."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workers.executor.execution as module
from markets.tokens import SOL_MINT
from pipeline.bus import Retry
from pipeline.claims import ClaimsUnavailable
from pipeline.messages import ExecutionStatus

from .execution_world import STEPS, Died, World
from .plans import a_plan

pytestmark = pytest.mark.usefixtures("no_pauses")


@pytest.mark.parametrize("real_venue", [False, True])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("lives", [1, 2])
async def test_death_at_any_step(step: str, real_venue: bool, lives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world, plan = World(real_venue=real_venue), a_plan()
    left = lives

    def crashpoint(name: str) -> None:
        nonlocal left
        if name == step and left:
            left -= 1
            raise Died

    monkeypatch.setattr(module, "crashpoint", crashpoint)
    for _ in range(lives):
        with_death = world.deliver(plan)
        try:
            await with_death
        except Died:
            world.start()
    await world.deliver(plan)
    await world.deliver(plan)
    [result] = world.stream.results.values()
    begun = {"received", "prepared", "submitted", "landed", "settled", "published"}
    if world.chain is not None:
        assert sum(world.chain.begun.values()) == (0 if result.status == ExecutionStatus.ABANDONED else 1)
        assert (result.status == ExecutionStatus.FILLED) == (step in begun)
    else:
        # A paper effect exists from the moment it is recorded, and not before.
        kept = {"received", "prepared", "settled", "published"}
        assert result.status == (ExecutionStatus.FILLED if step in kept else ExecutionStatus.ABANDONED)
    if result.status == ExecutionStatus.ABANDONED:
        assert (result.net_profit, result.cost, len(result.fills)) == (0, 0, 0)


@pytest.mark.parametrize("lost", ["before create", "after create", "before update", "after update", "get"])
@pytest.mark.parametrize("real_venue", [False, True])
@pytest.mark.parametrize("times", [1, 12])
async def test_lost_answers_of_the_bucket(lost: str, real_venue: bool, times: int) -> None:
    """However long it is away: a plan that was begun is never given up, one that holds a wallet neither."""
    world, plan = World(real_venue=real_venue), a_plan()
    world.bucket.lose = [lost] * times if lost != "get" else ["after create", *["get"] * times]
    await world.deliver(plan)
    [result] = world.stream.results.values()
    assert result.status == ExecutionStatus.FILLED
    assert world.venue.submitted == [plan.id]
    assert world.venue.open_tickets == 0


faults = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([*STEPS, "recovered", "", "", ""]),
        st.sampled_from(["", "", "before create", "after create", "before update", "after update", "get", "publish"]),
        st.sampled_from([ClaimsUnavailable, Died]),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(faults=faults, real_venue=st.booleans())
def test_any_history_ends_in_one_result_for_each_plan(
    faults: list[tuple[int, str, str, type[BaseException]]], real_venue: bool
) -> None:
    """Deliveries with deaths and lost answers in any order, then quiet deliveries until all is done."""

    async def history() -> None:
        world = World(real_venue=real_venue)
        target = ""

        def crashpoint(name: str) -> None:
            if name == target:
                raise Died

        module.crashpoint, original = crashpoint, module.crashpoint
        try:
            for number, step, lost, error in faults:
                target, world.bucket.error = step, error
                if lost == "publish":
                    world.stream.failing = 1
                elif lost:
                    world.bucket.lose = [lost]
                try:
                    await world.deliver(a_plan(number))
                except Died:
                    world.start()
                except Retry:
                    pass
            target, world.bucket.lose, world.stream.failing = "", [], 0
            for number in range(4):
                await world.deliver(a_plan(number))
        finally:
            module.crashpoint = original
        assert {result.plan_id for result in world.stream.results.values()} == {a_plan(n).id for n in range(4)}
        assert len(world.stream.results) == 4
        assert world.venue.open_tickets == 0
        for result in world.stream.results.values():
            if world.chain is not None:
                begun = world.chain.begun.get(f"tx-{result.plan_id}", 0)
                assert begun == (1 if result.status == ExecutionStatus.FILLED else 0)
            assert result.token == SOL_MINT

    asyncio.run(history())
