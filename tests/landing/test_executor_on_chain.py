"""The executor as a process on a chain: killed at every step, started again, and the chain decides what happened."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from trading_stage import Stage, eventually, everything, unacknowledged

from markets.tokens import SOL_MINT
from pipeline import run_files
from pipeline.bus import Bus
from pipeline.messages import ExecutionPlan, ExecutionResult, ExecutionStatus, ExecutionSubmitted, Protocol

from .landing_stage import LandingStage

pytestmark = pytest.mark.integration

STEPS = ("received", "prepared", "claimed", "gated", "submitted", "landed", "settled", "published")


class ChainStage:
    """A server, a permit, and a chain in this process whose slots are told on the bus."""

    def __init__(self, stage: Stage, chain: LandingStage, bus: Bus) -> None:
        self.stage, self.chain, self.bus = stage, chain, bus

    async def slot(self) -> None:
        """Let one slot pass."""
        world, publication = self.chain.world, self.chain.publication
        advance = world.advance()
        assert advance.block is not None
        for node in self.chain.nodes:
            node.told(advance.block)
        for held in advance.changed:
            self.bus.publish_soon(publication.change(held, time.time_ns()))
        update = publication.slot(
            advance.slot,
            advance.market_ns,
            time.time_ns(),
            market=world.id,
            pools_changed=len(advance.changed),
            closing=False,
        )
        await self.bus.publish(update)

    async def plan(self, number: int = 1) -> ExecutionPlan:
        """Publish a plan that pays."""
        cheap, dear = self.chain.pools_of("JupSOL", Protocol.WHIRLPOOL, Protocol.RAYDIUM_CPMM)
        self.chain.swap(dear, SOL_MINT, 60 * 10**9)
        await self.slot()
        pools = self.chain.world.pools
        plan = self.chain.plan(pools[cheap.address].pool, pools[dear.address].pool, number)
        plan = plan.replace(expires_ns=self.chain.world.market_ns + 600 * 10**9)
        await self.bus.publish(plan)
        return plan

    async def results(self) -> list[ExecutionResult]:
        return [one for one in await everything(self.bus, "EXECUTED") if isinstance(one, ExecutionResult)]

    async def submissions(self) -> list[ExecutionSubmitted]:
        return [one for one in await everything(self.bus, "EXECUTED") if isinstance(one, ExecutionSubmitted)]

    async def settled(self, count: int, *, slots: int = 260, pause_s: float = 0.03) -> list[ExecutionResult]:
        """Let slots pass until there are so many results."""
        found: list[ExecutionResult] = []
        for _ in range(slots):
            await self.slot()
            await asyncio.sleep(pause_s)
            found = await self.results()
            if len(found) >= count:
                return found
        raise AssertionError(f"{len(found)} results of {count}\n{self.stage.logs()}")

    async def idle(self) -> bool:
        return await unacknowledged(self.bus, "PLANNED", "executor") == 0

    def landed(self) -> list[str]:
        """Return the signatures of what our wallets have on the chain."""
        chain = self.chain.chain
        found = {
            record.signature
            for wallet in self.chain.wallets
            for record in chain.signatures(wallet, commitment="processed")
            if record.keys[0] == wallet
        }
        return sorted(found)


@asynccontextmanager
async def chain_stage(directory: Path, **settings: Any) -> AsyncIterator[ChainStage]:
    defaults = {"executor.mode": "localnet", "rpc.deadline_s": 2.0, "executor.rebroadcast_ms": 50}
    stage = Stage(directory, **(defaults | settings))
    await stage.open()
    await stage.permitted()
    bus = await stage.bus()
    try:
        async with LandingStage.opened() as chain:
            run_files.write(
                stage.config(), run_files.RunFile("localnet", os.getpid(), time.time_ns(), chain.urls[0], ready=True)
            )
            for held in chain.world.pools.values():
                await bus.publish(chain.publication.keyframe(held, time.time_ns()))
            made = ChainStage(stage, chain, bus)
            await made.slot()
            yield made
    finally:
        await bus.close()
        stage.close()


async def linked(made: ChainStage) -> None:
    """Wait until the newest executor works on the chain."""
    logs = sorted(made.stage.directory.glob("executor-*.log"), key=lambda path: path.stat().st_mtime)
    await eventually(lambda: "linked to the chain" in logs[-1].read_text(), what="a link", logs=made.stage.logs)


# Those after which somebody else must find out; the others are held by tests/executor on paper every time.
OFTEN = ("claimed", "gated", "submitted", "settled")


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step in OFTEN else [pytest.mark.thorough]) for step in STEPS]
)
async def test_killed_at_any_step_on_a_chain(tmp_path: Path, step: str) -> None:
    async with chain_stage(tmp_path) as made:
        doomed = made.stage.start("executor", {"PIPELINE_CRASH_AT": step})
        await asyncio.sleep(0.1)
        await linked(made)
        before = made.chain.wealth()
        plan = await made.plan()
        for _ in range(100):
            if doomed.poll() is not None:
                break
            await asyncio.sleep(0.05)
            if step in ("landed", "settled", "published"):
                await made.slot()
        assert await made.stage.ended(doomed) == -9
        assert len(await made.results()) == (1 if step == "published" else 0)
        made.stage.start("executor")
        [result] = await made.settled(1)
        await eventually(made.idle, what="acknowledgement", logs=made.stage.logs)
        assert await made.results() == [result]
        sent = await made.submissions()
        assert {one.signature for one in sent} == {result.signature}
        unsent = {"claimed", "gated"}
        if step in unsent:
            assert result.status == ExecutionStatus.EXPIRED
        elif step != "submitted":
            assert result.status == ExecutionStatus.FILLED
        assert result.resolved == (step in {"claimed", "gated", "submitted", "landed"})
        filled = result.status == ExecutionStatus.FILLED
        assert made.landed() == ([result.signature] if filled else [])
        assert made.chain.wealth() - before == result.net_profit
        assert (result.net_profit > 0) == filled
        assert result.plan_id == plan.id


@pytest.mark.slow
@pytest.mark.thorough
async def test_killed_again_and_again_while_plans_come(tmp_path: Path) -> None:
    async with chain_stage(tmp_path) as made:
        before = made.chain.wealth()
        plans: list[ExecutionPlan] = []
        for step in (*STEPS, "recovered"):
            doomed = made.stage.start("executor", {"PIPELINE_CRASH_AT": f"{step}:2"})
            for _ in range(200):
                if doomed.poll() is not None:
                    break
                if len(plans) < 40:
                    plans.append(await made.plan(len(plans) + 1))
                await made.slot()
                await asyncio.sleep(0.05)
            if doomed.poll() is None:
                doomed.kill()
                await made.stage.ended(doomed)
        made.stage.start("executor")
        results = await made.settled(len(plans), slots=600)
        await eventually(made.idle, what="acknowledgement", logs=made.stage.logs)
        results = await made.results()
        assert sorted(one.plan_id for one in results) == sorted(plan.id for plan in plans)
        landed = {one.signature for one in results if one.status in (ExecutionStatus.FILLED, ExecutionStatus.REVERTED)}
        assert sorted(landed) == made.landed()
        assert made.chain.wealth() - before == sum(one.net_profit for one in results)
        assert not await everything(made.bus, "METRICS", "metrics.dead_letter")
