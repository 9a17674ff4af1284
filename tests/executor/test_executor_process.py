"""The executor as a process: killed at every step, halted, given nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from trading_stage import Stage, eventually, everything, unacknowledged

from pipeline.bus import Bus
from pipeline.claims import Claims
from pipeline.messages import DeadLetter, ExecutionPlan, ExecutionResult, ExecutionStatus, Mode
from workers.executor.claim import Settled, decode_claim

from . import plans
from .pools import crossing, gap, slot_update

pytestmark = pytest.mark.integration

STEPS = ("received", "prepared", "claimed", "gated", "submitted", "landed", "settled", "published")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A server, a permit, and a market that stands at slot 10."""
    stage = Stage(tmp_path)
    await stage.open()
    await stage.permitted()
    yield stage
    stage.close()


@pytest.fixture
async def bus(stage: Stage) -> AsyncIterator[Bus]:
    bus = await stage.bus()
    for state in gap(200):
        await bus.publish(state)
    await bus.publish(slot_update(10, changed=3))
    yield bus
    await bus.close()


def a_plan(number: int, **changes: Any) -> ExecutionPlan:
    return crossing(number, **changes)


async def results(bus: Bus) -> list[ExecutionResult]:
    return [message for message in await everything(bus, "EXECUTED") if isinstance(message, ExecutionResult)]


async def ready(stage: Stage, bus: Bus) -> None:
    """Wait until the executor consumes."""

    async def bound() -> bool:
        try:
            info = await bus.js.consumer_info("PLANNED", "executor")
        except Exception:
            return False
        return bool(info.push_bound)

    await eventually(bound, what="the executor to consume", logs=stage.logs)


async def settled(stage: Stage, bus: Bus, count: int, slot: int) -> list[ExecutionResult]:
    """Let slots pass until so many results are there."""
    for later in range(slot, slot + 400):
        await bus.publish(slot_update(min(later, slot + 1)))
        found = await results(bus)
        if len(found) >= count:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{len(found)} results of {count}\n{stage.logs()}")


# The other steps are held by tests/landing on a chain every time, and all of them under load below.
OFTEN = ("received", "prepared", "landed", "published")


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step in OFTEN else [pytest.mark.thorough]) for step in STEPS]
)
async def test_killed_at_any_step_and_started_again(stage: Stage, bus: Bus, step: str) -> None:
    doomed = stage.start("executor", {"PIPELINE_CRASH_AT": step})
    await ready(stage, bus)
    plan = a_plan(1)
    await bus.publish(plan)
    if step in ("landed", "settled", "published"):
        claims = await Claims.open(bus)
        await eventually(lambda: claims.get(plan.id), what="a claim", logs=stage.logs)
        await asyncio.sleep(0.1)
        await bus.publish(slot_update(11))
    assert await stage.ended(doomed) == -9
    before = await results(bus)
    assert len(before) == (1 if step == "published" else 0)
    second = stage.start("executor")
    [result] = await settled(stage, bus, 1, 11)
    await eventually(lambda: _none_left(bus), what="acknowledgement", logs=stage.logs)
    assert await results(bus) == [result]
    kept = {"received", "prepared", "settled", "published"}
    assert result.status == (ExecutionStatus.FILLED if step in kept else ExecutionStatus.ABANDONED)
    held = await (await Claims.open(bus)).get(plan.id)
    assert held is not None
    claim = decode_claim(held.value)
    assert isinstance(claim, Settled)
    assert claim.result == result.encode()
    assert await stage.stop(second) == 0


async def _none_left(bus: Bus) -> bool:
    return await unacknowledged(bus, "PLANNED", "executor") == 0


@pytest.mark.slow
async def test_killed_again_and_again_under_load(stage: Stage, bus: Bus) -> None:
    """Plans come all the while; executors die at every step in turn; in the end each plan has one result."""
    wanted = [a_plan(number, slot=10) for number in range(60)]
    feeding = asyncio.create_task(_feed(bus, wanted))
    for step in (*STEPS, "recovered"):
        doomed = stage.start("executor", {"PIPELINE_CRASH_AT": f"{step}:3"})
        await eventually(lambda doomed=doomed: doomed.poll() is not None or feeding.done(), within_s=20, what=step)
        if doomed.poll() is None:
            doomed.kill()
    await feeding
    stage.start("executor")
    found = await settled(stage, bus, len(wanted), 11)
    await eventually(lambda: _none_left(bus), what="acknowledgement", logs=stage.logs)
    assert len(await results(bus)) == len(wanted)
    assert {result.plan_id for result in found} == {plan.id for plan in wanted}
    assert not await everything(bus, "METRICS", "metrics.dead_letter")


