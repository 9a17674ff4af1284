"""Shared-memory files that are not ours, of another version, truncated or locked away: named, and nothing is traded."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from trading_stage import Stage, eventually, everything

from pipeline.bus import Bus
from pipeline.messages import PlanRefusal, WorkerHealth
from pipeline.shm import POOLS, QUOTES_INTERNAL, PoolBlobWriter, QuoteTableWriter
from tests.planner.opportunities import an_opportunity

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

_VERSION_AT = 8  # behind the magic


def another_version(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(_VERSION_AT)
        file.write((99).to_bytes(4, "little"))


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def a_letter(path: Path) -> None:
    path.write_text("somebody's letters")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    await stage.open()
    yield stage
    stage.close()


def files(stage: Stage) -> Path:
    """Make the files as workers that ended would leave them."""
    folder = stage.config().shm_directory
    folder.mkdir(parents=True, exist_ok=True)
    QuoteTableWriter(folder / QUOTES_INTERNAL).close()
    PoolBlobWriter(folder / POOLS).close()
    return folder


async def told(stage: Stage, bus: Bus, worker: str, word: str) -> str:
    """Return what a worker says is missing, once it says so."""

    async def probe() -> str:
        found = [message for _, message in await bus.last(f"metrics.health.{worker}")]
        details = [health.detail for health in found if isinstance(health, WorkerHealth)]
        return details[0] if details and word in details[0] else ""

    return str(await eventually(probe, what=f"{worker} to name it", logs=stage.logs))


@pytest.mark.parametrize("spoil", [another_version, truncated, a_letter])
async def test_nothing_is_traded_on_what_cannot_be_read(stage: Stage, spoil: Callable[[Path], None]) -> None:
    folder = files(stage)
    spoil(folder / QUOTES_INTERNAL)
    bus = await stage.bus()
    live = [stage.start(worker) for worker in ("scanner", "planner")]
    try:
        quotes = str(folder / QUOTES_INTERNAL)
        assert "remove the file" in await told(stage, bus, "scanner", quotes)
        await bus.publish(an_opportunity(1))
        assert "remove the file" in await told(stage, bus, "planner", quotes)
        assert [type(message) for message in await everything(bus, "PLANNED")] == [PlanRefusal]
        assert all(process.poll() is None for process in live), "they wait for files that they can read"
    finally:
        await bus.close(1.0)
