"""A cycle is signed while it is simulated; and what must not happen between two steps."""

from __future__ import annotations

import asyncio

import pytest

from markets.solana.landing.prepare import ChainPrepared
from markets.solana.landing.venue import ChainVenue
from markets.solana.rpc.errors import AttemptFailed
from markets.solana.rpc.line import Line, Lines
from markets.venue import Filled, Prepared, RefusedBySimulation, RefusedByWallet, tried_out

from .landing_stage import LandingStage


async def filled_once(stage: LandingStage, venue: ChainVenue) -> None:
    _, landing = await stage.submitted(venue, stage.plan(*await stage.gap()))
    assert isinstance(await stage.until(landing), Filled)


async def test_it_is_signed_while_it_is_simulated(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        stage.nodes[0].faults.apply({"slow": 1.0, "slow_s": 0.2})
        plan = stage.plan(*await stage.gap())
        ready = await venue.prepare(plan)
        assert isinstance(ready, ChainPrepared)
        assert ready.trial is not None
        assert not ready.trial.done()
        assert ready.trace.signature
        tried = await tried_out(ready)
        assert isinstance(tried, Prepared)
        assert tried.trace.simulated_amount_out == plan.expected_amount_out
        assert tried.trace.simulated_ns > tried.trace.built_ns
        stage.nodes[0].faults.apply({"slow": 0.0})
        found = await stage.until(venue.submit(plan, tried))
        assert isinstance(found, Filled)
        assert found.amount_out == tried.trace.simulated_amount_out


async def test_a_refusal_that_comes_after_the_signature_sends_nothing(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        await filled_once(stage, venue)
        await stage.steps(1)
        cheap, dear = await stage.gap()
        # Nobody gives so much: somebody was faster.
        plan = stage.plan(cheap, dear, 2)
        legs = [plan.legs[0].replace(min_amount_out=plan.legs[0].amount_out * 2), plan.legs[1]]
        ready = await venue.prepare(plan.replace(legs=legs))
        assert isinstance(ready, ChainPrepared)
        refused = await tried_out(ready)
        assert isinstance(refused, RefusedBySimulation)
        assert refused.reason.startswith("slippage")
        assert refused.trace.signature == ""
        assert refused.trace.simulated_ns > 0
        venue.withdraw(ready)
        await stage.steps(1)
        await asyncio.sleep(0.05)
        assert venue._lanes.lane_of(plan.id) is None


async def test_a_cycle_that_used_more_than_its_limit_is_asked_about_again(
    stage: LandingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.linked() as venue:
        await filled_once(stage, venue)
        await stage.steps(1)
        cycle, units = next(iter(venue._preparer._units.items()))
        assert units > 10_000
        venue._preparer._units[cycle] = 1  # as if it had crossed no tick so far
        with monkeypatch.context() as patch:
            patch.setattr("markets.solana.landing.prepare._SPARE_UNITS", 0)
            refused = await stage.refused(venue, stage.plan(*await stage.gap(), 2))
        assert isinstance(refused, RefusedBySimulation)
        assert refused.reason.startswith("compute_exceeded")
        await stage.steps(1)
        assert venue._preparer._units[cycle] == 0
        plan = stage.plan(*await stage.gap(), 3)
        ready = await venue.prepare(plan)
        assert isinstance(ready, ChainPrepared)
        assert ready.trial is not None
        assert ready.trial.done()  # what it uses was asked before it was signed
        assert isinstance(await stage.until(venue.submit(plan, ready)), Filled)
        assert venue._preparer._units[cycle] > 10_000


async def test_what_a_slot_teaches_holds_from_the_next_one_on(stage: LandingStage) -> None:
    """Else a plan's transaction would depend on which of two simulations was answered first."""
    async with stage.linked() as venue:
        gap = await stage.gap()
        for number in range(2):
            ready = await venue.prepare(stage.plan(*gap, number))
            assert isinstance(ready, Prepared)
            await tried_out(ready)
            assert not venue._preparer._units
        await stage.steps(1)
        assert len(venue._preparer._units) == 1


async def test_a_halt_stops_what_waits_for_its_connection(stage: LandingStage, monkeypatch: pytest.MonkeyPatch) -> None:
    connecting, go_on = asyncio.Event(), asyncio.Event()
    connect = Lines._connect

    async def slow(lines: Lines) -> Line:
        connecting.set()
        await go_on.wait()
        return await connect(lines)

    async with stage.linked() as venue:
        plan = stage.plan(*await stage.gap())
        ready = await venue.prepare(plan)
        assert isinstance(ready, ChainPrepared)
        assert ready.bundle_line is not None
        # Every connection is gone in the moment of the submission: the bundle is sent again, over a new one.
        for line in [*ready.bundle_line._lines._all]:
            line.close()
        ready.bundle_line._lines._idle.clear()
        monkeypatch.setattr(Lines, "_connect", slow)
        landing = venue.submit(plan, ready)
        await asyncio.wait_for(connecting.wait(), 2.0)
        stage.halted = True
        go_on.set()
        await asyncio.sleep(0.3)
        assert sum(node.calls["sendBundle"] for node in stage.nodes) == 0
        await stage.steps(6)
        await asyncio.sleep(0.1)
        assert sum(node.calls["sendTransaction"] for node in stage.nodes) == 0
        landing.cancel()


async def test_balances_that_cannot_be_made_out_do_not_end_the_plans_after(
    stage: LandingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.linked() as venue:

        async def broken(*_: object, **__: object) -> None:
            raise AssertionError("nobody thought of that")

        with monkeypatch.context() as patch:
            patch.setattr("markets.solana.landing.balances.read_balances", broken)
            venue.balances.ended["a plan"] = None
            await stage.steps(1)
            plan = stage.plan(*await stage.gap())
            ready = await venue.prepare(plan)
            assert isinstance(ready, Prepared), ready
            assert any("nobody thought of that" in said for said in stage.warnings)
        venue.withdraw(ready)
        await stage.steps(1)
        await asyncio.sleep(0.05)
        assert not venue.balances.ended  # they were asked again


@pytest.mark.parametrize("stage", [{"route": "both"}], indirect=True)
async def test_no_connection_is_lost_by_a_refusal(stage: LandingStage, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        link = venue._link
        assert link is not None
        assert link.engine is not None

        async def none() -> Line:
            raise AttemptFailed("no endpoint", "can be asked now")

        monkeypatch.setattr(link, "rpc_line", none)
        for number in range(5):
            assert isinstance(await venue.prepare(stage.plan(cheap, dear, number)), RefusedByWallet)
        assert len(link.engine.lines._all) == len(link.engine.lines._idle)
