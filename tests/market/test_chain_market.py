"""The market worker on a chain, as a process, with quote core and scanner; a stand-in planner refuses everything."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from trading_stage import Stage, eventually, everything

from localnet.chain_genesis import FIRST_SLOT
from markets.pool_states import PoolStates
from pipeline import run_files
from pipeline.bus import Bus, Delivery
from pipeline.messages import (
    Command,
    CommandKind,
    Opportunity,
    PlanRefusal,
    PoolState,
    Refusal,
    RefusalReason,
    SlotUpdate,
)

pytestmark = pytest.mark.integration

WORKERS = ("quote_core", "scanner", "market")
SLOTS = 40
SETTINGS: dict[str, object] = {
    "executor.mode": "localnet",
    "localnet.rpc_port": 0,
    "market.slots": SLOTS,
    "market.paced": "false",
}


@asynccontextmanager
async def running(directory: Path, **settings: object) -> AsyncIterator[tuple[Stage, Bus]]:
    """Run the three workers; whatever the scanner finds is refused."""
    directory.mkdir(exist_ok=True)
    stage = Stage(directory, **(SETTINGS | settings))
    await stage.open()
    bus = await stage.bus()

    def refuse(message: Opportunity, _delivery: Delivery) -> list[asyncio.Future[object]]:
        reasons = [Refusal(reason=RefusalReason.PROFIT_TOO_LOW)]
        return [
            bus.publish_soon(
                PlanRefusal(
                    id=message.id[::-1],
                    correlation_id=message.id,
                    causation_id=message.id,
                    producer="tests",
                    token=message.token,
                    slot=message.slot,
                    reasons=reasons,
                )
            )
        ]

    await bus.consume("OPPORTUNITIES", "opportunity.>", durable="planner", handler=refuse)
    try:
        for worker in WORKERS:
            stage.start(worker)
        yield stage, bus
    finally:
        await bus.close()
        stage.close()


async def newest(bus: Bus) -> SlotUpdate | None:
    found = [message for _, message in await bus.last("market_data.slot") if isinstance(message, SlotUpdate)]
    return found[0] if found else None


async def reached(stage: Stage, bus: Bus, slot: int, *, closing: bool = False) -> SlotUpdate:
    async def probe() -> bool:
        update = await newest(bus)
        return update is not None and update.slot >= slot and update.closing >= closing

    await eventually(probe, within_s=40, what=f"slot {slot}", logs=stage.logs)
    update = await newest(bus)
    assert update is not None
    return update


async def settled(stage: Stage) -> None:
    async def said() -> bool:
        return "everything is settled" in stage.logs()

    await eventually(said, within_s=40, what="the end of the market", logs=stage.logs)


async def ask(stage: Stage, method: str, *params: object) -> object:
    entry = run_files.read(stage.config(), "localnet")
    assert entry is not None
    assert entry.url.startswith("http://127.0.0.1:")
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    async with aiohttp.ClientSession() as session, session.post(entry.url, json=body) as response:
        answer: dict[str, object] = await response.json()
    assert "error" not in answer, answer
    return answer["result"]


async def opportunities(bus: Bus) -> list[Opportunity]:
    return [message for message in await everything(bus, "OPPORTUNITIES") if isinstance(message, Opportunity)]


async def test_it_closes_after_its_slots_and_forty_empty_ones_goes_on_answering_and_repeats_with_its_seed(
    tmp_path: Path,
):
    async with running(tmp_path / "first") as (stage, bus):
        await settled(stage)
        first = await opportunities(bus)
        update = await newest(bus)
        assert update is not None
        assert update.closing
        last_traded = FIRST_SLOT + SLOTS - 1
        assert last_traded + 40 <= update.slot <= last_traded + 60
        assert await ask(stage, "getSlot", {"commitment": "processed"}) == update.slot
        pools = {message.pool for _, message in await bus.last("market_data.pool.>")}
        for pool in sorted(pools)[:3]:
            assert isinstance(await ask(stage, "getBalance", pool), dict)
        assert len(pools) >= 46
        assert not await everything(bus, "METRICS", "metrics.anomaly.>")
        assert await stage.stop(stage.processes[WORKERS.index("market")]) == 0
        assert run_files.read(stage.config(), "localnet") is None
        assert "not settled in time" not in stage.logs()
    async with running(tmp_path / "again") as (stage, bus):
        await settled(stage)
        again = await opportunities(bus)
    assert len(first) >= 5
    assert [one.replace(created_ns=0) for one in again] == [one.replace(created_ns=0) for one in first]


async def test_started_again_it_begins_another_chain_after_the_slots_of_the_old_one_and_told_to_close_it_closes(
    tmp_path: Path,
):
    async with running(tmp_path, **{"market.slots": 0}) as (stage, bus):
        old = await reached(stage, bus, FIRST_SLOT + 10)
        genesis = await ask(stage, "getGenesisHash")
        process = stage.processes[WORKERS.index("market")]
        process.kill()
        process.wait()
        stage.start("market")
        new = await reached(stage, bus, old.slot + 20)
        assert new.causation_id != old.causation_id
        assert await ask(stage, "getGenesisHash") != genesis
        assert "another chain begins" in stage.logs()
        found = await opportunities(bus)
        assert len({opportunity.id for opportunity in found}) == len(found)
        await bus.publish(
            Command(id="c" * 32, producer="tests", kind=CommandKind.CLOSE, target="market", actor="tests")
        )
        await settled(stage)
        update = await newest(bus)
        assert update is not None
        assert update.closing
        assert await ask(stage, "getHealth") == "ok"


async def test_without_lockstep_it_waits_for_nobody(tmp_path: Path):
    settings = {"market.lockstep": "false", "market.slot_ms": 20, "market.paced": "true", "market.slots": 50}
    async with running(tmp_path, **settings) as (stage, bus):
        for process in stage.processes[:2]:
            process.kill()
        await settled(stage)
        update = await newest(bus)
        assert update is not None
        assert update.slot >= FIRST_SLOT + 49 + 40


async def test_after_a_fork_it_goes_on_until_what_was_taken_can_no_longer_land(tmp_path: Path):
    async with running(tmp_path, **{"localnet.fault_fork": 0.3, "market.slots": 25}) as (stage, bus):
        await settled(stage)
        forked = [json.loads(line)["slot"] for line in stage.logs().splitlines() if '"a fork took blocks back"' in line]
        assert forked
        update = await newest(bus)
        assert update is not None
        assert update.slot > max(forked) + 150
        # What a reader of the bus knows is what the chain says.
        known = PoolStates()
        for subject in ("market_data.pool.>", "market_data.pool_change.>"):
            for _, message in await bus.last(subject):
                assert isinstance(message, PoolState)
                known.apply(message)
        for address in sorted(known.addresses())[::10]:
            pool = known.get(address)
            assert pool is not None
            answer = await ask(stage, "getAccountInfo", address, {"encoding": "base64", "commitment": "processed"})
            assert isinstance(answer, dict)
            assert base64.b64decode(answer["value"]["data"][0]) == pool.accounts()[0][2]


async def test_recorded_pools_are_refused(tmp_path: Path):
    stage = Stage(tmp_path, **{"executor.mode": "localnet", "market.source": "recorded"})
    await stage.open()
    try:
        assert await stage.ended(stage.start("market")) == 5
        assert "recorded pools are on no chain" in stage.logs()
    finally:
        stage.close()
