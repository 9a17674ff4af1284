"""A simulation that goes on beside the claim: it is waited for before the gate, and its word counts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

import workers.executor.execution as module
from markets.venue import Prepared, RefusedBySimulation, Simulated, Trace
from pipeline.messages import ExecutionStatus, PermitState
from pipeline.permit import Refused, RefusedBy

from .plans import a_plan
from .test_execution import Died, World

Told = Simulated | RefusedBySimulation


def trying(world: World) -> asyncio.Future[Told]:
    """Have the venue prepare plans whose simulation is under way; return its end, to be set."""
    trial: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
    prepare = world.venue.prepare

    async def prepared(plan: Any) -> Any:
        ready = await prepare(plan)
        assert isinstance(ready, Prepared)
        return replace(ready, trial=trial)

    world.venue.prepare = prepared
    return trial


async def until_claimed(world: World, plan: Any) -> None:
    for _ in range(50):
        if plan.id in world.bucket.entries:
            return
        await asyncio.sleep(0)
    raise AssertionError("it was not claimed")


async def test_the_claim_does_not_wait_for_it_and_the_submission_does() -> None:
    world, plan = World(real_venue=True), a_plan()
    trial = trying(world)
    done = asyncio.ensure_future(world.deliver(plan))
    await until_claimed(world, plan)
    await asyncio.sleep(0.01)
    assert world.venue.submitted == []
    trial.set_result(Simulated(amount_out=1_005_000_000, units=90_000, at_ns=900))
    await done
    [result] = world.stream.results.values()
    assert result.status == ExecutionStatus.FILLED
    assert world.venue.submitted == [plan.id]


@pytest.mark.parametrize("step", ["", "claimed", "landed", "settled", "published"])
async def test_its_refusal_is_the_result_and_nothing_is_sent(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world, plan = World(real_venue=True), a_plan()
    trying(world).set_result(RefusedBySimulation(10, "slippage: leg 1", Trace(built_ns=7, simulated_ns=8)))

    def crashpoint(name: str) -> None:
        if name == step:
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(module, "crashpoint", crashpoint)
        if step:
            with pytest.raises(Died):
                await world.deliver(plan)
            world.start()
    await world.deliver(plan, again=bool(step))
    await world.deliver(plan, again=True)
    [result] = world.stream.results.values()
    # Who died before it was settled left nothing behind: the venue never saw it.
    expected = ExecutionStatus.ABANDONED if step in ("claimed", "landed") else ExecutionStatus.REFUSED_BY_SIMULATION
    assert result.status == expected, result
    assert world.venue.submitted == []
    assert world.told == []
    assert world.chain is not None
    assert world.chain.begun == {}
    if not step:
        assert (result.detail, result.built_ns, result.simulated_ns, result.signature) == ("slippage: leg 1", 7, 8, "")
        assert world.venue.withdrawn == [f"tx-{plan.id}"]


async def test_a_halt_that_comes_while_it_is_under_way_stops_the_plan() -> None:
    world, plan = World(real_venue=True), a_plan()
    trial = trying(world)
    done = asyncio.ensure_future(world.deliver(plan))
    await until_claimed(world, plan)
    world.verdict = Refused(RefusedBy.HALTED, "by a test", PermitState.HALTED, 9)
    trial.set_result(Simulated(1, 1, 1))
    await done
    [result] = world.stream.results.values()
    assert result.status == ExecutionStatus.REFUSED_BY_GATE
    assert world.venue.submitted == []
