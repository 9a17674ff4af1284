"""What is asked before a plan comes is not asked again for it, and what cannot change is looked up once."""

from __future__ import annotations

import asyncio

import pytest

from markets.solana.landing import pool_accounts
from markets.solana.landing.pool_accounts import PoolAccounts
from markets.solana.rpc.pool import RpcPool
from markets.venue import Prepared

from .landing_stage import LandingStage


async def test_fees_asked_with_the_opportunity_are_there_for_its_plan(
    stage: LandingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    call = RpcPool.call

    async def noted(self: RpcPool, method: str, params: list, **more: object) -> object:
        if method == "getRecentPrioritizationFees":
            asked.append(params[0])
        return await call(self, method, params, **more)

    monkeypatch.setattr(RpcPool, "call", noted)
    async with stage.linked() as venue:
        cheap, dear = await stage.gap()
        plan = stage.plan(cheap, dear)
        pools = [leg.pool for leg in plan.legs]
        for _ in range(3):
            venue.expect(pools, plan.slot)
        await asyncio.sleep(0.1)
        assert asked == [sorted(pools)]
        assert isinstance(await venue.prepare(plan), Prepared)
        assert asked == [sorted(pools)]
        # Another slot is another question.
        await stage.steps(1)
        venue.expect(pools, plan.slot)
        await asyncio.sleep(0.1)
        assert len(asked) == 2


async def test_only_a_few_are_asked_ahead_at_once(stage: LandingStage, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage.linked() as venue:
        waiting = asyncio.Event()
        begun: list[str] = []

        async def slow(self: object, slot: int, addresses: list[str]) -> None:
            begun.append(addresses[0])
            await waiting.wait()

        monkeypatch.setattr("markets.solana.landing.fee_market.FeeMarket.samples", slow)
        for number in range(20):
            venue.expect([f"pool {number}"], venue.slot)
        await asyncio.sleep(0)
        assert len(begun) == 4
        waiting.set()
        await asyncio.sleep(0.01)
        venue.expect(["another"], venue.slot)
        await asyncio.sleep(0)
        assert begun[-1] == "another"
    # Without a chain nothing is asked, and nothing goes wrong.
    stage.a_venue().expect(["pool"], 1)


async def test_pools_that_lack_nothing_are_not_looked_through_again(
    stage: LandingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    needed = PoolAccounts._needed

    def noted(self: PoolAccounts, pool: str, protocol: int, told: dict) -> object:
        looked.append(pool)
        return needed(self, pool, protocol, told)

    monkeypatch.setattr(pool_accounts.PoolAccounts, "_needed", noted)
    async with stage.linked() as venue:
        pools = venue.market.states.protocols()
        assert venue.accounts.lacking(pools) == []
        seen = len(looked)
        assert {pool for pool, _ in pools} >= set(looked)
        assert venue.accounts.lacking(pools) == []
        await stage.steps(1)
        assert len(looked) == seen > 0
