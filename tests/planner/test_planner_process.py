"""The planner as a process: real shared memory, real streams, killed and started again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from executor.pools import CHEAP, DEAR, DEEP, gap, pool_state
from quote_tables import write_pool
from trading_stage import Stage, eventually, everything, unacknowledged

from markets.pool_states import PoolStates
from markets.tokens import SOL_MINT, load_registry
from pipeline.bus import Bus
from pipeline.ids import deterministic_id
from pipeline.messages import (
    DeadLetter,
    ExecutionPlan,
    ExecutionResult,
    ExecutionStatus,
    Leg,
    Opportunity,
    PlanRefusal,
    PoolState,
    Protocol,
    RefusalReason,
)
from workers.planner.outcome import outcome_id
from workers.quote_core.tables import Tables

from . import opportunities
from .opportunities import JITO, SLOT_NS, START_NS

pytestmark = pytest.mark.integration


class Memory:
    """The quote core's files, written by the test."""

    def __init__(self, directory: Path) -> None:
        self.tables = Tables(directory, load_registry(), [10**9], capacity=64, ring=64)
        self.states = PoolStates()
        self.beating: asyncio.Task[None] | None = None

    def write(self, states: list[PoolState], slot: int) -> None:
        for state in states:
            self.states.apply(state)
            pool = self.states.get(state.pool)
            assert pool is not None
            write_pool(self.tables, pool, state.observed_ns)
        self.tables.commit(slot, START_NS + slot * SLOT_NS)

    async def beat(self) -> None:
        while True:
            self.tables.heartbeat()
            await asyncio.sleep(0.3)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    await stage.open()
    await stage.permitted()
    yield stage
    stage.close()


@pytest.fixture
async def memory(stage: Stage) -> AsyncIterator[Memory]:
    memory = Memory(stage.directory / "shm")
    memory.write(gap(200), 10)
    beating = asyncio.create_task(memory.beat())
    yield memory
    beating.cancel()
    memory.tables.close()


@pytest.fixture
async def bus(stage: Stage) -> AsyncIterator[Bus]:
    bus = await stage.bus()
    yield bus
    await bus.close()


def an_opportunity(number: int, **changes: Any) -> Opportunity:
    amount_in = changes.get("amount_in", 10**9)
    legs = [
        Leg(pool=CHEAP, protocol=Protocol.RAYDIUM_CPMM, token_in=SOL_MINT, token_out=JITO, amount_in=amount_in),
        Leg(pool=DEAR, protocol=Protocol.RAYDIUM_CPMM, token_in=JITO, token_out=SOL_MINT),
    ]
    return opportunities.an_opportunity(number, **({"legs": legs} | changes))


async def answers(stage: Stage, bus: Bus, count: int) -> dict[str, ExecutionPlan | PlanRefusal]:
    """Wait for so many answers; return them by opportunity."""

    async def look() -> list[Any] | None:
        found = await everything(bus, "PLANNED")
        return found if len(found) >= count else None

    found = await eventually(look, what=f"{count} answers", logs=stage.logs)
    assert len(found) == count
    by_opportunity = {message.correlation_id: message for message in found}
    assert len(by_opportunity) == count
    return by_opportunity


def reasons(message: object) -> list[RefusalReason]:
    assert isinstance(message, PlanRefusal), message
    return [RefusalReason(refusal.reason) for refusal in message.reasons]


