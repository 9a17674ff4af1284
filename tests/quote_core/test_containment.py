"""Parts of the quote core that fail: reported, started again, and of no concern to the others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from quote_tables import grid_of
from trading_stage import eventually

from localnet.market import offline_engine
from markets.tokens import load_registry
from pipeline.config import load_config
from pipeline.errors import Unreachable
from pipeline.shm import QUOTES_INTERNAL, QuoteEntry, QuoteTable
from workers.quote_core import worker
from workers.quote_core.aggregator import Changed
from workers.quote_core.parts import PoolGrid, Settled
from workers.quote_core.worker import QuoteCore

S = 1_000_000_000
START = 1_000 * S
AMOUNTS = (10**8, 10**9)
POOLS = offline_engine(load_registry(), 1)[1]
ADDRESSES = sorted(POOLS)[:3]


class Health:
    """What is missing, by cause, now and ever."""

    def __init__(self) -> None:
        self.collectors: list[Callable[[], Any]] = []
        self.missing: dict[str, str] = {}
        self.ever: dict[str, str] = {}

    def degraded(self, detail: str, *, cause: str = "worker") -> None:
        self.missing[cause] = self.ever[cause] = detail

    def recovered(self, *, cause: str = "worker") -> None:
        self.missing.pop(cause, None)


class Silent:
    """A log, or a bus, to which anything may be said."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_more: None


@pytest.fixture
async def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[QuoteCore]:
    for name, value in (("RESTART_S", 0.01), ("STABLE_S", 0.05)):
        monkeypatch.setattr(worker, name, value)
    config = load_config(
        overrides={
            "shm.directory": str(tmp_path / "shm"),
            "worker.run_dir": str(tmp_path / "run"),
            "worker.data_dir": str(tmp_path / "data"),
            "external.enabled": "false",
        }
    )
    context: Any = SimpleNamespace(
        name="quote_core",
        config=config,
        bus=Silent(),
        health=Health(),
        log=Silent(),
        clock=lambda: START,
        stopping=asyncio.Event(),
    )
    made = QuoteCore(context, "")
    yield made
    made.close()


def tell(core: QuoteCore, slot: int) -> None:
    for address in ADDRESSES:
        core._take(grid_of(POOLS[address].at(slot, 1, 0), AMOUNTS, START + slot))
    core._take(Settled(slot, START + slot, "one", len(ADDRESSES), confirms=True))


def written(core: QuoteCore) -> dict[int, int]:
    """Slot of every entry that is not void."""
    table = QuoteTable(core.context.config.shm_directory / QUOTES_INTERNAL)
    entries = [table.read(index) for index in range(len(table))]
    return {entry.index: entry.slot for entry in entries if isinstance(entry, QuoteEntry) and not entry.void}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("error", [RuntimeError("out of luck"), Unreachable("nobody there", "wait")])
async def test_a_part_that_raises_is_reported_and_started_again_alone(core: QuoteCore, error: Exception) -> None:
    runs: list[str] = []
    back = asyncio.Event()

    async def fails_twice() -> None:
        runs.append("fails")
        if runs.count("fails") <= 2:
            raise error
        back.set()
        await asyncio.sleep(60)

    async def ends() -> None:
        runs.append("ends")

    async def lasts() -> None:
        runs.append("lasts")
        await asyncio.sleep(60)

    core._parts = {"fails": fails_twice, "ends": ends, "lasts": lasts}
    running = asyncio.create_task(core.run())
    await back.wait()
    health: Any = core.context.health
    assert str(error).split(";")[0] in health.ever["fails"]
    assert "fails" in health.missing  # until it has lasted for a while
    await eventually(lambda: "fails" not in health.missing)
    assert runs.count("lasts") == 1
    assert runs.count("ends") > 1  # one that just ends is started again too
    assert not running.done()
    core.context.stopping.set()
    await running


async def test_an_aggregator_that_raises_is_made_anew_and_told_everything_again(
    core: QuoteCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(core, 1)
    before = written(core)
    assert len(before) > 6
    assert set(before.values()) == {1}
    broken = core.aggregator
    assert broken is not None

    def listener(_changed: Changed) -> None:
        pass

    broken.on_changed.append(listener)

    def fail(_value: PoolGrid) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setitem(broken._handlers, PoolGrid, fail)
    told_again = asyncio.Event()

    class Source:
        def replay(self) -> None:
            tell(core, 2)
            told_again.set()

    source: Any = Source()
    core.source = source
    core._take(grid_of(POOLS[ADDRESSES[0]].at(2, 1, 0), AMOUNTS, START + 2))
    health: Any = core.context.health
    assert "a bug" in health.missing["aggregator"]
    assert core.aggregator is not broken
    assert written(core) == before  # what stands in the tables stays until it is told anew
    async with asyncio.timeout(5):
        await told_again.wait()
    assert written(core) == dict.fromkeys(before, 2)
    assert listener in core.aggregator.on_changed
