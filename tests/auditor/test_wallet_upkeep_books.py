"""Upkeep of wallets on a real offline chain: what the executor sends by itself, and what the auditor makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from solders.system_program import TransferParams, transfer

from markets.solana.landing.balances import read_balances
from markets.solana.rpc.endpoint import offline_endpoint
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import PoolSettings
from markets.solana.transactions.keys import pubkey
from markets.solana.transactions.token_accounts import rewrap_sol
from markets.solana.venues.shape import TOKEN_PROGRAM
from markets.solana.wallets import KeySigner, Lane, Lanes, LaneSettings, NoLane, NoLaneReason, WalletBalance, sending
from markets.solana.wallets.lanes import RENT_OF_SYSTEM_ACCOUNT
from markets.tokens import SOL_MINT
from pipeline.clock import wall_ns
from pipeline.health import Health, metrics_page
from pipeline.ledger import Ledger
from pipeline.messages import PermitState
from pipeline.permit import Allowed, Refused, RefusedBy
from workers.executor import upkeep
from workers.executor.chain import chain_venue
from workers.executor.upkeep import UNITS, Pace, Terms, Upkeep

from .chain_stage import KEYS, STRANGER, WALLETS, ChainStage, chain_stage

ONE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
SOL = 10**9
MIN = 20_000_000
COST = 5_000 + 1_000
PACE = Pace(first_s=0.0, look_s=0.02, drain_s=0.3, read_s=1.0, pause_s=0.1, again_s=0.1, again_max_s=0.2, unclear_s=0.3)


class Keeping:
    """The executor's part: lanes, keys, and upkeep over the chain's node, while slots pass."""

    def __init__(self, stage: ChainStage, rpc: RpcPool) -> None:
        self.stage, self.rpc = stage, rpc
        self.lanes = Lanes(WALLETS, LaneSettings(16, MIN))
        self.allowed = True
        self.health = Health("executor")
        self.upkeep = self.another()

    def another(self) -> Upkeep:
        """As a fresh process has it."""
        return Upkeep(
            self.lanes,
            {str(key.pubkey()): KeySigner(key) for key in KEYS},
            Terms(plan=250 * SOL, kept=MIN, max_micro_lamports=1_000_000),
            allowed=lambda: self.allowed,
            log=structlog.get_logger(),
            health=self.health,
            pace=PACE,
        )

    async def learn(self) -> dict[str, WalletBalance]:
        """Tell the lanes what the wallets hold, as the venue does when a plan has ended."""
        found = await read_balances(self.rpc, WALLETS, {SOL_MINT: TOKEN_PROGRAM})
        for wallet, balance in found.items():
            self.lanes.learn(wallet, balance)
        return found

    async def slots(self, until: Any, *, most: int = 300) -> None:
        """Let slots pass until something is so."""
        for _ in range(most):
            if until():
                return
            self.stage.advance()
            await asyncio.sleep(0.02)
        raise AssertionError(f"not so after {most} slots: {self.upkeep.done} done, {self.health.detail}")

    def landed(self, wallet: str) -> int:
        """Transactions that a wallet paid for and that are on the chain."""
        found = self.stage.world.chain.signatures(wallet, commitment="processed")
        return sum(record.keys[0] == wallet for record in found)


@pytest.fixture
async def keeping(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Keeping]:
    monkeypatch.setattr(sending, "_LOOK_S", 0.01)
    async with opened(tmp_path, ledger) as found:
        yield found


@asynccontextmanager
async def opened(tmp_path: Path, ledger: Ledger, **settings: object) -> AsyncIterator[Keeping]:
    async with chain_stage(tmp_path, ledger, **settings) as stage:
        settings = PoolSettings(timeout_s=0.5, deadline_s=0.5, attempts=1, commitment="processed")
        async with RpcPool([offline_endpoint(stage.url)], settings) as rpc:
            yield Keeping(stage, rpc)


def shift(keeping: Keeping, which: int, wrapped: int) -> None:
    """Have trades leave a wallet with so much wrapped SOL; a transaction by hand stands for them."""
    keeping.stage.send(rewrap_sol(WALLETS[which], wrapped), KEYS[which])


def lane_of(keeping: Keeping, number: int) -> str:
    """Return the wallet that a plan would take now."""
    plan = f"asked {number}"
    lane = keeping.lanes.pick(plan, {SOL_MINT: 1}, 1)
    keeping.lanes.release(plan)
    return lane.address if isinstance(lane, Lane) else ""


@ONE
async def test_both_forms_are_filled_again_and_the_books_know_it_for_upkeep(keeping: Keeping) -> None:
    stage = keeping.stage
    shift(keeping, 0, 20_500 * SOL)
    shift(keeping, 1, 10 * SOL)
    begun = await stage.audit()
    assert begun[SOL_MINT].difference == 0
    opening = stage.holdings(SOL_MINT)
    await keeping.learn()
    async with keeping.upkeep.beside(keeping.rpc):
        await keeping.slots(lambda: keeping.upkeep.done == 2)
        # Balanced: many looks later nothing has been sent that was not needed.
        before = [keeping.landed(wallet) for wallet in WALLETS]
        for _ in range(20):
            stage.advance()
            await asyncio.sleep(0.02)
        assert [keeping.landed(wallet) for wallet in WALLETS] == before == [2, 2]
    for wallet, held in (await keeping.learn()).items():
        spendable = held.lamports - RENT_OF_SYSTEM_ACCOUNT - MIN
        assert abs(spendable - held.tokens[SOL_MINT]) <= COST + 1, wallet
        assert held.tokens[SOL_MINT] > 10_000 * SOL
        assert keeping.lanes.balance(wallet) == held
    told = await stage.audit()
    sol = told[SOL_MINT]
    assert (sol.upkeep - begun[SOL_MINT].upkeep, sol.moved, sol.difference) == (-2 * COST, 0, 0)
    assert sol.balance == stage.holdings(SOL_MINT) == opening - 2 * COST
    assert stage.anomalies() == []
    # Far from what it may use.
    for wallet in WALLETS:
        newest = stage.world.chain.signatures(wallet, commitment="processed")[0]
        assert 0 < newest.units < UNITS // 2
    assert (keeping.upkeep.done, keeping.upkeep.failed, keeping.health.detail) == (2, 0, "")
    assert b'pipeline_wallet_upkeep_total{outcome="done"} 2.0' in metrics_page(keeping.health)[0]


@ONE
async def test_the_lane_is_empty_and_closed_while_it_is_balanced(keeping: Keeping) -> None:
    shift(keeping, 0, 20_500 * SOL)
    await keeping.learn()
    # A plan is on its way from the wallet that is short.
    plans = [f"plan {number}" for number in range(40)]
    on_its_way = next(plan for plan in plans if keeping.lanes.pick(plan, {SOL_MINT: 1}, 1).address == WALLETS[0])
    for plan in plans:
        if plan != on_its_way:
            keeping.lanes.release(plan)
    async with keeping.upkeep.beside(keeping.rpc):
        for _ in range(10):
            keeping.stage.advance()
            await asyncio.sleep(0.02)
        assert keeping.landed(WALLETS[0]) == 1  # that of the test
        # It waits for the plan, and new ones go elsewhere.
        taken = {keeping.lanes.pick(f"next {number}", {SOL_MINT: 1}, 1).address for number in range(10)}
        assert taken == {WALLETS[1]}
        # Not for ever: a while later it takes plans again, and that is no failure.
        await keeping.slots(lambda: WALLETS[0] in {lane_of(keeping, number) for number in range(20)})
        assert (keeping.upkeep.failed, keeping.health.detail) == (0, "")
        keeping.lanes.release(on_its_way)
        await keeping.slots(lambda: keeping.upkeep.done == 1)
        await keeping.slots(lambda: not isinstance(keeping.lanes.pick("last", {SOL_MINT: 1}, 1), NoLane))
    assert keeping.landed(WALLETS[0]) == 2


@ONE
async def test_nothing_is_sent_while_trading_is_not_allowed(keeping: Keeping) -> None:
    shift(keeping, 0, 20_500 * SOL)
    await keeping.learn()
    keeping.allowed = False
    sends = "sendTransaction"
    async with keeping.upkeep.beside(keeping.rpc):
        for _ in range(10):
            keeping.stage.advance()
            await asyncio.sleep(0.02)
        assert keeping.stage.node.calls[sends] == 0
        # Halted between the look and the sending.
        answers = iter([True, True, False])
        keeping.upkeep._allowed = lambda: next(answers, False)
        await keeping.slots(lambda: next(answers, "no more") == "no more")
        assert keeping.stage.node.calls[sends] == 0
        keeping.upkeep._allowed = lambda: True
        await keeping.slots(lambda: keeping.upkeep.done == 1)
    assert (keeping.landed(WALLETS[0]), keeping.upkeep.failed) == (2, 0)


@ONE
async def test_what_is_lost_is_tried_again_later_for_more(keeping: Keeping) -> None:
    stage = keeping.stage
    shift(keeping, 0, 20_500 * SOL)
    await keeping.learn()
    stage.world.chain.faults.dropped = 1.0
    async with keeping.upkeep.beside(keeping.rpc):
        for _ in range(40):  # until its blockhash has run out
            stage.advance(10)
            await asyncio.sleep(0.02)
            if keeping.upkeep.failed:
                break
        assert "did not land before its blockhash ran out" in keeping.health.detail
        [first] = [keeping.lanes.balance(wallet) for wallet in WALLETS[:1]]
        stage.world.chain.faults.dropped = 0.0
        await keeping.slots(lambda: keeping.upkeep.done == 1)
    assert keeping.health.detail == ""
    now = (await keeping.learn())[WALLETS[0]]
    assert first is not None
    whole = [one.lamports + one.tokens[SOL_MINT] for one in (first, now)]
    assert whole[0] - whole[1] == 5_000 + 2_000 * 2 ** (keeping.upkeep.failed - 1)


@ONE
async def test_a_lane_stays_closed_while_nobody_tells_what_became_of_its_transaction(keeping: Keeping) -> None:
    shift(keeping, 0, 20_500 * SOL)
    await keeping.learn()
    node = keeping.stage.node
    async with keeping.upkeep.beside(keeping.rpc):
        for _ in range(200):
            await asyncio.sleep(0.005)
            if node.calls["sendTransaction"]:
                break
        node.faults.apply({"failed": 1.0})
        for _ in range(600):
            await asyncio.sleep(0.005)
            if keeping.upkeep.failed:
                break
        assert "nobody tells what became of" in keeping.health.detail
        for number in range(20):
            assert keeping.lanes.pick(f"plan {number}", {SOL_MINT: 1}, 1).address == WALLETS[1]
            keeping.lanes.release(f"plan {number}")
        node.faults.apply({"failed": 0.0})
        # It landed all the same: the next look sees that, and sends no other one.
        await keeping.slots(lambda: keeping.health.detail == "")
    assert keeping.landed(WALLETS[0]) == 2


@ONE
async def test_a_process_that_dies_in_the_middle_leaves_nothing_to_clean_up(keeping: Keeping) -> None:
    stage = keeping.stage
    shift(keeping, 1, 10 * SOL)
    await stage.audit()
    opening = stage.holdings(SOL_MINT)
    await keeping.learn()
    stage.world.chain.faults.late, stage.world.chain.faults.late_slots = 1.0, 12
    async with keeping.upkeep.beside(keeping.rpc):
        for _ in range(200):
            await asyncio.sleep(0.005)
            if stage.node.calls["sendTransaction"]:
                break
    stage.advance(2)
    # The next one sees nothing of what is on its way, and sends the same once more.
    keeping.upkeep = keeping.another()
    await keeping.learn()
    async with keeping.upkeep.beside(keeping.rpc):
        await keeping.slots(lambda: keeping.landed(WALLETS[1]) == 3)
        stage.world.chain.faults.late = 0.0
        # So it is one too many: what was kept is still there, and the next look turns it back.
        twice = stage.world.chain.account(WALLETS[1])
        assert twice is not None
        assert twice.lamports >= RENT_OF_SYSTEM_ACCOUNT + MIN
        await keeping.slots(lambda: keeping.upkeep.done == 2)
    held = (await keeping.learn())[WALLETS[1]]
    assert min(held.lamports, held.tokens[SOL_MINT]) > 10_000 * SOL
    told = await stage.audit()
    assert (told[SOL_MINT].difference, told[SOL_MINT].moved, stage.anomalies()) == (0, 0, [])
    assert (keeping.landed(WALLETS[1]), stage.holdings(SOL_MINT)) == (4, opening - 3 * COST)


@ONE
async def test_strangers_money_and_a_wallet_that_is_poor_alike_need_nothing(keeping: Keeping) -> None:
    await keeping.learn()
    poor = WalletBalance(2**40, RENT_OF_SYSTEM_ACCOUNT + MIN, {SOL_MINT: 0})
    keeping.lanes.learn(WALLETS[0], poor)
    refused = keeping.lanes.pick("plan", {SOL_MINT: 10**18}, 1)
    assert isinstance(refused, NoLane)
    assert refused.reason is NoLaneReason.TOKENS_SHORT
    keeping.stage.send(
        [transfer(TransferParams(from_pubkey=STRANGER.pubkey(), to_pubkey=pubkey(WALLETS[1]), lamports=SOL))], STRANGER
    )
    async with keeping.upkeep.beside(keeping.rpc):
        for _ in range(10):
            keeping.stage.advance()
            await asyncio.sleep(0.02)
    assert keeping.stage.node.calls["sendTransaction"] == 0


@ONE
@pytest.mark.parametrize(("switched", "state"), [(True, "ACTIVE"), (False, "ACTIVE"), (True, "HALTED")])
async def test_the_executor_does_it_where_it_is_switched_on_and_trading_is_active(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, *, switched: bool, state: str
) -> None:
    monkeypatch.setattr(sending, "_LOOK_S", 0.01)
    monkeypatch.setattr(upkeep, "Pace", lambda: PACE)
    async with opened(tmp_path, ledger, **{"wallets.upkeep": switched, "wallets.count": 2}) as keeping:
        stage = keeping.stage
        due = switched and state == "ACTIVE"
        shift(keeping, 0, 20_500 * SOL)
        verdict = (
            Allowed(1, PermitState.ACTIVE)
            if state == "ACTIVE"
            else Refused(RefusedBy.HALTED, "", PermitState.HALTED, 1)
        )
        health = Health("executor")
        context: Any = SimpleNamespace(
            config=stage.config,
            gate=SimpleNamespace(check=lambda: verdict),
            health=health,
            log=structlog.get_logger(),
            clock=wall_ns,
        )
        async with chain_venue(context):
            for _ in range(300 if due else 40):
                stage.advance()
                await asyncio.sleep(0.02)
                if b'outcome="done"} 1.0' in metrics_page(health)[0]:
                    break
            assert stage.node.calls["getLatestBlockhash"] > 0  # it was linked
        assert keeping.landed(WALLETS[0]) == 1 + due
        assert (b'outcome="done"} 1.0' in metrics_page(health)[0]) == due