async def test_plans_and_refusals(stage: Stage, bus: Bus, memory: Memory) -> None:
    live = stage.start("planner", **{"planner.sol.max_open": 3 * 10**9})
    await bus.publish(an_opportunity(1))
    found = await answers(stage, bus, 1)
    plan = found[an_opportunity(1).id]
    assert isinstance(plan, ExecutionPlan), plan
    pool = memory.states.get(CHEAP)
    assert pool is not None
    assert plan.legs[0].amount_out == pool.quote_in(True, 10**9).amount_out
    assert (plan.slot, plan.legs[0].slot, plan.legs[0].quoted_ns) == (10, 10, START_NS + 10 * SLOT_NS)
    # Base and priority fee, and the largest tip there is.
    assert (plan.cost, plan.tip) == (1_006_000, 1_000_000)
    assert plan.min_amount_out == 10**9 + plan.cost
    assert plan.permit_epoch >= 1
    # The gap closes before the next one is read: the fresh quote counts.
    memory.write([pool_state(CHEAP, (DEEP, DEEP), slot=11, version=2)], 11)
    await bus.publish(an_opportunity(2))
    # A result ends the exposure for the slots after it.
    result = ExecutionResult(id="r1", plan_id=plan.id, status=ExecutionStatus.FILLED, token=SOL_MINT, slot=11)
    await bus.publish(result)
    memory.write([pool_state(CHEAP, (DEEP, DEEP * 102 // 100), slot=12, version=3)], 12)
    later = {"slot": 12, "found_ns": START_NS + 12 * SLOT_NS, "expires_ns": START_NS + 20 * SLOT_NS}
    await bus.publish(an_opportunity(3, amount_in=3 * 10**9, **later))
    await bus.publish(an_opportunity(4, **later))
    await bus.publish(an_opportunity(5, slot=1, found_ns=START_NS, expires_ns=START_NS + SLOT_NS))
    found = await answers(stage, bus, 5)
    assert RefusalReason.PROFIT_TOO_LOW in reasons(found[an_opportunity(2).id])
    assert isinstance(found[an_opportunity(3).id], ExecutionPlan)
    assert reasons(found[an_opportunity(4).id]) == [RefusalReason.EXPOSURE_LIMIT]
    assert reasons(found[an_opportunity(5).id]) == [RefusalReason.EXPIRED]
    # A restarted planner knows what is open and what it has answered.
    assert await stage.stop(live) == 0
    live = stage.start("planner", **{"planner.sol.max_open": 3 * 10**9})
    await bus.publish(an_opportunity(6, **later))
    found = await answers(stage, bus, 6)
    assert reasons(found[an_opportunity(6).id]) == [RefusalReason.EXPOSURE_LIMIT]
    assert (await stage.cli("halt", "a test")).returncode == 0
    await bus.publish(an_opportunity(7, **later))
    found = await answers(stage, bus, 7)
    assert reasons(found[an_opportunity(7).id]) == [RefusalReason.NOT_PERMITTED]
    assert await stage.stop(live) == 0


@pytest.mark.parametrize("step", ["decided", "planned"])
async def test_killed_and_started_again_it_answers_once(stage: Stage, bus: Bus, memory: Memory, step: str) -> None:
    doomed = stage.start("planner", {"PIPELINE_CRASH_AT": f"{step}:3"})
    wanted = [an_opportunity(number) for number in range(8)]
    for opportunity in wanted:
        await bus.publish(opportunity)
    assert await stage.ended(doomed) == -9
    # What it sees now is another market: what was decided stays decided.
    memory.write([pool_state(CHEAP, (DEEP, DEEP), slot=11, version=2)], 11)
    live = stage.start("planner")
    found = await answers(stage, bus, 8)
    assert set(found) == {opportunity.id for opportunity in wanted}
    assert all(message.id == outcome_id(message.correlation_id) for message in found.values())

    async def quiet() -> bool:
        return await unacknowledged(bus, "OPPORTUNITIES", "planner") == 0

    await eventually(quiet, what="acknowledgements", logs=stage.logs)
    assert len(await everything(bus, "PLANNED")) == 8
    assert await stage.stop(live) == 0


async def test_without_quotes_everything_is_refused(stage: Stage, bus: Bus) -> None:
    live = stage.start("planner")
    await bus.publish(an_opportunity(1))
    found = await answers(stage, bus, 1)
    assert reasons(found[an_opportunity(1).id]) == [RefusalReason.QUOTE_MISSING]
    memory = Memory(stage.directory / "shm")
    memory.write(gap(200), 10)
    await bus.publish(an_opportunity(2))
    found = await answers(stage, bus, 2)
    assert isinstance(found[an_opportunity(2).id], ExecutionPlan)
    # The quote core falls silent: after its heartbeat has run out there is no fresh quote any more.
    await asyncio.sleep(2.5)
    await bus.publish(an_opportunity(3))
    found = await answers(stage, bus, 3)
    assert reasons(found[an_opportunity(3).id]) == [RefusalReason.QUOTE_MISSING]
    memory.tables.close()
    assert await stage.stop(live) == 0


async def test_nonsense_becomes_dead_letters(stage: Stage, bus: Bus, memory: Memory) -> None:
    live = stage.start("planner")
    good = an_opportunity(1)
    js = bus.client.jetstream()
    await js.publish("opportunity.found", b"nonsense", headers={"Nats-Msg-Id": "n1"})
    await js.publish("opportunity.found", good.encode()[:-9], headers={"Nats-Msg-Id": "n2"})
    await js.publish("opportunity.found", pool_state(CHEAP, (1, 1)).encode(), headers={"Nats-Msg-Id": "n3"})
    await bus.publish(an_opportunity(2, legs=[]))
    await bus.publish(an_opportunity(3, legs=list(reversed(good.legs))))
    await bus.publish(an_opportunity(4, amount_in=0))
    await bus.publish(an_opportunity(5, amount_in=2**64 - 1, cost=2**64 - 1, expires_ns=2**63 - 1))
    await bus.publish(good)
    found = await answers(stage, bus, 2)
    assert isinstance(found[good.id], ExecutionPlan)
    assert RefusalReason.AMOUNT_OUT_OF_RANGE in reasons(found[an_opportunity(5).id])

    async def letters() -> list[str] | None:
        found = [m for m in await everything(bus, "METRICS", "metrics.dead_letter") if isinstance(m, DeadLetter)]
        return sorted(letter.reason for letter in found) if len(found) >= 6 else None

    assert await eventually(letters, what="dead letters", logs=stage.logs) == [
        *["handler_error"] * 3,
        *["invalid_message"] * 2,
        "wrong_type",
    ]
    assert await stage.stop(live) == 0
    assert deterministic_id("outcome", good.id) == found[good.id].id
