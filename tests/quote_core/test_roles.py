"""The quote core spread over processes: the same tables as in one process, and each part may die alone."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trading_stage import Stage, eventually

from pipeline._core import Pool
from pipeline.shm import POOLS, QUOTES_INTERNAL, PoolBlobTable, QuoteEntry, QuoteTable, SharedMemoryError

pytestmark = pytest.mark.integration
SLOTS = 12


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path, **{"market.slots": SLOTS, "market.barrier_timeout_s": 0.1, "external.enabled": "false"})
    try:
        await made.open()
        yield made
    finally:
        made.close()


def table_in(directory: Path) -> QuoteTable | None:
    try:
        return QuoteTable(directory / QUOTES_INTERNAL)
    except SharedMemoryError:
        return None


def at_slot(directory: Path, slot: int) -> bool:
    table = table_in(directory)
    return table is not None and table.writer_alive and table.slot >= slot and len(table) > 100


def content(directory: Path) -> dict[tuple[str, str, int], tuple[object, ...]]:
    """Everything in a table but the numbers that differ from writer to writer."""
    table = QuoteTable(directory / QUOTES_INTERNAL)
    found: dict[tuple[str, str, int], tuple[object, ...]] = {}
    for index in range(len(table)):
        entry = table.read(index)
        assert isinstance(entry, QuoteEntry)
        key = (table.name("pool", entry.pool), table.name("token", entry.token_in), entry.amount_index)
        found[key] = (entry.amount_in, entry.amount_out, entry.slot, entry.write_version, entry.route, entry.void)
    return found


async def test_parts_in_processes_of_their_own_write_the_same_tables(stage: Stage) -> None:
    whole = stage.directory / "whole"
    stage.start("quote_core", **{"shm.directory": str(whole), "worker.run_dir": str(stage.directory / "run-whole")})
    stage.start("quote_core-aggregator")
    stage.start("quote_core-local")
    stage.start("scanner")  # the market waits for somebody who looks
    stage.start("market")
    parts = stage.directory / "shm"
    await eventually(lambda: at_slot(parts, SLOTS) and at_slot(whole, SLOTS), what="both at the end", logs=stage.logs)
    assert content(parts) == content(whole)
    blobs, table = PoolBlobTable(parts / POOLS), QuoteTable(parts / QUOTES_INTERNAL)
    for name in table.names("pool"):
        blob = blobs.read(table.id("pool", name) or 0)
        assert blob is not None
        assert Pool.from_snapshot(blob.data).address == name


async def test_a_part_that_is_killed_is_missed_alone_and_comes_back(stage: Stage) -> None:
    stage.more |= {"market.slots": 0}
    shared = stage.directory / "shm"
    aggregator = stage.start("quote_core-aggregator")
    local = stage.start("quote_core-local")
    stage.start("scanner")  # the market waits for somebody who looks
    stage.start("market")
    await eventually(lambda: at_slot(shared, 3), what="the first slots", logs=stage.logs)

    os.kill(local.pid, signal.SIGKILL)
    await stage.ended(local)
    table = QuoteTable(shared / QUOTES_INTERNAL)
    seen = table.slot
    assert table.writer_alive
    stage.start("quote_core-local")
    await eventually(lambda: table.slot > seen + 3, what="the local part again", logs=stage.logs)
    assert aggregator.poll() is None

    os.kill(aggregator.pid, signal.SIGKILL)
    await stage.ended(aggregator)
    await eventually(lambda: not table.writer_alive, what="the writer to be missed", logs=stage.logs)
    seen = table.slot
    stage.start("quote_core-aggregator")
    await eventually(lambda: at_slot(shared, seen + 3), what="the aggregator again", logs=stage.logs)
    # A stake pool may hold too little in reserve for the largest amount; nothing else is void.
    assert {index for (_pool, _token, index), row in content(shared).items() if row[-1]} <= {2}


async def test_a_role_that_does_not_exist_is_refused(stage: Stage) -> None:
    ran = await stage.cli("worker", "quote_core", "--role", "oracle")
    assert ran.returncode == 2
    assert "local, external, aggregator" in ran.stderr
    ran = await stage.cli("worker", "planner", "--role", "local")
    assert ran.returncode == 2
    assert "no role" in ran.stderr
