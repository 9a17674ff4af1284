"""Plans become transactions on a chain, and what comes of them is read back to the lamport."""

from __future__ import annotations

import time
import zlib
from dataclasses import replace
from typing import Any

import pytest

from markets.costs import Costs
from markets.limits import TokenBucket
from markets.solana.landing import outcome
from markets.solana.landing.engine import BlockEngine
from markets.solana.landing.prepare import repriced
from markets.solana.rpc.errors import Refused
from markets.solana.rpc.pool import RpcPool
from markets.solana.transactions.cycle import CycleOrder, build_cycle
from markets.solana.transactions.effects import BadTransaction
from markets.solana.transactions.tips import TIP_ACCOUNTS, tip_account
from markets.tokens import SOL_MINT, USDC_MINT
from markets.venue import Dropped, Filled, Prepared, RefusedBySimulation, RefusedByWallet, Reverted, Undecided
from pipeline.ids import deterministic_id
from pipeline.messages import Mode, Protocol
from workers.executor.result import Stamps, result_of

from .landing_stage import LandingStage


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


async def test_a_cycle_in_usdc(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = stage.pools_of("USDC", Protocol.RAYDIUM_CPMM, Protocol.WHIRLPOOL)
        stage.swap(cheap, SOL_MINT, 40 * 10**9)
        await stage.steps(1)
        cheap, dear = (stage.world.pools[pool.address].pool for pool in (cheap, dear))
        # SOL at 150 USDC: 115,000 lamports are 17,250 millionths.
        plan = stage.plan(cheap, dear, amount=300 * 10**6, start=USDC_MINT, cost=17_250)
        assert plan.expected_profit > 0
        usdc, lamports = stage.holding(USDC_MINT), stage.wealth()
        prepared, landing = await stage.submitted(venue, plan)
        found = await stage.until(landing)
        assert isinstance(found, Filled), found
        assert found.amount_out == plan.expected_amount_out == prepared.trace.simulated_amount_out
        assert stage.holding(USDC_MINT) - usdc == found.amount_out - plan.amount_in
        assert stage.wealth() - lamports == -found.costs.lamports
        result = result_of(plan, found, Stamps(1, 2), mode=Mode.LOCALNET, producer="executor")
        assert result.cost == -(-17_250 * found.costs.lamports // 115_000)
        assert result.net_profit == found.amount_out - plan.amount_in - result.cost


@pytest.mark.parametrize("deposit", [True, False], ids=["deposit", "withdrawal"])
async def test_a_cycle_over_a_stake_pool(stage: LandingStage, deposit: bool) -> None:
    """Its program takes and gives lamports; the wallet's wrapped and unwrapped SOL count together."""
    async with stage.linked() as venue:
        pool, market = stage.pools_of("JupSOL", Protocol.SPL_STAKE_POOL, Protocol.RAYDIUM_CPMM)
        staked = market.token_b if market.token_a == SOL_MINT else market.token_a
        stage.swap(market, SOL_MINT if deposit else staked, 60 * 10**9)
        await stage.steps(1)
        pool, market = (stage.world.pools[one.address].pool for one in (pool, market))
        plan = stage.plan(*((pool, market) if deposit else (market, pool)), amount=10**9)
        assert plan.expected_profit > 0
        before = stage.wealth()
        prepared, landing = await stage.submitted(venue, plan)
        found = await stage.until(landing)
        assert isinstance(found, Filled), found
        assert found.amount_out == plan.expected_amount_out == prepared.trace.simulated_amount_out
        assert stage.wealth() - before == found.amount_out - plan.amount_in - found.costs.lamports


async def test_a_bundle_that_is_outbid_is_dropped(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        first, second = stage.plan(cheap, dear, 1, tip=200_000), stage.plan(cheap, dear, 2, tip=100_000)
        before = stage.wealth()
        landings = [(await stage.submitted(venue, plan))[1] for plan in (second, first)]
        dropped, filled = [await stage.until(landing) for landing in landings]
        assert isinstance(filled, Filled)
        # What the first one left is still worth it, or it failed in the auction: then nothing was paid.
        if isinstance(dropped, Dropped):
            assert stage.wealth() - before == filled.amount_out - first.amount_in - filled.costs.lamports
            assert "outbid" in dropped.cause


async def test_a_plan_that_no_longer_pays_is_refused_by_simulation(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        plan = stage.plan(cheap, dear)
        stage.swap(dear, SOL_MINT, 10**9)
        stage.swap(cheap, SOL_MINT, 20 * 10**9)
        await stage.steps(1)
        refused = await stage.refused(venue, plan)
        assert isinstance(refused, RefusedBySimulation)
        assert refused.reason.startswith("slippage: leg 0: Whirlpool: the pool gives less than the minimum")
        assert refused.trace.simulated_ns >= refused.trace.built_ns > 0
        assert refused.trace.signature == ""


async def test_what_pays_less_than_it_costs_is_refused(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        good = stage.plan(cheap, dear)
        plan = stage.plan(cheap, dear, min_amount_out=good.expected_amount_out + 1)
        refused = await stage.refused(venue, plan)
        assert isinstance(refused, RefusedBySimulation)
        assert "leg 1: Raydium CPMM" in refused.reason


async def test_a_pool_that_is_not_known_and_a_wallet_that_cannot_pay(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        plan = stage.plan(cheap, dear)
        legs = [plan.legs[0].replace(pool="nowhere"), plan.legs[1]]
        unknown = await stage.refused(venue, plan.replace(legs=legs))
        assert isinstance(unknown, RefusedByWallet)
        assert "pool nowhere is not known" in unknown.reason
        rich = await stage.refused(venue, stage.plan(cheap, dear, 2, amount=700 * 10**9))
        assert isinstance(rich, RefusedByWallet)
        assert rich.reason.startswith("tokens_short")


async def test_without_rate_a_bundle_is_refused_and_not_sent_by_rpc(stage: LandingStage) -> None:
    async with stage.linked(TokenBucket(0.001, 4, time.monotonic_ns)) as venue:
        cheap, dear = await stage.gap()
        assert venue._link is not None
        assert venue._link.engine is not None
        for _ in range(5):
            await venue._link.engine.states(["b" * 64])  # leaves half of the rate to what is sent
        _, landing = await stage.submitted(venue, stage.plan(cheap, dear, 1))
        assert isinstance(await venue.prepare(stage.plan(cheap, dear, 2)), Prepared)
        refusal = await stage.refused(venue, stage.plan(cheap, dear, 3))
        assert isinstance(refusal, RefusedByWallet)
        assert "rate" in refusal.reason
        assert stage.nodes[0].calls["sendTransaction"] == 0
        landing.cancel()


async def test_what_cannot_be_explained_blames_no_node_and_keeps_no_wallet(
    stage: LandingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> Any:
        raise BadTransaction("leg 0 never called its pool")

    monkeypatch.setattr(outcome, "fills_of", unknown)
    async with stage.linked() as venue:
        assert venue._link is not None
        cheap, dear = await stage.gap()
        plan = stage.plan(cheap, dear)
        ready, landing = await stage.submitted(venue, plan)
        failures = venue._link.rpc.figures.failures
        with pytest.raises(outcome.Unexplained, match="never called its pool"):
            await stage.until(landing)
        assert venue._link.rpc.figures.failures == failures
        await stage.steps(2)
        assert venue._lanes.settled(ready.trace.wallet)
        # Whoever looks again when it can be explained finds it.
        monkeypatch.undo()
        found = await venue.recover(plan, ready.reference)
        assert isinstance(found, Filled)
        venue.withdraw(ready)  # its reservation still waits for a balance of the slot it landed in
        assert venue.balances.ended[plan.id] == found.slot


async def test_what_is_recovered_keeps_its_wallet_until_it_is_decided(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        plan = stage.plan(cheap, dear)
        ready = await venue.prepare(plan)
        assert isinstance(ready, Prepared)
        wallet = ready.trace.wallet
        venue.withdraw(ready)
        await stage.steps(2)
        assert venue._lanes.on_the_way(wallet) == 0
        # It comes again, nothing can be made of it now, and then its claim is found: another one may have sent it.
        await stage.refused(venue, plan.replace(min_amount_out=plan.expected_amount_out * 2))
        assert isinstance(await venue.recover(plan, ready.reference), Undecided)
        await stage.steps(3)
        assert venue._lanes.on_the_way(wallet) == 1


async def test_a_fault_while_it_is_handed_over_is_told(stage: LandingStage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("an answer that nobody thought of")

    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        monkeypatch.setattr(BlockEngine, "sent", broken)
        _, landing = await stage.submitted(venue, stage.plan(cheap, dear))
        assert isinstance(await stage.until(landing), Filled)
        assert any("nobody thought of" in warning for warning in stage.warnings)


async def test_balances_of_a_node_that_is_behind_are_asked_for_again(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        ready, landing = await stage.submitted(venue, stage.plan(cheap, dear))
        found = await stage.until(landing)
        assert isinstance(found, Filled)
        stage.nodes[0].state.faults.behind_slots = 10
        await stage.steps(2)
        assert not venue._lanes.settled(ready.trace.wallet)
        stage.nodes[0].state.faults.behind_slots = 0
        await stage.steps(2)
        assert venue._lanes.settled(ready.trace.wallet)


async def test_a_node_that_searches_no_tables_is_traded_over(
    stage: LandingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> Any:
        raise Refused("getProgramAccounts", -32600, "not served")

    monkeypatch.setattr(RpcPool, "get_program_accounts", refused)
    async with stage.linked() as venue:
        link = venue._link
        assert link is not None
        assert link.tables == []
        cheap, dear = await stage.gap()
        assert isinstance(await venue.prepare(stage.plan(cheap, dear)), Prepared)
        monkeypatch.undo()
        await link.read_tables()
        [first, *_] = tables = link.tables
        # What is known is read again by its address, and kept where it is as it was.
        monkeypatch.setattr(RpcPool, "get_program_accounts", refused)
        await link.read_tables(search=False)
        assert [str(table.key) for table in link.tables] == [str(table.key) for table in tables]
        assert link.tables[0] is first


async def test_without_a_chain_nothing_is_made(stage: LandingStage) -> None:
    venue = stage.a_venue()
    async with stage.linked():
        cheap, dear = await stage.gap()
        refused = await stage.refused(venue, stage.plan(cheap, dear))
    assert isinstance(refused, RefusedByWallet)
    assert "no chain can be reached" in refused.reason


async def test_what_is_withdrawn_can_be_used_again(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        big = stage.plan(cheap, dear, 1, amount=500 * 10**9, min_amount_out=500 * 10**9 + 115_000)
        for number in range(4):
            ready = await stage.prepared(venue, big.replace(id=f"{number:032x}"))
            if isinstance(ready, Prepared):
                venue.withdraw(ready)
            await stage.steps(1)
        # 500 SOL of 600 were set aside each time; not given back, two wallets would bear two plans.
        ready = await stage.prepared(venue, stage.plan(cheap, dear, 9))
        assert isinstance(ready, Prepared)


async def test_the_same_cycle_twice_is_two_transactions(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        plan = stage.plan(cheap, dear)
        # Ids with the same spread of units: their transactions would be the same byte for byte.
        twins = [plan]
        number = 0
        while len(twins) < 3:
            number += 1
            other = deterministic_id("twin", number)
            if zlib.crc32(other.encode()) % 1024 == zlib.crc32(plan.id.encode()) % 1024 and tip_account(
                other
            ) == tip_account(plan.id):
                twins.append(plan.replace(id=other))
        ready = [await stage.prepared(venue, twin) for twin in twins]
        signatures = {one.trace.signature for one in ready if isinstance(one, Prepared)}
        assert len(signatures) == 3


@pytest.mark.parametrize("stage", [{"simulate": False}], indirect=True)
async def test_without_simulation(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        prepared, landing = await stage.submitted(venue, stage.plan(cheap, dear))
        assert (prepared.trace.simulated_ns, prepared.trace.simulated_amount_out) == (0, 0)
        found = await stage.until(landing)
        assert isinstance(found, Filled)
        # The next time its own units are known.
        again, _ = await stage.submitted(venue, stage.plan(*await stage.gap(), 2))
        assert again.trace.signature


@pytest.mark.parametrize("stage", [{"route": "rpc"}, {"route": "both"}], indirect=True)
async def test_by_rpc(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        plan = stage.plan(cheap, dear)
        before = stage.wealth()
        _, landing = await stage.submitted(venue, plan)
        found = await stage.until(landing)
        assert isinstance(found, Filled)
        assert found.costs.tip == (0 if stage.settings.route == "rpc" else plan.tip)
        assert stage.wealth() - before == found.amount_out - plan.amount_in - found.costs.lamports


@pytest.mark.parametrize("stage", [{"route": "rpc"}], indirect=True)
async def test_a_transaction_that_fails_on_chain_pays_its_fee(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        plan = stage.plan(cheap, dear)
        before = stage.wealth()
        # Somebody who offers more for his place in the block takes what was there.
        stage.swap(cheap, SOL_MINT, 60 * 10**9, price=5_000_000)
        _, landing = await stage.submitted(venue, plan)
        found = await stage.until(landing)
        assert isinstance(found, Reverted), found
        assert (found.leg, found.costs.tip) == (0, 0)
        assert found.cause.startswith("Whirlpool: the pool gives less than the minimum")
        assert stage.wealth() - before == -found.costs.lamports
        assert found.costs.lamports >= 5_000


async def test_market_time_on_a_real_chain_goes_on_between_slots(stage: LandingStage) -> None:
    now = 5_000_000
    venue = stage.a_venue(clock=lambda: now)
    update = stage.publication.slot(7, 10**18, 4_000_000, market="m", pools_changed=0, closing=False)
    venue.take_slot(update)
    # It took a millisecond to come here; the two clocks are years apart.
    assert venue.now_ns == 10**18 + 1_000_000
    now += 700
    assert venue.now_ns == 10**18 + 1_000_700
    now = 3_000_000
    assert venue.now_ns == 10**18


async def test_a_message_with_another_price_is_the_one_that_would_be_built(stage: LandingStage) -> None:
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        plan = stage.plan(cheap, dear)
        link = venue._link
        assert link is not None
        accounts = await venue.accounts.of(link.rpc, plan.legs)
        assert not isinstance(accounts, str)
        order = CycleOrder(
            plan.legs, SOL_MINT, plan.amount_in, plan.min_amount_out, stage.wallets[0], 1_400_000, 1, 9, TIP_ACCOUNTS[0]
        )
        blockhash = stage.chain.latest_blockhash("processed")[0]
        simulated = build_cycle(order, accounts, link.tables, blockhash)
        other = replace(order, compute_limit=77_777, micro_lamports=12_345)
        assert repriced(simulated, other) == build_cycle(other, accounts, link.tables, blockhash)
        assert repriced(simulated, other) != simulated
