"""A chain with its services in this process, and the executor's venue in front of it. Slots pass by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import base58
from solders.compute_budget import ID as COMPUTE_BUDGET
from solders.compute_budget import set_compute_unit_price
from solders.instruction import CompiledInstruction
from solders.message import MessageV0
from solders.transaction import VersionedTransaction

from localnet.chain.faults import ChainFaults
from localnet.chain_world import ChainTerms, ChainWorld, open_chain
from localnet.market import Order
from localnet.publication import Publication
from localnet.rpc_node import RpcNode
from localnet.traders import swap_transaction, trader
from markets.limits import TokenBucket
from markets.solana.landing.engine import FLOOR_PATH, BlockEngine, EngineSettings
from markets.solana.landing.link import ChainLink
from markets.solana.landing.prepare import ChainPrepared
from markets.solana.landing.settings import LandingSettings
from markets.solana.landing.venue import ChainVenue
from markets.solana.rpc.endpoint import EndpointSettings
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import PoolSettings
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.wallets.keys import KeySigner, offline_keypair
from markets.solana.wallets.lanes import Lanes, LaneSettings
from markets.tokens import SOL_MINT, load_registry
from markets.venue import Landing, NotPrepared, Prepared, Recovery, tried_out
from pipeline._core import Pool
from pipeline.ids import deterministic_id
from pipeline.messages import ExecutionPlan, Leg, Mode, Protocol

REGISTRY = load_registry()
SEED = 1
QUICK = PoolSettings(
    timeout_s=1.0, deadline_s=2.0, attempts=6, backoff_s=0.02, backoff_max_s=0.1, commitment="processed"
)


class LandingStage:
    """What a landing needs, and what happens meanwhile."""

    def __init__(self, *, wallets: int = 2, nodes: int = 1, **settings: Any) -> None:
        self.world: ChainWorld = open_chain(
            REGISTRY, ChainTerms(SEED, 100, wallets=wallets, traders=False), faults=ChainFaults()
        )
        self.chain = self.world.chain
        self.nodes = [RpcNode(self.chain) for _ in range(nodes)]
        self.publication = Publication("market")
        self.settings = LandingSettings(**({"rebroadcast_s": 0.05} | settings))
        self.halted = False
        self.warnings: list[str] = []
        self.signers = [KeySigner(offline_keypair(SEED, index)) for index in range(wallets)]
        self.wallets = [signer.address for signer in self.signers]
        self.urls: list[str] = []

    @classmethod
    @asynccontextmanager
    async def opened(cls, **settings: Any) -> AsyncIterator[LandingStage]:
        """Yield a stage whose services answer."""
        stage = cls(**settings)
        stage.urls = [await node.start() for node in stage.nodes]
        try:
            yield stage
        finally:
            for node in stage.nodes:
                await node.stop()

    def a_venue(self, **more: Any) -> ChainVenue:
        """Return a venue as a fresh process has it."""
        return ChainVenue(
            Mode.LOCALNET,
            self.settings,
            Lanes(self.wallets, LaneSettings(16, 20_000_000)),
            {signer.address: signer for signer in self.signers},
            mints=[token.mint for token in REGISTRY.tokens],
            allowed=lambda: not self.halted,
            wall_ns=time.time_ns,
            warn=self.warnings.append,
            link_wait_s=0.2,
            **more,
        )

    @asynccontextmanager
    async def linked(self, bucket: TokenBucket | None = None) -> AsyncIterator[ChainVenue]:
        """Yield a venue that knows the market and is linked to the chain."""
        venue = self.a_venue()
        rpc = RpcPool([EndpointSettings(url, rate_per_s=10_000.0, burst=10_000) for url in self.urls], QUICK)
        url = self.urls[0]
        engine = BlockEngine(EngineSettings(url, url + FLOOR_PATH, timeout_s=0.5), bucket)
        link = ChainLink(rpc, engine, self.settings, wallets=self.wallets, slot=lambda: venue.slot, look_s=0.2)
        async with link:
            self.told = venue
            for held in self.world.pools.values():
                venue.take_pool(self.publication.keyframe(held, 0))
            venue.load([], self._update(0, self.world.slot, self.world.market_ns))
            await venue.link(link)
            self.step()
            yield venue

    def _update(self, changed: int, slot: int, market_ns: int) -> Any:
        return self.publication.slot(slot, market_ns, 0, market=self.world.id, pools_changed=changed, closing=False)

    def step(self) -> None:
        """Let one slot pass, and tell everybody."""
        advance = self.world.advance()
        assert advance.block is not None
        for node in self.nodes:
            node.told(advance.block)
        for held in advance.changed:
            self.told.take_pool(self.publication.change(held, 0))
        self.told.take_slot(self._update(len(advance.changed), advance.slot, advance.market_ns))

    def fork(self, slots: int) -> None:
        """Take back the newest blocks."""
        self.chain.rollback(slots)

    async def a_linked_recover(self, plan: ExecutionPlan, reference: str) -> Recovery:
        """Ask once, as a fresh process does."""
        async with self.linked() as venue:
            return await venue.recover(plan, reference)

    async def steps(self, count: int = 1, pause_s: float = 0.03) -> None:
        """Let slots pass, with time for those who look."""
        for _ in range(count):
            self.step()
            await asyncio.sleep(pause_s)

    async def until(self, landing: asyncio.Future[Landing], *, slots: int = 12, pause_s: float = 0.05) -> Landing:
        """Let slots pass until it is known what became of a submission."""
        for _ in range(slots):
            if landing.done():
                break
            await self.steps(1, pause_s)
        return await asyncio.wait_for(landing, 5.0)

    # The market

    def pools_of(self, symbol: str, *protocols: Protocol) -> list[Pool]:
        """Return the pools of a token against SOL, in the order of the protocols asked for."""
        mint = REGISTRY.by_symbol[symbol].mint
        found = [
            held.pool
            for held in self.world.pools.values()
            if {held.pool.token_a, held.pool.token_b} == {SOL_MINT, mint}
        ]
        return [next(pool for pool in found if pool.protocol == protocol) for protocol in protocols]

    def swap(self, pool: Pool, token_in: str, amount: int, *, price: int = 0) -> None:
        """Have somebody else swap in the next block, in its place by a priority price in micro-lamports."""
        order = Order("noise", token_in == pool.token_a, amount)
        transaction = swap_transaction(
            trader(SEED, "noise"),
            pool,
            order,
            least=0,
            accounts=self.world._known(pool.address),
            blockhash=self.chain.latest_blockhash("processed")[0],
            label=(SEED, self.chain.slot, amount),
        )
        if price:
            transaction = _priced(transaction, price)
        self.chain.send(bytes(transaction))

    async def gap(self, symbol: str = "JupSOL", lamports: int = 60 * 10**9) -> tuple[Pool, Pool]:
        """Make a token dear in one pool by buying there; return (where it is cheap, where it is dear)."""
        cheap, dear = self.pools_of(symbol, Protocol.WHIRLPOOL, Protocol.RAYDIUM_CPMM)
        self.swap(dear, SOL_MINT, lamports)
        await self.steps(1)
        pools = self.world.pools
        return pools[cheap.address].pool, pools[dear.address].pool

    def plan(self, cheap: Pool, dear: Pool, number: int = 1, amount: int = 2 * 10**9, **changes: Any) -> ExecutionPlan:
        """A cycle token -> other -> token as the planner would write it: SOL, unless `start` says otherwise."""
        start = changes.pop("start", SOL_MINT)
        other = cheap.token_b if cheap.token_a == start else cheap.token_a
        bought = cheap.quote_in(cheap.token_a == start, amount).amount_out
        sold = dear.quote_in(dear.token_a == other, bought).amount_out
        tip = changes.get("tip", 100_000)
        cost = changes.pop("cost", 5_000 + 10_000 + tip)
        least = changes.pop("min_amount_out", amount + cost)
        opportunity = deterministic_id("opportunity", number)
        fields: dict[str, Any] = {
            "id": deterministic_id("outcome", opportunity),
            "correlation_id": opportunity,
            "causation_id": opportunity,
            "created_ns": 1,
            "producer": "planner",
            "mode": Mode.LOCALNET,
            "token": start,
            "amount_in": amount,
            "expected_amount_out": sold,
            "min_amount_out": least,
            "expected_profit": sold - amount - cost,
            "base_fee": 5_000,
            "priority_fee": 10_000,
            "tip": tip,
            "cost": cost,
            "confidence": 0.9,
            "slot": self.world.slot,
            "planned_ns": self.world.market_ns,
            "expires_ns": self.world.market_ns + 10 * self.world.slot_ns,
            "permit_epoch": 1,
            "legs": [
                _leg(cheap, start, other, amount, bought, bought),
                _leg(dear, other, start, bought, sold, least),
            ],
        }
        return ExecutionPlan(**(fields | changes))

    async def submitted(self, venue: ChainVenue, plan: ExecutionPlan) -> tuple[ChainPrepared, asyncio.Future[Landing]]:
        """Prepare and submit a plan that can be."""
        ready = await self.prepared(venue, plan)
        assert isinstance(ready, ChainPrepared), ready
        asked = sum(sum(node.calls.values()) for node in self.nodes)
        landing = venue.submit(plan, ready)
        for _ in range(100):
            if sum(sum(node.calls.values()) for node in self.nodes) > asked:
                break
            await asyncio.sleep(0.005)
        return ready, landing

    async def prepared(self, venue: ChainVenue, plan: ExecutionPlan) -> Prepared | NotPrepared:
        """Prepare a plan, and wait for its simulation as the executor does."""
        ready = await venue.prepare(plan)
        tried = await tried_out(ready) if isinstance(ready, Prepared) else ready
        if isinstance(ready, Prepared) and not isinstance(tried, Prepared):
            venue.withdraw(ready)
        return tried

    async def refused(self, venue: ChainVenue, plan: ExecutionPlan) -> NotPrepared:
        """Prepare a plan that cannot be."""
        ready = await self.prepared(venue, plan)
        assert not isinstance(ready, Prepared), ready
        return ready

    def wealth(self) -> int:
        """Return the lamports of all wallets, their token accounts included, final or not."""
        total = 0
        for address, account in self.chain.views.newest.accounts.items():
            owner = str_of(account.data[32:64]) if len(account.data) == 165 else address
            total += account.lamports if owner in self.wallets else 0
        return total

    def holding(self, mint: str) -> int:
        """Return what all wallets hold of a token in their associated accounts, base units."""
        held = (self.chain.account(associated_address(wallet, mint)) for wallet in self.wallets)
        return sum(int.from_bytes(account.data[64:72], "little") for account in held if account is not None)


def _priced(transaction: VersionedTransaction, price: int) -> VersionedTransaction:
    """Return the trader's transaction with another price, signed again."""
    message = transaction.message
    instructions = [
        CompiledInstruction(one.program_id_index, bytes(set_compute_unit_price(price).data), bytes(one.accounts))
        if one.data[:1] == b"\x03" and str(message.account_keys[one.program_id_index]) == str(COMPUTE_BUDGET)
        else one
        for one in message.instructions
    ]
    priced = MessageV0(
        message.header, message.account_keys, message.recent_blockhash, instructions, message.address_table_lookups
    )
    return VersionedTransaction(priced, [trader(SEED, "noise").key])


def str_of(raw: bytes) -> str:
    return str(base58.b58encode(raw).decode())


def _leg(pool: Pool, token_in: str, token_out: str, amount_in: int, amount_out: int, least: int) -> Leg:
    return Leg(
        pool=pool.address,
        protocol=Protocol(int(pool.protocol)),
        token_in=token_in,
        token_out=token_out,
        amount_in=amount_in,
        amount_out=amount_out,
        min_amount_out=least,
    )
