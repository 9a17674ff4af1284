"""Fixtures of the permit's tests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer
from permit_stage import Stage, eventually, opened

from pipeline.permit import Gate, PermitStore
from pipeline.permit.client import connect
from pipeline.permit.link import Login


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A running server with its streams, and nothing else."""
    stage = Stage(tmp_path)
    stage.server.start()
    await stage.make_streams()
    yield stage
    stage.close()


@pytest.fixture
async def store(stage: Stage) -> AsyncIterator[PermitStore]:
    """The latch, as somebody else sees it."""
    nc = await connect(stage.config().nats, "tests", patient=True)
    yield PermitStore(nc.jetstream(), producer="tests")
    await nc.close()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def make(server: FakeServer) -> Iterator[Callable[..., Gate]]:
    gates: list[Gate] = []

    def make(**options: object) -> Gate:
        login = Login(server.url, "test", timeout_s=0.5)
        gate = Gate(login, **{"word": None, "backoff_s": 0.02, "backoff_max_s": 0.05, **options})
        gate.start()
        gates.append(gate)
        return gate

    yield make
    for gate in gates:
        gate.close()


@pytest.fixture
def gate(server: FakeServer, make: Callable[..., Gate]) -> Gate:
    """An open gate whose lease is too long to run out on a slow machine."""
    gate = make(max_lease_s=60.0)
    assert gate.wait_ready(5)
    server.renew(lease_ms=60_000)
    eventually(opened(gate))
    return gate


@pytest.fixture
def brief(server: FakeServer, make: Callable[..., Gate]) -> Gate:
    """An open gate with the lease of half a second that is the default."""
    gate = make()
    assert gate.wait_ready(5)
    eventually(lambda: (server.renew(), time.sleep(0.02), opened(gate)())[2])
    return gate
