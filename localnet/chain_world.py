"""The offline market on a chain: genesis, stand-in programs, traders and a rival, advanced one slot at a time.

Traders trade by real transactions. What each of them gets must be what the exact math of the core says, and leave the
pool as the core leaves it: whatever differs is told (`Advance.differences`), and none may.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from localnet.chain.chain import Chain
from localnet.chain.faults import ChainFaults
from localnet.chain.records import Block, ChainRefusal, Record
from localnet.chain_genesis import FIRST_SLOT, TRADERS, WALLET_FUNDS, Funds, TraderRole, chain_genesis, traded
from localnet.chain_view import ChainAccount
from localnet.genesis import PROTOCOLS, GenesisPool, genesis
from localnet.market import Engine, Order, Trade, offline_engine
from localnet.oracle import EVERY_SLOTS
from localnet.programs import program_files
from localnet.publication import HeldState
from localnet.rival import Rival
from localnet.stake_pools import updated_account
from localnet.traders import Trader, swap_transaction, trader
from localnet.world import BEGINNING_NS, Advance
from markets.solana.pools import RawAccount
from markets.solana.transactions.lookup_tables import TABLE_PROGRAM, parse_table
from markets.tokens import Registry
from pipeline._core import Pool, QuoteError
from pipeline.clock import NS_PER_MS, NS_PER_S
from pipeline.ids import deterministic_id
from pipeline.messages import ExecutionResult, Protocol

HISTORY_SLOTS = 10_000
"""Slots whose transactions the chain remembers: about 250 MB of them."""


@dataclass(frozen=True, slots=True)
class ChainTerms:
    """What an offline chain begins with."""

    seed: int
    slot_ms: int
    first_slot: int = FIRST_SLOT
    wallets: int = 2
    funds: Funds = WALLET_FUNDS
    rival_chance: float = 0.0
    """Share of the slots that the rival looks at; 0: there is none."""
    traders: bool = True
    """False: nobody trades but who sends transactions from outside."""


@dataclass(slots=True)
class RivalTally:
    """What the rival did so far."""

    bids: int = 0
    won: int = 0


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which accounts a pool is read from, and which its swaps name beside them."""

    protocol: Protocol
    addresses: tuple[str, ...]
    balances: frozenset[str]
    """Of them, those whose lamports count."""
    mints: tuple[str, str]


