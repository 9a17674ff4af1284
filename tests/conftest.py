"""Fixtures that every part of the tests shares."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from nats.js.errors import NotFoundError

from pipeline.bus import Bus
from pipeline.config import load_config
from pipeline.nats_server import EmbeddedNats
from pipeline.sections import Config
from pipeline.streams import TABLE, reconcile

Connect = Callable[..., Awaitable[Bus]]

# How long an example takes says more about the machine's load than about the code.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

# Tests that measure, or that count on both processors: `make test` runs them after the others, one at a time.
ALONE = frozenset(
    {
        "permit/test_permit_bench.py",
        "shm/test_bench.py",
        "shm/test_crashes.py",
        "shm/test_pool_blobs.py",
        "shm/test_torn_reads.py",
    }
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run as many tests at a time as there are processors; of those that start processes, more would starve."""
    return len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of these files; long tests first, so that none is left at the end.

    Against a given server, run the tests that use it and leave the others out.
    """
    items.sort(key=lambda item: "slow" not in item.keywords)
    root = Path(__file__).parent
    for item in items:
        if item.path.relative_to(root).as_posix() in ALONE:
            item.add_marker(pytest.mark.alone)
    if not os.environ.get("PIPELINE_TEST_NATS_URL"):
        return
    others = [item for item in items if "nats_url" not in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in set(others)]


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """The folder of recordings and public vectors beside the checkout; what needs it skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no recorded data in {folder}")
    return folder


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """One server for all tests; the container suite names its own by PIPELINE_TEST_NATS_URL."""
    if given := os.environ.get("PIPELINE_TEST_NATS_URL"):
        yield given
        return
    with EmbeddedNats(name="tests") as server:
        yield server.url


@pytest.fixture
def nats_config(nats_url: str, tmp_path: Path) -> Config:
    """The default configuration against the test server, with files of its own beside this host's pipeline."""
    folders = {
        "shm.directory": str(tmp_path / "shm"),
        "worker.run_dir": str(tmp_path / "run"),
        "worker.data_dir": str(tmp_path / "data"),
    }
    return load_config({"nats.url": nats_url, **folders}, environment={})


@pytest.fixture
async def connect(nats_config: Config) -> AsyncIterator[Connect]:
    """Connect buses by name; all are closed after the test. Every test begins with fresh, empty streams."""
    opened: list[Bus] = []

    async def connect(name: str = "test", **overrides: object) -> Bus:
        settings = nats_config.nats.model_copy(update=overrides)
        opened.append(await Bus.connect(settings, name=name))
        return opened[-1]

    admin = await Bus.connect(nats_config.nats, name="admin")
    for spec in TABLE:
        with contextlib.suppress(NotFoundError):
            await admin.js.delete_stream(spec.name)
    # A server under load may still hold the subjects of a stream that was just deleted.
    for _ in range(50):
        changes = await reconcile(admin.js)
        if all(change.done for change in changes):
            break
        await asyncio.sleep(0.1)
    assert all(change.done for change in changes), [str(change) for change in changes]
    yield connect
    for bus in [*opened, admin]:
        await bus.close(1.0)


@pytest.fixture
async def bus(connect: Connect) -> Bus:
    """One connection with fresh, empty streams."""
    return await connect()
