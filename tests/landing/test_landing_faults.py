"""Whatever goes wrong on the way, a plan ends once, in a type, and at most one transaction of it is on the chain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from solders.signature import Signature

from markets.solana.landing.prepare import ChainPrepared
from markets.tokens import SOL_MINT
from markets.venue import Dropped, Filled, Landing, NeverBegun, RanOut, RefusedBySimulation, RefusedByWallet, Undecided
from pipeline.messages import ExecutionPlan

from .landing_stage import LandingStage


def settings(**given: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("stage", [given], indirect=True, ids=["-".join(map(str, given.values()))])


def booked(stage: LandingStage, plan: ExecutionPlan, ending: Landing, before: int) -> None:
    """Hold the wallets against what is said to have become of a plan."""
    paid = 0
    if isinstance(ending, Filled):
        paid = ending.amount_out - plan.amount_in - ending.costs.lamports
    assert stage.wealth() - before == paid
    status = stage.chain.status(ending.trace.signature, history=True)
    assert (status is not None) == isinstance(ending, Filled)


async def a_submission(
    stage: LandingStage, venue: Any, chain: dict[str, float] | None = None, **faults: Any
) -> tuple[ExecutionPlan, ChainPrepared, asyncio.Future[Landing], int]:
    """Submit a plan while faults last that were switched on after it was prepared."""
    plan = stage.plan(*await stage.gap())
    ready = await stage.prepared(venue, plan)
    assert isinstance(ready, ChainPrepared), ready
    before = stage.wealth()
    stage.nodes[0].faults.apply(faults)
    for name, value in (chain or {}).items():
        setattr(stage.chain.faults, name, value)
    landing = venue.submit(plan, ready)
    await asyncio.sleep(0.03)
    return plan, ready, landing, before


def heal(stage: LandingStage) -> None:
    for node in stage.nodes:
        node.faults.apply(dict.fromkeys(("limited", "failed", "truncated", "garbage", "slow", "cut_chance"), 0.0))
        node.faults.apply({"silent": False, "behind_slots": 0})


@pytest.mark.parametrize("fault", ["limited", "failed", "truncated", "garbage", "slow"])
@pytest.mark.parametrize("stage", [{"route": "bundle"}, {"route": "rpc"}], indirect=True)
async def test_answers_that_fail(stage: LandingStage, fault: str) -> None:
    """Nothing of what the services say for a while is of any use, or comes too late."""
    async with stage.linked() as venue:
        more = {"slow_s": 0.7} if fault == "slow" else {"retry_after_s": 0.1} if fault == "limited" else {}
        plan, _, landing, before = await a_submission(stage, venue, **{fault: 1.0}, **more)
        await asyncio.sleep(0.3)
        heal(stage)
        await asyncio.sleep(0.5)
        found = await stage.until(landing, slots=60)
        assert isinstance(found, Filled), found
        booked(stage, plan, found, before)


async def test_a_lost_bundle_is_sent_by_rpc(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan, _, landing, before = await a_submission(stage, venue, {"bundle_lost": 1.0})
        found = await stage.until(landing, slots=20)
        assert isinstance(found, Filled), found
        assert found.slot > plan.slot + stage.settings.fallback_slots
        assert found.trace.bundle
        booked(stage, plan, found, before)


async def test_a_lost_bundle_that_would_fail_by_then_is_not_sent(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan, _, landing, before = await a_submission(stage, venue, {"bundle_lost": 1.0})
        stage.swap(stage.pools_of("JupSOL", plan.legs[0].protocol)[0], SOL_MINT, 60 * 10**9)
        found = await stage.until(landing, slots=30)
        assert isinstance(found, Dropped), found
        assert "lost" in found.cause
        booked(stage, plan, found, before)
        assert any("not sent by RPC" in warning for warning in stage.warnings)


@settings(route="rpc")
async def test_a_dropped_transaction_is_sent_again(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan, _, landing, before = await a_submission(stage, venue, {"dropped": 1.0})
        await stage.steps(3)
        assert not landing.done()
        stage.chain.faults.dropped = 0.0
        found = await stage.until(landing, slots=20, pause_s=0.1)
        assert isinstance(found, Filled), found
        booked(stage, plan, found, before)


@settings(route="rpc")
async def test_a_late_transaction_is_waited_for(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan, _, landing, before = await a_submission(stage, venue, {"late": 1.0, "late_slots": 6})
        found = await stage.until(landing, slots=30)
        assert isinstance(found, Filled), found
        assert found.slot >= plan.slot + 6
        booked(stage, plan, found, before)


@settings(route="both", lifetime_slots=120)
async def test_what_never_lands_runs_out(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan, ready, landing, before = await a_submission(stage, venue, {"dropped": 1.0, "bundle_lost": 1.0})
        height = stage.chain.views.newest.block_height
        left = ready.trace.last_valid_block_height - height
        await stage.steps(left, 0.002)
        assert not landing.done()
        await stage.steps(20, 0.01)
        # Beyond its last block, but that block is not final.
        assert not landing.done()
        found = await stage.until(landing, slots=40, pause_s=0.1)
        assert isinstance(found, RanOut), found
        booked(stage, plan, found, before)


@settings(route="rpc", lifetime_slots=145)
async def test_what_lands_in_the_last_block_that_takes_it_did_not_run_out(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan, ready, landing, before = await a_submission(stage, venue, {"dropped": 1.0})
        last = ready.trace.last_valid_block_height
        await stage.steps(last - stage.chain.block_height, 0.005)
        stage.chain.faults.dropped = 0.0
        await asyncio.sleep(0.2)  # it is sent again meanwhile
        await stage.steps(40, 0.01)
        found = await stage.until(landing)
        assert isinstance(found, Filled), found
        status = stage.chain.record(found.trace.signature)
        assert status is not None
        assert status.block_height == last + 1
        booked(stage, plan, found, before)


@settings(route="rpc", lifetime_slots=145)
async def test_halted_nothing_is_handed_over_again(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan, ready, landing, before = await a_submission(stage, venue, {"dropped": 1.0})
        await stage.steps(1)
        stage.halted = True
        await asyncio.sleep(0.15)
        sent = stage.nodes[0].calls["sendTransaction"]
        stage.chain.faults.dropped = 0.0
        left = ready.trace.last_valid_block_height - stage.chain.views.newest.block_height
        await stage.steps(left + 34, 0.005)
        found = await stage.until(landing, slots=20, pause_s=0.1)
        assert isinstance(found, RanOut), found
        assert stage.nodes[0].calls["sendTransaction"] == sent
        booked(stage, plan, found, before)


async def test_websockets_that_are_cut(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan, _, landing, before = await a_submission(stage, venue, cut_chance=1.0)
        found = await stage.until(landing, slots=20)
        assert isinstance(found, Filled), found
        booked(stage, plan, found, before)


async def test_a_node_is_not_left_with_subscriptions_to_what_never_lands(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        assert venue._link is not None
        socket, node = venue._link.socket, stage.nodes[0]
        never = [str(Signature(bytes([number]) * 64)) for number in range(1, 4)]
        for signature in never[:2]:
            socket.want(signature)
        await stage.steps(3)
        assert node.subscriptions == 2
        socket.want(never[2])
        for signature in never:  # the last one before the node has answered
            socket.drop(signature)
        await stage.steps(3)
        assert (node.subscriptions, socket._told, socket._subscriptions) == (0, {}, {})


@settings(nodes=2)
async def test_a_node_that_is_behind(stage: LandingStage) -> None:
    """Half of the answers are of long ago: they say that nothing has landed, and that is not believed."""
    async with stage.linked() as venue:
        stage.nodes[1].faults.apply({"behind_slots": 15})
        plan, _, landing, before = await a_submission(stage, venue)
        found = await stage.until(landing, slots=60)
        assert isinstance(found, Filled), found
        booked(stage, plan, found, before)


async def test_a_stale_node_alone(stage: LandingStage) -> None:
    """It knows of no landing for a long time; nothing is concluded from that."""
    async with stage.linked() as venue:
        plan, _, landing, before = await a_submission(stage, venue, behind_slots=60)
        await stage.steps(40, 0.01)
        assert not landing.done()
        heal(stage)
        found = await stage.until(landing, slots=10)
        assert isinstance(found, Filled), found
        assert found.slot == plan.slot + 1
        booked(stage, plan, found, before)


async def test_blockhashes_that_have_run_out_are_not_signed_with(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        await stage.steps(5)
        plan = stage.plan(*await stage.gap())
        stage.nodes[0].faults.apply({"expired_blockhash": 1.0})
        await stage.steps(3)
        ready = await stage.prepared(venue, plan)
        assert isinstance(ready, ChainPrepared), ready
        assert ready.trace.last_valid_block_height - stage.chain.views.newest.block_height > 100
        # For so long that no good one is left that lives long enough: nothing is made.
        await stage.steps(130, 0.002)
        await asyncio.sleep(0.1)
        await stage.steps(1)
        refused = await stage.refused(venue, stage.plan(*await stage.gap(), 2))
        assert isinstance(refused, RefusedByWallet | RefusedBySimulation), refused
        assert "blockhash" in refused.reason


@settings(commitment="finalized")
@pytest.mark.parametrize("returning", [0.0, 1.0])
async def test_a_fork_takes_it_back(stage: LandingStage, returning: float) -> None:
    async with stage.linked() as venue:
        plan, ready, landing, before = await a_submission(stage, venue)
        await asyncio.sleep(0.1)
        await stage.steps(3)
        assert stage.chain.status(ready.trace.signature, history=False) is not None
        stage.chain.faults.returning = returning
        stage.fork(4)
        assert stage.chain.status(ready.trace.signature, history=True) is None
        found = await stage.until(landing, slots=60)
        assert isinstance(found, Filled if returning else Dropped | RanOut), found
        booked(stage, plan, found, before)


async def test_a_silent_server(stage: LandingStage) -> None:
    """No answer at all for a while, to anything."""
    async with stage.linked() as venue:
        plan, _, landing, before = await a_submission(stage, venue, silent=True)
        await stage.steps(2)
        await asyncio.sleep(0.6)
        heal(stage)
        found = await stage.until(landing, slots=40, pause_s=0.1)
        assert isinstance(found, Filled), found
        booked(stage, plan, found, before)


async def test_no_node_answers_while_it_is_prepared(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan = stage.plan(*await stage.gap())
        stage.nodes[0].faults.apply({"failed": 1.0})
        refused = await stage.refused(venue, plan)
        assert isinstance(refused, RefusedByWallet | RefusedBySimulation)
        assert "has no answer" in refused.reason
        heal(stage)
        await asyncio.sleep(0.3)
        await stage.steps(1)
        await stage.submitted(venue, stage.plan(*await stage.gap(), 2))


# What a successor finds out


async def recovered(stage: LandingStage, plan: ExecutionPlan, reference: str, slots: int = 0) -> Landing:
    """Ask as an executor does that finds a claim of another one."""
    async with stage.linked() as venue:
        asking = asyncio.create_task(_asked(venue, plan, reference))
        return await stage.until(asking, slots=slots or 12)


async def _asked(venue: Any, plan: ExecutionPlan, reference: str) -> Landing:
    while True:
        found = await venue.recover(plan, reference)
        if not isinstance(found, Undecided):
            assert not isinstance(found, NeverBegun)
            return found
        assert found.trace.signature in reference
        await asyncio.sleep(found.after_s)


async def test_recovery_of_what_has_landed(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan, ready, landing, before = await a_submission(stage, venue)
        await asyncio.sleep(0.1)
        landing.cancel()
        await stage.steps(3)
    found = await recovered(stage, plan, ready.reference)
    assert isinstance(found, Filled), found
    assert (found.trace.resolved, found.trace.signature) == (True, ready.trace.signature)
    assert found.slot == plan.slot + 1
    booked(stage, plan, found, before)


async def test_recovery_of_what_is_about_to_land(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan, ready, landing, before = await a_submission(stage, venue)
        await asyncio.sleep(0.1)
        landing.cancel()
    found = await recovered(stage, plan, ready.reference)
    assert isinstance(found, Filled), found
    assert found.trace.resolved
    booked(stage, plan, found, before)


async def test_recovery_of_what_was_never_sent(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan = stage.plan(*await stage.gap())
        ready = await stage.prepared(venue, plan)
        assert isinstance(ready, ChainPrepared)
        before = stage.wealth()
        await stage.steps(80, 0.002)
        venue_left = ready.trace.last_valid_block_height - stage.chain.views.newest.block_height
        assert venue_left > 0
        # Still possible: nobody can know.
        assert isinstance(await stage.a_linked_recover(plan, ready.reference), Undecided)
        await stage.steps(venue_left + 40, 0.002)
    found = await recovered(stage, plan, ready.reference)
    assert isinstance(found, RanOut), found
    assert found.trace.resolved
    assert "whether it was sent is not known" in found.cause
    booked(stage, plan, found, before)


async def test_a_reference_of_nothing(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        plan = stage.plan(*await stage.gap())
        for reference in ("", "paper:1", "solana:x:1:y", "solana:" + "1" * 88 + ":x:" + "1" * 44):
            assert isinstance(await venue.recover(plan, reference), NeverBegun)
