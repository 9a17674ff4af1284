"""Processes: the market served as a chain, and a quote core that follows it over RPC, through faults and kills."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from trading_stage import Stage, eventually, everything

from pipeline.bus import Bus, Delivery
from pipeline.messages import (
    ExecutionResult,
    ExecutionStatus,
    Opportunity,
    PlanRefusal,
    Refusal,
    RefusalReason,
    SlotUpdate,
    WorkerHealth,
)
from pipeline.shm import QUOTES_INTERNAL, QuoteTable, SharedMemoryError

pytestmark = [pytest.mark.integration, pytest.mark.slow]

QUICK: dict[str, object] = {
    "quote_core.source": "rpc",
    "rpc.rate_per_s": 1000,
    "rpc.burst": 200,
    "rpc.timeout_s": 0.5,
    "rpc.look_s": 0.2,
    "rpc.breaker_open_s": 0.1,
    "rpc.breaker_open_max_s": 0.5,
    "external.enabled": "false",
}
Quotes = dict[tuple[str, str, int], tuple[int, int]]


def quotes_of(stage: Stage) -> Quotes:
    """Return (pool, token in, amount index) -> (amount out, slot) of the table; nothing where there is none."""
    try:
        table = QuoteTable(stage.config().shm_directory / QUOTES_INTERNAL)
    except SharedMemoryError:
        return {}
    entries = [entry for entry in table.snapshot() if not entry.void]
    return {
        (str(table.name("pool", one.pool)), str(table.name("token", one.token_in)), one.amount_index): (
            one.amount_out,
            one.slot,
        )
        for one in entries
    }


async def slot_of(bus: Bus) -> SlotUpdate | None:
    found = [message for _, message in await bus.last("market_data.slot") if isinstance(message, SlotUpdate)]
    return found[0] if found else None


async def addresses_of(stage: Stage, nodes: int) -> list[str]:
    """Return where the market serves its nodes, as its log says."""
    found: list[str] = []

    def told() -> list[str]:
        found[:] = sorted(set(re.findall(r"http://127\.0\.0\.1:\d+(?=[\"'])", _market_log(stage))))
        return found if len(found) == nodes else []

    await eventually(told, within_s=40, what="the nodes", logs=stage.logs)
    return found


def _market_log(stage: Stage) -> str:
    lines = [line for path in stage.directory.glob("market-*.log") for line in path.read_text().splitlines()]
    return "\n".join(line for line in lines if "simulated nodes" in line)


@asynccontextmanager
async def lockstep(directory: Path, **settings: object) -> AsyncIterator[tuple[Stage, Bus]]:
    """Run the offline market as ever, served as a chain beside that; whatever the scanner finds is refused."""
    directory.mkdir()
    stage = Stage(directory, **({"market.paced": "true", "external.enabled": "false"} | settings))
    await stage.open()
    bus = await stage.bus()

    def refuse(opportunity: Opportunity, _delivery: Delivery) -> list[asyncio.Future[object]]:
        refusal = PlanRefusal(
            id=opportunity.id[::-1],
            correlation_id=opportunity.id,
            causation_id=opportunity.id,
            producer="tests",
            token=opportunity.token,
            slot=opportunity.slot,
            reasons=[Refusal(reason=RefusalReason.PROFIT_TOO_LOW)],
        )
        return [bus.publish_soon(refusal)]

    await bus.consume("OPPORTUNITIES", "opportunity.>", durable="planner", handler=refuse)
    try:
        for worker in ("quote_core", "scanner", "market"):
            stage.start(worker)
        yield stage, bus
    finally:
        await bus.close()
        stage.close()


async def test_over_rpc_the_quotes_are_those_of_the_stream_through_faults_cuts_and_kills(tmp_path: Path):
    settings = {"market.slots": 60, "market.slot_ms": 100, "localnet.rpc_nodes": 2, "localnet.rpc_port": 0}
    async with lockstep(tmp_path / "market", **settings) as (market, market_bus):
        urls = await addresses_of(market, 2)
        (tmp_path / "live").mkdir()
        live = Stage(tmp_path / "live", **(QUICK | {"rpc.endpoints": " ".join(urls)}))
        await live.open()
        live_bus = await live.bus()
        try:
            process = live.start("quote_core")
            await eventually(lambda: len(quotes_of(live)) > 200, within_s=40, what="quotes over RPC", logs=live.logs)
            async with aiohttp.ClientSession() as session:
                faults = {"failed": 0.2, "truncated": 0.1, "limited": 0.1, "retry_after_s": 0, "cut": True}
                for url in urls:
                    async with session.put(f"{url}/faults", json=faults) as response:
                        assert response.status == 204
            process.kill()
            process.wait()
            live.start("quote_core")

            async def closed() -> bool:
                update = await slot_of(market_bus)
                return update is not None and update.closing

            await eventually(closed, within_s=60, what="the market to close", logs=market.logs)

            def same() -> bool:
                stream, over_rpc = quotes_of(market), quotes_of(live)
                return bool(stream) and {key: out for key, (out, _) in stream.items()} == {
                    key: out for key, (out, _) in over_rpc.items()
                }

            await eventually(same, within_s=40, what="the same quotes", logs=live.logs)
            # Never before the slot that brought the state, and every pool is there.
            stream, over_rpc = quotes_of(market), quotes_of(live)
            assert all(over_rpc[key][1] >= slot for key, (_, slot) in stream.items())
            assert len({pool for pool, _, _ in stream}) >= 60

            async def counted() -> bool:
                health = [message for _, message in await live_bus.last("metrics.health.quote_core")]
                assert isinstance(health[0], WorkerHealth)
                return health[0].rpc_calls > health[0].rpc_failures > 0

            # The process that was started last tells of its calls when it tells of itself next.
            await eventually(counted, within_s=20, what="calls and failures in the health", logs=live.logs)
        finally:
            await live_bus.close()
            live.close()


async def test_a_chain_that_only_its_nodes_tell_of_is_traded_on_paper(tmp_path: Path):
    settings: dict[str, object] = {
        "market.slots": 0,
        "market.paced": "true",
        "localnet.rpc_nodes": 1,
        "localnet.rpc_port": 0,
        "localnet.publish": "false",
    }
    stage = Stage(tmp_path, **(QUICK | settings))
    await stage.open()
    bus = await stage.bus()
    try:
        stage.start("market")
        urls = await addresses_of(stage, 1)
        await stage.permitted()
        for worker in ("quote_core", "scanner", "planner", "executor", "auditor"):
            stage.start(worker, **{"rpc.endpoints": " ".join(urls)})

        async def filled() -> list[ExecutionResult]:
            results = [one for one in await everything(bus, "EXECUTED") if isinstance(one, ExecutionResult)]
            return [one for one in results if one.status == ExecutionStatus.FILLED]

        await eventually(filled, within_s=60, what="a fill", logs=stage.logs)
        update = await slot_of(bus)
        assert update is not None
        assert update.producer == "quote_core"
    finally:
        await bus.close()
        stage.close()
