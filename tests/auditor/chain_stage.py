"""An auditor's chain desk over a real offline chain: the chain, its node, books, and what was published."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from localnet.chain.records import Record
from localnet.chain_genesis import trader_keypair
from localnet.chain_world import ChainTerms, ChainWorld, open_chain
from localnet.market import Order
from localnet.rpc_node import RpcNode
from localnet.traders import swap_transaction, trader
from markets.solana.rpc.endpoint import offline_endpoint
from markets.solana.rpc.pool import RpcPool
from markets.solana.transactions.cycle import CycleOrder, build_cycle
from markets.solana.transactions.fees import priority_fee
from markets.solana.transactions.keys import pubkey
from markets.solana.transactions.lookup_tables import TABLE_PROGRAM, parse_table
from markets.solana.transactions.tips import TIP_ACCOUNTS
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.venues import VENUES, Accounts
from markets.solana.venues.shape import TOKEN_PROGRAM
from markets.solana.wallets import offline_keypair
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline import run_files
from pipeline._core import Pool
from pipeline.clock import wall_ns
from pipeline.config import Config, load_config
from pipeline.ids import deterministic_id
from pipeline.ledger import Entry, Ledger, PlanEntry, Span, SubmissionEntry
from pipeline.messages import (
    Anomaly,
    ExecutionPlan,
    ExecutionResult,
    ExecutionStatus,
    ExecutionSubmitted,
    Fill,
    Leg,
    Message,
    Mode,
    Protocol,
    Reconciliation,
)
from workers.auditor.chain import ChainDesk
from workers.auditor.chain_reader import Reader
from workers.auditor.desk import Desk
from workers.auditor.endpoints import Endpoints
from workers.auditor.valuation import value_of

SEED = 5
KEYS = [offline_keypair(SEED, 0), offline_keypair(SEED, 1)]
WALLETS = [str(one.pubkey()) for one in KEYS]
STRANGER = trader_keypair(SEED, "noise")
LIMIT, PRICE, TIP = 500_000, 10_000, 150_000
FEE = 5_000 + priority_fee(LIMIT, PRICE)
AMOUNT = 3 * 10**9
AMOUNT_USDC, COST_USDC = 400_000_000, 24_000
FINAL = 33


class FakeBus:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.published: list[Message] = []
        self.counters = SimpleNamespace(received=0, handled=0, latencies_ns=[])

    async def publish(self, message: Message) -> None:
        self.published.append(message)

    def publish_soon(self, message: Message) -> asyncio.Future[None]:
        self.published.append(message)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


@dataclass
class ChainStage:
    """Nobody trades but the test; every pass of the auditor is asked for."""

    world: ChainWorld
    node: RpcNode
    ledger: Ledger
    config: Config
    rpc: RpcPool
    url: str
    bus: FakeBus = field(default_factory=FakeBus)
    sequence: int = 0

    def __post_init__(self) -> None:
        self.auditor()

    def auditor(self) -> None:
        """A new auditor's process, as far as its memory goes."""
        self.desk = Desk(self.bus, self.ledger, producer="auditor", wall_ns=wall_ns)
        health = SimpleNamespace(degraded=self._degraded, recovered=lambda **_: None)
        log = SimpleNamespace(warning=lambda *_, **__: None)
        self.context: Any = SimpleNamespace(config=self.config, health=health, log=log)
        self.chain_desk = ChainDesk(self.context, self.desk, self.ledger, WALLETS)
        self.reader = Reader(self.rpc, WALLETS, Endpoints(self.config).instance)
        self.problems: list[str] = []

    def _degraded(self, detail: str, **_: object) -> None:
        self.problems.append(detail)

    def desk_tokens(self) -> None:
        """Name the tokens, as an auditor does at its start."""
        self.ledger.name_tokens([(one.mint, one.symbol, one.decimals) for one in load_registry().tokens])

    # The chain

    def advance(self, slots: int = 1) -> None:
        for _ in range(slots):
            step = self.world.advance()
            assert step.block is not None
            self.node.told(step.block)

    def send(self, instructions: Sequence[Instruction], *signers: Keypair) -> str:
        """Send a transaction of the first signer, and produce its slot."""
        blockhash = Hash.from_string(self.world.chain.latest_blockhash("processed")[0])
        message = MessageV0.try_compile(signers[0].pubkey(), list(instructions), [], blockhash)
        signature = self.world.chain.send(bytes(VersionedTransaction(message, list(signers))), preflight=False)
        self.advance()
        return signature

    def record(self, signature: str) -> Record:
        found = self.world.chain.record(signature, "processed")
        assert found is not None
        return found

    def pool(self, protocol: Protocol) -> Pool:
        """A pool of SOL and USDC as it is now."""
        return next(
            one.pool
            for _, one in sorted(self.world.pools.items())
            if int(one.pool.protocol) == protocol and {one.pool.token_a, one.pool.token_b} == {SOL_MINT, USDC_MINT}
        )

    def known(self, *pools: Pool) -> Accounts:
        found: dict[str, tuple[str, bytes]] = {}
        for pool in pools:
            account = self.world.chain.account(pool.address)
            assert account is not None
            needed = VENUES[Protocol(int(pool.protocol))].accounts_needed(pool.address, account.data, {})
            for address in (pool.address, *(need.address for need in needed)):
                if (one := self.world.chain.account(address)) is not None:
                    found[address] = one.owner, one.data
        return found

    def trade(self, pool: Pool, a_to_b: bool, amount: int, who: str = "noise") -> str:
        """Somebody else's swap."""
        blockhash = self.world.chain.latest_blockhash("processed")[0]
        label = (amount, self.world.slot)
        order = Order(who, a_to_b, amount)
        made = swap_transaction(
            trader(SEED, who),
            pool,
            order,
            least=1,
            accounts=self.known(pool),
            blockhash=blockhash,
            label=label,
        )
        signature = self.world.chain.send(bytes(made))
        self.advance()
        return signature

    # Plans

    def plan(self, number: int = 1, token: str = SOL_MINT) -> ExecutionPlan:
        """A gap is opened, and a plan made for it: SOL is sold where it is dear, and bought where it is cheap."""
        dear = Protocol.RAYDIUM_AMM_V4
        pool = self.pool(dear)
        usdc = pool.token_a == USDC_MINT
        self.trade(pool, usdc, pool.quote_in(not usdc, 10**9).amount_out * 200)
        pool, cheap = self.pool(dear), self.pool(Protocol.RAYDIUM_CPMM)
        first, second = (pool, cheap) if token == SOL_MINT else (cheap, pool)
        other, amount = (USDC_MINT, AMOUNT) if token == SOL_MINT else (SOL_MINT, AMOUNT_USDC)
        middle = first.quote_in(first.token_a == token, amount).amount_out
        out = second.quote_in(second.token_a == other, middle).amount_out
        legs = [
            Leg(pool=first.address, protocol=Protocol(int(first.protocol)), token_in=token, token_out=other,
                amount_in=amount, amount_out=middle),
            Leg(pool=second.address, protocol=Protocol(int(second.protocol)), token_in=other, token_out=token,
                amount_in=middle, amount_out=out),
        ]  # fmt: skip
        lamports = FEE + TIP
        cost = lamports if token == SOL_MINT else COST_USDC
        plan = ExecutionPlan(
            id=deterministic_id("plan", number),
            correlation_id=deterministic_id("opportunity", number),
            created_ns=wall_ns(),
            producer="planner",
            mode=Mode.LOCALNET,
            token=token,
            amount_in=amount,
            expected_amount_out=out,
            min_amount_out=amount + cost,
            expected_profit=out - amount - cost,
            base_fee=5_000,
            priority_fee=FEE - 5_000,
            tip=TIP,
            cost=cost,
            slot=self.world.slot,
            legs=legs,
        )
        position = self.ledger.position("PLANNED", "then")
        self.ledger.book_plans([PlanEntry(number, plan)], Span("then", position, position + 1))
        return plan

    def transaction(self, plan: ExecutionPlan, wallet: int = 0) -> VersionedTransaction:
        order = CycleOrder(
            legs=plan.legs,
            token=plan.token,
            amount_in=plan.amount_in,
            min_amount_out=plan.min_amount_out,
            wallet=WALLETS[wallet],
            compute_limit=LIMIT,
            micro_lamports=PRICE,
            tip=TIP,
            tip_account=TIP_ACCOUNTS[1],
        )
        tables = [
            parse_table(address, account.owner, account.data)
            for address, account in self.world.chain.views.newest.accounts.items()
            if account.owner == TABLE_PROGRAM
        ]
        blockhash = self.world.chain.latest_blockhash("processed")[0]
        pools = [
            one.pool
            for _, one in sorted(self.world.pools.items())
            if one.pool.address in {leg.pool for leg in plan.legs}
        ]
        message = build_cycle(order, self.known(*pools), tables, blockhash)
        return VersionedTransaction.populate(message, [KEYS[wallet].sign_message(to_bytes_versioned(message))])

    def submitted(self, plan: ExecutionPlan, signature: str, wallet: int = 0) -> ExecutionSubmitted:
        return ExecutionSubmitted(
            id=deterministic_id("submitted", plan.id),
            correlation_id=plan.correlation_id,
            causation_id=plan.id,
            created_ns=wall_ns(),
            producer="executor",
            plan_id=plan.id,
            mode=Mode[self.config.executor.mode.upper()],
            signature=signature,
            wallet=WALLETS[wallet],
            last_valid_block_height=self.world.chain.block_height + 60,
            token=plan.token,
            slot=self.world.slot,
        )

    def result(self, plan: ExecutionPlan, signature: str, status: ExecutionStatus, **changes: Any) -> ExecutionResult:
        """What an honest executor tells; a cycle that came out as planned where it was filled."""
        filled = status == ExecutionStatus.FILLED
        paid = status in (ExecutionStatus.FILLED, ExecutionStatus.REVERTED)
        amounts = (plan.amount_in, plan.expected_amount_out) if filled else (0, 0)
        fees = (5_000, FEE - 5_000) if paid else (0, 0)
        tip = TIP if filled else 0
        cost = sum(fees) + tip if plan.token == SOL_MINT else plan.cost if paid else 0
        fills = [
            Fill(pool=leg.pool, protocol=leg.protocol, token_in=leg.token_in, token_out=leg.token_out,
                 amount_in=leg.amount_in, amount_out=leg.amount_out, expected_amount_out=leg.amount_out)
            for leg in plan.legs
        ]  # fmt: skip
        fields: dict[str, Any] = {
            "id": deterministic_id("result", plan.id),
            "correlation_id": plan.correlation_id,
            "causation_id": plan.id,
            "created_ns": wall_ns(),
            "finished_ns": wall_ns(),
            "producer": "executor",
            "plan_id": plan.id,
            "status": status,
            "mode": Mode.LOCALNET,
            "token": plan.token,
            "amount_in": amounts[0],
            "amount_out": amounts[1],
            "gross_profit": amounts[1] - amounts[0],
            "base_fee": fees[0],
            "priority_fee": fees[1],
            "tip": tip,
            "cost": cost,
            "net_profit": amounts[1] - amounts[0] - cost,
            "expected_profit": plan.expected_profit,
            "slot": self.world.slot,
            "fills": fills if filled else [],
            "signature": signature,
            "wallet": WALLETS[0],
            "last_valid_block_height": self.world.chain.block_height + 60,
            "sol_price_usd_e6": 150_000_000,
        }
        return ExecutionResult(**(fields | changes))

    def book(self, *messages: ExecutionResult | ExecutionSubmitted) -> None:
        """Book messages as if they stood next in EXECUTED."""
        for message in messages:
            span = Span("then", self.sequence, self.sequence + 1)
            self.sequence += 1
            if isinstance(message, ExecutionResult):
                self.ledger.book([Entry(self.sequence, message)], span, value_of)
            else:
                self.ledger.book([], span, value_of, [SubmissionEntry(self.sequence, message)])

    # The auditor

    async def audit(self) -> dict[str, Reconciliation]:
        """One pass after everything has become final; what was told about each token by then."""
        self.advance(FINAL)
        return await self.look()

    async def look(self) -> dict[str, Reconciliation]:
        """One pass, now."""
        await self.chain_desk.look(self.reader)
        told: dict[str, Reconciliation] = {}
        for message in self.bus.published:
            if isinstance(message, Reconciliation):
                told[message.token] = message
        return told

    def anomalies(self) -> list[Anomaly]:
        return [message for message in self.bus.published if isinstance(message, Anomaly)]

    def holdings(self, token: str, wallets: Sequence[str] = WALLETS, commitment: Any = "finalized") -> int:
        """What the wallets hold, read from the chain itself."""
        accounts = self.world.chain.views.by(commitment).accounts
        held = 0
        for address, account in accounts.items():
            if account.owner == TOKEN_PROGRAM and len(account.data) < 165:
                continue  # a mint
            if token == SOL_MINT and address in wallets:
                held += account.lamports
            elif (
                account.owner == TOKEN_PROGRAM
                and len(account.data) >= 165
                and str(pubkey_at(account.data, 32)) in wallets
            ):
                if token == SOL_MINT:
                    held += account.lamports
                elif str(pubkey_at(account.data, 0)) == token:
                    held += int.from_bytes(account.data[64:72], "little")
        return held


