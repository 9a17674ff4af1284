"""One quote core process for the tests of this folder that need a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from served_world import World

from pipeline.bus import Bus


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A quote core that serves, with short leases, a small window and few subscriptions."""
    made = World(
        tmp_path_factory.mktemp("served"),
        **{"serve.lease_s": 2.0, "serve.window": 8, "serve.max_subscriptions": 6, "serve.max_pairs": 16},
    )
    try:
        asyncio.run(made.open())
        yield made
    finally:
        made.close()


@pytest.fixture
async def client(world: World) -> AsyncIterator[Bus]:
    """A connection of a client's own."""
    bus = await world.stage.bus("client")
    yield bus
    await bus.close()
