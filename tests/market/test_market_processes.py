"""Market, quote core and scanner as processes: the same seed twice, killed one by one, and on recorded pools.

The planner is a stand-in that refuses everything: what the scanner finds then depends on the market alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from trading_stage import Stage, eventually, everything

from pipeline.bus import Bus, Delivery
from pipeline.messages import Anomaly, Opportunity, PlanRefusal, Refusal, RefusalReason, ScanReport, SlotUpdate
from pipeline.streams import reconcile

pytestmark = pytest.mark.integration

WORKERS = ("quote_core", "scanner", "market")
SLOTS = 60
POOLS = 60
"""Of the offline market: four of SOL/USDC, three and a stake pool for each staked token."""


def refusal(opportunity: Opportunity) -> PlanRefusal:
    return PlanRefusal(
        id=opportunity.id[::-1],
        correlation_id=opportunity.id,
        causation_id=opportunity.id,
        producer="tests",
        token=opportunity.token,
        slot=opportunity.slot,
        reasons=[Refusal(reason=RefusalReason.PROFIT_TOO_LOW)],
    )


@asynccontextmanager
async def running(directory: Path, **settings: object) -> AsyncIterator[tuple[Stage, Bus]]:
    """Run the three workers; whatever the scanner finds is refused."""
    defaults: dict[str, object] = {"market.slots": SLOTS, "market.paced": "false"}
    stage = Stage(directory, **(defaults | settings))
    await stage.open()
    bus = await stage.bus()

    def refuse(message: Opportunity, _delivery: Delivery) -> list[asyncio.Future[object]]:
        return [bus.publish_soon(refusal(message))]

    await bus.consume("OPPORTUNITIES", "opportunity.>", durable="planner", handler=refuse)
    try:
        for worker in WORKERS:
            stage.start(worker)
        yield stage, bus
    finally:
        await bus.close()
        stage.close()


async def slot_of(bus: Bus) -> SlotUpdate | None:
    found = [message for _, message in await bus.last("market_data.slot") if isinstance(message, SlotUpdate)]
    return found[0] if found else None


async def until(stage: Stage, bus: Bus, reached: Callable[[SlotUpdate], bool], within_s: float = 40.0) -> None:
    async def probe() -> bool:
        update = await slot_of(bus)
        return update is not None and reached(update)

    await eventually(probe, within_s=within_s, what="the market to get there", logs=stage.logs)


async def closed(stage: Stage, bus: Bus) -> None:
    """Wait until the market has closed and its last slot is scanned."""
    await until(stage, bus, lambda update: update.closing)
    update = await slot_of(bus)
    assert update is not None

    async def scanned() -> bool:
        return any(report.slot >= update.slot for report in await reports(bus))

    await eventually(scanned, what="the last slot to be scanned", logs=stage.logs)


async def reports(bus: Bus) -> list[ScanReport]:
    return [message for message in await everything(bus, "METRICS", "metrics.scan") if isinstance(message, ScanReport)]


async def opportunities(bus: Bus) -> list[Opportunity]:
    return [message for message in await everything(bus, "OPPORTUNITIES") if isinstance(message, Opportunity)]


async def whole_run(directory: Path, **settings: object) -> list[Opportunity]:
    directory.mkdir()
    async with running(directory, **settings) as (stage, bus):
        await closed(stage, bus)
        found = await opportunities(bus)
        counted = sum(report.opportunities for report in await reports(bus))
        assert counted == len(found), "the reports count what was stored"
        assert "not settled in time" not in stage.logs()
        return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Opportunity]:
    """What seed 1 gives when nothing goes wrong."""
    directory = tmp_path_factory.mktemp("expected") / "run"
    return asyncio.run(whole_run(directory, **{"market.seed": 1}))


@pytest.mark.thorough
async def test_the_same_seed_gives_the_same_opportunities_and_another_seed_others(
    tmp_path: Path, expected: list[Opportunity]
):
    again = await whole_run(tmp_path / "again", **{"market.seed": 1})
    other = await whole_run(tmp_path / "other", **{"market.seed": 2})
    assert len(expected) >= 10
    same = [opportunity.replace(created_ns=0) for opportunity in expected]
    assert [opportunity.replace(created_ns=0) for opportunity in again] == same
    assert not {opportunity.id for opportunity in other} & {opportunity.id for opportunity in expected}


@pytest.mark.parametrize(
    "victim", [pytest.param(name, marks=[] if name == "market" else [pytest.mark.thorough]) for name in WORKERS]
)
async def test_killed_in_the_middle_and_started_again_it_finds_the_same(
    tmp_path: Path, expected: list[Opportunity], victim: str
):
    async with running(tmp_path, **{"market.seed": 1, "market.slot_ms": 100, "market.paced": "true"}) as (stage, bus):
        await until(stage, bus, lambda update: update.slot >= 15)
        process = stage.processes[WORKERS.index(victim)]
        process.kill()
        process.wait()
        stage.start(victim)
        await closed(stage, bus)
        found = await opportunities(bus)
        assert {opportunity.id for opportunity in found} == {opportunity.id for opportunity in expected}
        assert len(found) == len(expected)
        assert not await everything(bus, "METRICS", "metrics.dead_letter")
        assert "not settled in time" not in stage.logs()


async def test_a_silent_quote_core_stops_the_scanner_and_a_truncated_table_is_named_and_replaced(tmp_path: Path):
    async with running(tmp_path, **{"market.slots": 0, "market.paced": "true"}) as (stage, bus):
        await until(stage, bus, lambda update: update.slot >= 5)
        stage.processes[0].kill()

        async def silent() -> bool:
            healths = await bus.last("metrics.health.scanner")
            return any("quote core is silent" in health.detail for _, health in healths)

        await eventually(silent, what="the scanner to say so", logs=stage.logs)
        before = await slot_of(bus)
        found = len(await opportunities(bus))
        await asyncio.sleep(0.5)
        assert len(await opportunities(bus)) == found
        stage.start("quote_core")
        await until(stage, bus, lambda update: before is not None and update.slot > before.slot + 3)

        # Everybody is gone, and the table is cut short.
        for process in stage.processes:
            process.kill()
            process.wait()
        path = stage.config().shm_directory / "quotes-internal"
        whole = path.read_bytes()
        path.unlink()
        path.write_bytes(whole[:5000])
        stage.start("scanner")

        async def named() -> bool:
            healths = await bus.last("metrics.health.scanner")
            return any("cannot be read" in health.detail for _, health in healths)

        await eventually(named, what="the scanner to say so", logs=stage.logs)
        stage.start("quote_core")
        stage.start("market")
        last = await slot_of(bus)
        assert last is not None
        await until(stage, bus, lambda update: update.slot > last.slot + 5)


async def test_bad_pools_second_quote_cores_and_stops_are_lived_through(tmp_path: Path):
    async with running(tmp_path, **{"market.slots": 0, "market.paced": "true"}) as (stage, bus):
        await until(stage, bus, lambda update: update.slot >= 3)
        # A pool that cannot be read is reported once, and the others go on.
        pool = (await bus.last("market_data.pool.>"))[0][1]
        broken = pool.replace(
            id="b" * 32, pool="11111111111111111111111111111111", accounts=pool.accounts[1:], slot=1, write_version=9
        )
        await bus.publish(broken)

        async def reported() -> list[Anomaly]:
            found = await everything(bus, "METRICS", "metrics.anomaly.>")
            return [anomaly for anomaly in found if isinstance(anomaly, Anomaly) and anomaly.rule == "pool_refused"]

        await eventually(reported, what="the refusal to be reported", logs=stage.logs)
        update = await slot_of(bus)
        await until(stage, bus, lambda now: update is not None and now.slot > update.slot + 5)
        assert len(await reported()) == 1

        # A second quote core is refused.
        assert await stage.ended(stage.start("quote_core")) == 4

        # Told to stop, the market closes; started again, it trades on.
        assert await stage.stop(stage.processes[WORKERS.index("market")]) == 0
        last = await slot_of(bus)
        assert last is not None
        assert last.closing
        answered = {message.correlation_id for message in await everything(bus, "PLANNED")}
        assert answered == {opportunity.id for opportunity in await opportunities(bus)}
        stage.start("market")
        await until(stage, bus, lambda update: update.slot > last.slot + 10 and not update.closing)


@pytest.mark.recorded
async def test_recorded_pools_have_the_cycles_of_their_slot(tmp_path: Path, recorded_data: Path):
    path = recorded_data / "solana" / "whirlpool_snapshots" / "whirlpool-snapshot-152927999.csv.gz"
    settings = {"market.source": "recorded", "market.recorded_path": str(path), "market.slots": 3}
    found = await whole_run(tmp_path / "recorded", **settings)
    assert {opportunity.slot for opportunity in found} == {152_928_000}
    assert {tuple(leg.pool[:4] for leg in opportunity.legs) for opportunity in found} == {
        ("HJPj", "83v8"),
        ("65sh", "83v8"),
        ("65sh", "HJPj"),
    }
    assert all(leg.slot == 152_927_999 for opportunity in found for leg in opportunity.legs)


async def test_a_wrong_file_of_recorded_pools_ends_the_market_with_the_reason(tmp_path: Path):
    stage = Stage(tmp_path, **{"market.source": "recorded", "market.recorded_path": str(tmp_path / "none.csv.gz")})
    await stage.open()
    try:
        assert await stage.ended(stage.start("market")) == 5
        assert "can not be read" in stage.logs()
    finally:
        stage.close()


@pytest.mark.thorough
async def test_told_to_stop_without_anybody_to_settle_with_it_ends_in_time(tmp_path: Path):
    async with running(tmp_path, **{"market.slots": 0, "market.paced": "true"}) as (stage, bus):
        await until(stage, bus, lambda update: update.slot >= 5)
        for process in stage.processes[:2]:
            process.kill()
        assert await stage.stop(stage.processes[2]) == 0


@pytest.mark.thorough
async def test_another_market_on_the_same_server_leaves_no_pool_of_the_old_one(tmp_path: Path):
    async with running(tmp_path, **{"market.slots": 0, "market.paced": "true"}) as (stage, bus):
        await until(stage, bus, lambda update: update.slot >= 5)
        await stage.stop(stage.processes[WORKERS.index("market")])
        old = await slot_of(bus)
        assert old is not None
        stage.start("market", **{"market.seed": 77})
        await until(stage, bus, lambda update: update.slot > old.slot + 10 and update.causation_id != old.causation_id)
        found = [opportunity for opportunity in await opportunities(bus) if opportunity.slot > old.slot]
        pools = {message.pool for _, message in await bus.last("market_data.pool.>")}
        assert len(pools) == POOLS
        assert {leg.pool for opportunity in found for leg in opportunity.legs} <= pools


@pytest.mark.parametrize("file", ["quotes-internal", "pools"])
async def test_a_foreign_file_in_place_of_shared_memory_is_refused_and_left_alone(tmp_path: Path, file: str):
    stage = Stage(tmp_path)
    await stage.open()
    try:
        path = stage.config().shm_directory / file
        path.parent.mkdir(parents=True)
        path.write_text("somebody's letters")
        assert await stage.ended(stage.start("quote_core")) == 5
        assert path.read_text() == "somebody's letters"
    finally:
        stage.close()


async def test_the_server_is_killed_and_all_go_on_and_a_new_market_begins_after_the_old_one(
    tmp_path: Path,
):
    async with running(tmp_path, **{"market.slots": 0, "market.barrier_timeout_s": 2.0}) as (stage, bus):
        if stage.server is None:
            pytest.skip("the server is not ours to kill")

        async def restarted() -> None:
            """Kill the server; streams in memory go with it, and are made anew as the supervisor does."""
            assert stage.server is not None
            stage.server.kill()
            await asyncio.to_thread(stage.server.start)
            await eventually(lambda: bus.connected, what="the bus to reconnect")
            await reconcile(bus.js)

        await until(stage, bus, lambda update: update.slot >= 10)
        await restarted()
        await until(stage, bus, lambda update: update.slot >= 60)
        # A reader that starts now finds every pool whole.
        keyframes = {message.pool for _, message in await bus.last("market_data.pool.>")}
        assert len(keyframes) == POOLS
        assert len(await opportunities(bus)) >= 10

        # All gone: on the store that is kept, a new market begins after the slots of the old one.
        for process in stage.processes:
            process.kill()
            process.wait()
        old = max(opportunity.slot for opportunity in await opportunities(bus))
        await restarted()
        assert await slot_of(bus) is None
        for worker in WORKERS:
            stage.start(worker)
        await until(stage, bus, lambda update: update.slot > old + 80)
        found = await opportunities(bus)
        assert max(opportunity.slot for opportunity in found) > old
        assert len({opportunity.id for opportunity in found}) == len(found)