@dataclass(slots=True)
class ChainWorld:
    """The chain's pools, slot and market time; the counterpart of `localnet.world.World`."""

    chain: Chain
    engine: Engine
    slot_ns: int
    slot: int
    """The last slot that is complete."""
    id: str
    pools: dict[str, HeldState]
    left_out: tuple[GenesisPool, ...]
    """Pools whose programs this chain has no stand-in for: they do not exist on it."""
    rival: Rival | None
    closing: bool = False
    trading: bool = True
    differences: int = 0
    """Trades that came out otherwise than the core's math says."""
    rivalry: RivalTally = field(default_factory=RivalTally)
    _layouts: dict[str, _Layout] = field(default_factory=dict)
    _read: dict[str, tuple[ChainAccount | None, ...]] = field(default_factory=dict)
    _now: dict[str, Pool] = field(default_factory=dict)
    _traders: dict[TraderRole, Trader] = field(default_factory=dict)
    _bundles: list[str] = field(default_factory=list)
    _trades: list[Trade] = field(default_factory=list)
    _told: list[str] = field(default_factory=list)

    @property
    def market_ns(self) -> int:
        """Return the market time of the last slot, ns: a function of the slot."""
        return BEGINNING_NS + (self.slot - FIRST_SLOT + 1) * self.slot_ns

    def result(self, result: ExecutionResult, *, applied: bool = False) -> None:
        """Do nothing: what was executed stands on the chain."""

    def advance(self, *, last: bool = False) -> Advance:
        """Go on by one slot: bundles and sent transactions land, then the traders trade.

        `last` begins the closing: what was sent still lands, traders and rival rest from now on.
        """
        self.closing = self.closing or last
        self._trades, self._told = [], []
        slot = self.slot + 1
        self.slot = slot
        self._update_stake_pools(slot)
        acting = self.trading and not self.closing
        block = self.chain.produce(self.market_ns // NS_PER_S, act=self._act if acting else None)
        changed = self._changed(block)
        self._count_rival()
        if self.rival is not None:
            for held in changed:
                self.rival.see(held.pool)
            if not self.closing:
                self._compete(self.rival)
        self.differences += len(self._told)
        return Advance(
            slot,
            self.market_ns,
            tuple(changed),
            tuple(self._trades),
            (),
            self.closing,
            differences=tuple(self._told),
            block=block,
        )

    def digest(self) -> str:
        """Return 32 hex digits over every account of the chain at its newest slot."""
        found = hashlib.blake2b(digest_size=16)
        for address, account in sorted(self.chain.views.newest.accounts.items()):
            found.update(repr((address, account)).encode())
        return found.hexdigest()

    # The traders

    def _act(self) -> None:
        """Let the traders trade, at the end of the block."""
        blockhash = self.chain.latest_blockhash("processed")[0]
        for address in sorted(self.pools):
            pool = self._present(address)
            for decide in self.engine.deciders(address):
                order = decide(pool, self.slot)
                if order is not None:
                    pool = self._carry_out(pool, order, blockhash)

    def _present(self, address: str) -> Pool:
        """Return a pool as the transactions so far have left it, at the time of the block under way."""
        held, clock = self.pools[address], (self.slot, self.market_ns // NS_PER_S)
        layout = self._layouts[address]
        read = tuple(map(self.chain.account, layout.addresses))
        pool = self._now.get(address)
        known = self._read[address]
        if pool is None or any(one is not other for one, other in zip(read, known, strict=True)):
            self._read[address] = read
            pool = self._parse(address, clock[0], held.write_version + 1, clock[1])
        elif pool.slot != clock[0]:
            pool = pool.at(clock[0], held.write_version + 1, clock[1])
        self._now[address] = pool
        return pool

    def _carry_out(self, pool: Pool, order: Order, blockhash: str) -> Pool:
        """Send an order as a transaction, and hold what came of it against the core; return the pool after it."""
        try:
            expected, quote = pool.swap(order.a_to_b, order.amount_in)
        except QuoteError:
            return pool
        label = (self.engine.seed, order.trader, self.slot - self.engine.origin, pool.address)
        who = self._traders["informed" if order.trader == "informed" else "noise"]
        transaction = swap_transaction(
            who,
            pool,
            Order(order.trader, order.a_to_b, quote.amount_in),
            least=quote.amount_out,
            accounts=self._known(pool.address),
            blockhash=blockhash,
            label=label,
        )
        try:
            record = self.chain.execute(transaction)
        except ChainRefusal as refusal:
            self._differs(pool, order, f"refused: {refusal.error}")
            return pool
        now = self._present(pool.address)
        if record.error is not None:
            self._differs(pool, order, f"failed: {record.error}, {_last_log(record)}")
        elif now != expected:
            self._differs(pool, order, "the pool is not what the core makes of it")
        else:
            self._trades.append(Trade(order.trader, pool.address, order.a_to_b, quote.amount_in, quote.amount_out))
        return now

    def _differs(self, pool: Pool, order: Order, what: str) -> None:
        kind = Protocol(int(pool.protocol)).name
        way = "a to b" if order.a_to_b else "b to a"
        self._told.append(f"{kind} {pool.address}, {order.amount_in} {way}: {what}")

    # The rival

    def _compete(self, rival: Rival) -> None:
        blockhash = self.chain.latest_blockhash("processed")[0]
        for bid in rival.bids(self.slot - self.engine.origin, self._known, blockhash):
            self._bundles.append(self.chain.send_bundle([bytes(bid.transaction)]))
            self.rivalry.bids += 1

    def _count_rival(self) -> None:
        statuses = [self.chain.bundle(id_) for id_ in self._bundles]
        self.rivalry.won += sum(status is not None and status.state == "Landed" for status in statuses)
        self._bundles.clear()

    # The pools

    def _changed(self, block: Block) -> list[HeldState]:
        """Take over the pools whose accounts this block changed, those that a fork changed back included."""
        changed: list[HeldState] = []
        for address, held in sorted(self.pools.items()):
            layout = self._layouts[address]
            if not any(one in block.written for one in layout.addresses):
                continue
            self._read[address] = tuple(map(self.chain.account, layout.addresses))
            version = held.write_version + 1
            pool = self._parse(address, block.slot, version, block.unix_time)
            self._now[address] = pool
            self.pools[address] = now = HeldState(pool, block.slot, version, self.market_ns)
            changed.append(now)
        return changed

    def _parse(self, address: str, slot: int, version: int, unix_time: int) -> Pool:
        layout = self._layouts[address]
        accounts: list[RawAccount] = []
        for name, account in zip(layout.addresses, self._read[address], strict=True):
            if account is None:
                continue
            if name in layout.balances:
                accounts.append((name, account.owner, account.data, account.lamports))
            else:
                accounts.append((name, account.owner, account.data))
        return Pool.parse(layout.protocol, address, accounts, slot, version, unix_time)

    def _known(self, address: str) -> Mapping[str, tuple[str, bytes]]:
        """Return what a swap with a pool is built from."""
        layout = self._layouts[address]
        found = ((name, self.chain.account(name)) for name in (*layout.addresses, *layout.mints))
        return {name: (account.owner, account.data) for name, account in found if account is not None}

    def _update_stake_pools(self, slot: int) -> None:
        """Have every stake pool updated that is of another epoch, as somebody does at the start of every epoch."""
        for address, layout in self._layouts.items():
            account = self.chain.account(address)
            if layout.protocol == Protocol.SPL_STAKE_POOL and account is not None:
                data = updated_account(account.data, slot)
                if data != account.data:
                    self.chain.put(address, ChainAccount(account.owner, data, account.lamports))

    def _list(self, made: Iterable[GenesisPool]) -> None:
        before = self.slot
        for pool in made:
            addresses = tuple(account[0] for account in pool.accounts)
            balances = frozenset(account[0] for account in pool.accounts if len(account) == 4)
            mints = (pool.pair.base.mint, pool.pair.quote.mint)
            self._layouts[pool.address] = _Layout(PROTOCOLS[pool.venue], addresses, balances, mints)
            self._read[pool.address] = tuple(map(self.chain.account, addresses))
            parsed = self._parse(pool.address, before, 0, self.market_ns // NS_PER_S)
            self.pools[pool.address] = HeldState(parsed, before, 0, self.market_ns)
            if self.rival is not None:
                self.rival.see(parsed)


def open_chain(
    registry: Registry,
    terms: ChainTerms,
    *,
    programs: Mapping[str, bytes] | None = None,
    faults: ChainFaults | None = None,
) -> ChainWorld:
    """Return an offline chain whose first slot is still to come.

    `programs` are the stand-ins by program id; None: all that there are. Pools of other programs are left out.
    """
    stand_ins = program_files() if programs is None else programs
    before = terms.first_slot - 1
    id_ = deterministic_id("chain", terms.seed, terms.first_slot, *sorted(stand_ins))
    origin = before - before % EVERY_SLOTS
    engine, _ = offline_engine(registry, terms.seed, origin=origin)
    kept, left = traded(genesis(registry, terms.seed), stand_ins)
    chain = Chain(
        name=id_,
        first_slot=before,
        unix_time=(BEGINNING_NS + (before - FIRST_SLOT + 1) * terms.slot_ms * NS_PER_MS) // NS_PER_S,
        slot_ms=terms.slot_ms,
        faults=faults,
        history_slots=HISTORY_SLOTS,
    )
    for address, elf in stand_ins.items():
        chain.add_program(address, elf)
    accounts = chain_genesis(
        registry,
        terms.seed,
        wallets=terms.wallets,
        funds=terms.funds,
        programs=stand_ins,
        slot=terms.first_slot,
    )
    for address, account in accounts:
        chain.put(address, account)
    world = ChainWorld(
        chain=chain,
        engine=engine,
        slot_ns=terms.slot_ms * NS_PER_MS,
        slot=before,
        id=id_,
        pools={},
        left_out=tuple(left),
        rival=_rival(terms, accounts) if terms.rival_chance else None,
        trading=terms.traders,
    )
    world._traders = {role: trader(terms.seed, role) for role in TRADERS}
    world._list(kept)
    return world


def _rival(terms: ChainTerms, accounts: Sequence[tuple[str, ChainAccount]]) -> Rival:
    tables = [
        parse_table(address, account.owner, account.data)
        for address, account in accounts
        if account.owner == TABLE_PROGRAM
    ]
    return Rival(terms.seed, trader(terms.seed, "rival"), terms.rival_chance, tables)


def _last_log(record: Record) -> str:
    return record.logs[-1] if record.logs else "no logs"