def pubkey_at(data: bytes, offset: int) -> Pubkey:
    return Pubkey.from_bytes(data[offset : offset + 32])


def send_tokens(source: str, target: str, amount: int, mint: str = USDC_MINT, decimals: int = 6) -> Instruction:
    """A transfer between the associated accounts of two wallets."""
    names = [(associated_address(source, mint), True), (mint, False), (associated_address(target, mint), True)]
    metas = [AccountMeta(pubkey(name), is_signer=False, is_writable=writable) for name, writable in names]
    metas.append(AccountMeta(pubkey(source), is_signer=True, is_writable=False))
    return Instruction(pubkey(TOKEN_PROGRAM), b"\x0c" + amount.to_bytes(8, "little") + bytes([decimals]), metas)


@asynccontextmanager
async def chain_stage(tmp_path: Any, ledger: Ledger, **settings: object) -> AsyncIterator[ChainStage]:
    """A chain that is served, with its run file."""
    config = load_config(
        {
            "worker.run_dir": str(tmp_path / "run"),
            "worker.data_dir": str(tmp_path / "data"),
            "executor.mode": "localnet",
            "auditor.plan_grace_s": 0.001,
            "market.seed": SEED,
            **settings,
        },
        environment={},
    )
    world = open_chain(load_registry(), ChainTerms(SEED, 400, traders=False))
    node = RpcNode(world.chain)
    url = await node.start()
    announce(config, url)
    stage = None
    try:
        async with Endpoints(config).open((offline_endpoint(url),)) as pool:
            stage = ChainStage(world, node, ledger, config, pool, url)
            yield stage
    finally:
        await (stage.node if stage is not None else node).stop()


def announce(config: Config, url: str) -> None:
    """Write the run file as the market does."""
    run_files.write(config, run_files.RunFile("localnet", os.getpid(), wall_ns(), url, ready=True))
