"""When the scanner looks: after commits of a quote core that lives, and at whole slots alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from quote_tables import write_pool
from trading_stage import eventually

from localnet.market import offline_engine
from markets.tokens import load_registry
from pipeline._core import Pool
from pipeline.config import load_config
from workers.quote_core.tables import Tables
from workers.scanner import worker
from workers.scanner.shared import SharedQuotes
from workers.scanner.worker import Scanner

REGISTRY = load_registry()
POOLS = [pool for _, pool in sorted(offline_engine(REGISTRY, 1)[1].items())][:4]


class Stage:
    """A scanner whose searches are only counted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.missing: dict[str, str] = {}
        health = SimpleNamespace(
            collectors=[],
            degraded=lambda detail, *, cause: self.missing.__setitem__(cause, detail),
            recovered=lambda *, cause: self.missing.pop(cause, None),
        )
        context: Any = SimpleNamespace(
            name="scanner",
            config=load_config({"shm.directory": str(directory)}, environment={}),
            health=health,
            stopping=asyncio.Event(),
        )
        self.scanner = Scanner(context)
        self.handled: list[tuple[int, int]] = []
        self.shared: Any = SharedQuotes(directory)
        counted: Any = self.scanner
        counted._handle = self._handle
        self.context = context
        self.running = asyncio.create_task(self.scanner.scan_until_replaced(self.shared))

    async def _handle(self, shared: SharedQuotes) -> None:
        changed = shared.changed()
        found = len(shared.all_pools() if changed is None else changed)
        if found:  # a commit that is found standing there may wake once more
            self.handled.append((shared.table.slot, found))

    async def end(self) -> None:
        self.context.stopping.set()
        await self.running


@pytest.fixture
async def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tables]:
    monkeypatch.setattr(worker, "LOOK_S", 0.02)
    made = Tables(tmp_path, REGISTRY, (10**9,), capacity=256, ring=64)
    yield made
    made.close()


def write(tables: Tables, pools: list[Pool], slot: int) -> None:
    for pool in pools:
        write_pool(tables, pool.at(slot, 1, 0), slot)


async def test_a_slot_that_is_half_written_when_the_scanner_comes_is_not_searched(tables: Tables, tmp_path: Path):
    write(tables, POOLS[:2], 1)
    stage = Stage(tmp_path)
    await asyncio.sleep(0.1)
    assert stage.handled == []
    write(tables, POOLS[2:], 1)
    tables.commit(1, 1)
    await eventually(lambda: bool(stage.handled))
    assert stage.handled == [(1, 4)]
    await stage.end()


async def test_what_stands_there_whole_is_searched_at_once(tables: Tables, tmp_path: Path):
    write(tables, POOLS, 1)
    tables.commit(1, 1)
    stage = Stage(tmp_path)
    await eventually(lambda: bool(stage.handled))
    assert stage.handled == [(1, 4)]
    await stage.end()


async def test_nothing_is_searched_while_the_writer_is_silent_and_no_commit_is_lost(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tables, POOLS, 1)
    tables.commit(1, 1)
    stage = Stage(tmp_path)
    await eventually(lambda: bool(stage.handled))
    alive = [False]
    monkeypatch.setattr(SharedQuotes, "alive", property(lambda _shared: alive[0]))
    write(tables, POOLS[:1], 2)
    tables.commit(2, 2)
    await eventually(lambda: "silent" in stage.missing.get("quotes", ""))
    await asyncio.sleep(0.1)
    assert stage.handled == [(1, 4)]
    alive[0] = True
    await eventually(lambda: len(stage.handled) == 2)
    assert stage.handled[1] == (2, 1)
    assert stage.missing == {}
    alive[0] = False
    await eventually(lambda: "silent" in stage.missing.get("quotes", ""))
    alive[0] = True
    await eventually(lambda: not stage.missing)  # it speaks again, though there is nothing new
    assert len(stage.handled) == 2
    await stage.end()
