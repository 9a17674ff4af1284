"""Plans become transactions on a chain, and what comes of them is read back to the lamport."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from markets.costs import Costs
from markets.venue import Filled

from .landing_stage import LandingStage


@pytest.fixture
async def stage() -> AsyncIterator[LandingStage]:
    stage = LandingStage()
    await stage.open()
    yield stage
    for node in stage.nodes:
        await node.stop()


async def test_an_undisturbed_cycle_gives_what_was_predicted_and_simulated(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        plan = stage.plan(cheap, dear)
        assert plan.expected_profit > 0
        before = stage.wealth()
        prepared, landing = await stage.submitted(venue, plan)
        found = await stage.until(landing)
        assert isinstance(found, Filled), found
        assert found.amount_out == plan.expected_amount_out == prepared.trace.simulated_amount_out
        assert [fill.amount_out for fill in found.fills] == [leg.amount_out for leg in plan.legs]
        assert found.costs == Costs(5_000, found.costs.priority_fee, plan.tip)
        assert stage.wealth() - before == found.amount_out - plan.amount_in - found.costs.lamports
