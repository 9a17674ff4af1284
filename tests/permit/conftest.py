"""Fixtures of the permit's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from permit_stage import Stage

from pipeline.permit import PermitStore
from pipeline.permit.client import connect


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