async def _feed(bus: Bus, wanted: list[ExecutionPlan]) -> None:
    for plan in wanted:
        await bus.publish(plan)
        await bus.publish(slot_update(11))
        await asyncio.sleep(0.1)


async def test_halted_late_and_nonsense(stage: Stage, bus: Bus) -> None:
    process = stage.start("executor")
    await ready(stage, bus)
    await bus.publish(a_plan(1, expires_ns=plans.START_NS))
    await bus.publish(a_plan(2, mode=Mode.LIVE))
    await bus.publish(a_plan(3).replace(min_amount_out=0))
    await bus.client.jetstream().publish("planned.plan", b"nonsense", headers={"Nats-Msg-Id": "n1"})
    await bus.client.jetstream().publish("planned.plan", slot_update(10).encode(), headers={"Nats-Msg-Id": "n2"})
    await bus.publish(a_plan(4, amount_in=10**12, min_amount_out=2 * 10**12))
    found = {result.plan_id: result for result in await settled(stage, bus, 2, 11)}
    assert found[a_plan(1).id].status == ExecutionStatus.EXPIRED
    assert found[a_plan(4).id].status == ExecutionStatus.REVERTED
    assert found[a_plan(4).id].detail.startswith("leg 1: gives")

    async def letters() -> list[DeadLetter]:
        found = [m for m in await everything(bus, "METRICS", "metrics.dead_letter") if isinstance(m, DeadLetter)]
        return found if len(found) >= 4 else []

    given_up = await eventually(letters, what="dead letters", logs=stage.logs)
    assert sorted(letter.reason for letter in given_up) == [
        "handler_error",
        "handler_error",
        "invalid_message",
        "wrong_type",
    ]
    assert (await stage.cli("halt", "a test")).returncode == 0
    await bus.publish(a_plan(5, slot=11))
    found = {result.plan_id: result for result in await settled(stage, bus, 3, 12)}
    refused = found[a_plan(5).id]
    assert (refused.status, refused.net_profit) == (ExecutionStatus.REFUSED_BY_GATE, 0)
    assert "halt" in refused.detail
    assert await stage.stop(process) == 0


async def test_the_server_is_killed_while_a_plan_waits_to_land(stage: Stage, bus: Bus) -> None:
    process = stage.start("executor")
    await ready(stage, bus)
    claims = await Claims.open(bus)
    await bus.publish(a_plan(1))
    await eventually(lambda: claims.get(a_plan(1).id), what="a claim", logs=stage.logs)
    await stage.restart_server()
    [result] = await settled(stage, bus, 1, 11)
    assert result.status == ExecutionStatus.FILLED
    await eventually(lambda: _none_left(bus), what="acknowledgement", logs=stage.logs)
    assert process.poll() is None
    assert await stage.stop(process) == 0


async def test_no_more_plans_are_claimed_than_may_be_in_flight(stage: Stage, bus: Bus) -> None:
    stage.start("executor", **{"executor.max_in_flight": 4})
    await ready(stage, bus)
    for number in range(20):
        await bus.publish(a_plan(number))
    await eventually(lambda: _claimed(bus, 4), what="four claims", logs=stage.logs)
    await asyncio.sleep(0.5)
    assert await _claimed(bus, 4)
    assert not await _claimed(bus, 5)
    info = await bus.js.consumer_info("PLANNED", "executor")
    assert info.config.max_ack_pending is not None
    assert info.num_ack_pending is not None
    assert info.num_ack_pending <= info.config.max_ack_pending
    assert len(await settled(stage, bus, 20, 11)) == 20


async def _claimed(bus: Bus, count: int) -> bool:
    return (await bus.js.stream_info("KV_claims")).state.messages >= count


async def test_stopping_lets_what_is_begun_land_and_begins_nothing(stage: Stage, bus: Bus) -> None:
    process = stage.start("executor")
    await ready(stage, bus)
    claims = await Claims.open(bus)
    await bus.publish(a_plan(1))
    await eventually(lambda: claims.get(a_plan(1).id), what="a claim", logs=stage.logs)
    process.terminate()
    await asyncio.sleep(0.2)
    assert process.poll() is None
    await bus.publish(a_plan(2))
    await asyncio.sleep(0.2)
    await bus.publish(slot_update(11))
    assert await stage.ended(process) == 0
    [result] = await results(bus)
    assert (result.plan_id, result.status) == (a_plan(1).id, ExecutionStatus.FILLED)
    assert await claims.get(a_plan(2).id) is None
