"""The stage that tests of landing share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .landing_stage import LandingStage


@pytest.fixture
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[LandingStage]:
    """A stage; a parameter holds its settings."""
    async with LandingStage.opened(**getattr(request, "param", {})) as stage:
        yield stage
