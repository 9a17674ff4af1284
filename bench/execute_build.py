"""Building alone: cycles over two Whirlpools with a tip and lookup tables, ours and naively, the same bytes' worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.transaction import VersionedTransaction

from bench.execute_baseline import naive_message, resolved
from bench.report import Row, row
from localnet.chain_genesis import chain_genesis
from localnet.genesis import genesis
from markets.solana.transactions.cycle import CycleOrder, build_cycle, transaction_bytes
from markets.solana.transactions.lookup_tables import TABLE_PROGRAM, parse_table
from markets.solana.transactions.tips import TIP_ACCOUNTS
from markets.solana.venues import Accounts, whirlpool
from markets.solana.wallets.keys import offline_keypair
from markets.tokens import load_registry
from pipeline.messages import Leg, Protocol

SEED = 1
ROUNDS = 60
GOAL_US = 300.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What cycles are built from."""

    wallet: Keypair
    accounts: Accounts
    tables: list[AddressLookupTableAccount]
    pairs: list[tuple[str, str]]
    """Two Whirlpools of the same tokens each."""

    @classmethod
    def prepared(cls) -> Bench:
        """Take the pools and tables of the offline chain."""
        registry = load_registry()
        chain = chain_genesis(registry, SEED)
        by_pair: dict[str, list[str]] = {}
        for pool in genesis(registry, SEED):
            if pool.venue == "whirlpool":
                by_pair.setdefault(pool.pair.name, []).append(pool.address)
        return cls(
            offline_keypair(SEED, 0),
            {address: (account.owner, account.data) for address, account in chain},
            [parse_table(address, one.owner, one.data) for address, one in chain if one.owner == TABLE_PROGRAM],
            [(some[0], some[1]) for some in by_pair.values()],
        )

    def orders(self, rounds: int) -> Iterator[CycleOrder]:
        """Yield cycles over every pair, both ways, each with other amounts."""
        for number in range(rounds):
            for one, other in self.pairs:
                first, second = (one, other) if number % 2 else (other, one)
                start, middle = whirlpool.mints(self.accounts[one][1])[:: 1 if number % 4 < 2 else -1]
                amount = 10**9 + number
                yield CycleOrder(
                    legs=(
                        _leg(first, start, middle, amount),
                        _leg(second, middle, start, amount - 5),
                    ),
                    token=start,
                    amount_in=amount,
                    min_amount_out=amount + 120_000,
                    wallet=str(self.wallet.pubkey()),
                    compute_limit=200_000 + number,
                    micro_lamports=20_000,
                    tip=100_000 + number,
                    tip_account=TIP_ACCOUNTS[number % len(TIP_ACCOUNTS)],
                )  # fmt: skip


Build = Callable[[CycleOrder], MessageV0]


def quantile(values: list[float], share: float) -> float:
    """Return a quantile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(rounds: int = ROUNDS) -> list[Row]:
    """Build every cycle both ways, one after the other; what both execute must be the same."""
    bench = Bench.prepared()
    blockhash = str(Hash(bytes(range(32))))

    def ours(order: CycleOrder) -> MessageV0:
        return build_cycle(order, bench.accounts, bench.tables, blockhash)

    def naive(order: CycleOrder) -> MessageV0:
        return naive_message(order, bench.accounts, bench.tables, blockhash)

    for order in bench.orders(1):  # the first cycle over a pool derives its addresses, once
        ours(order)
    mine: list[float] = []
    others: list[float] = []
    whole: list[float] = []
    sizes = []
    for order in bench.orders(rounds):
        taken, message = _timed(ours, order)
        taken_naive, expected = _timed(naive, order)
        assert resolved(message, bench.tables) == resolved(expected, bench.tables)
        mine.append(taken)
        others.append(taken_naive)
        sizes.append(transaction_bytes(message))
        begun = perf_counter_ns()
        message = ours(order)
        signature = bench.wallet.sign_message(to_bytes_versioned(message))
        raw = bytes(VersionedTransaction.populate(message, [signature]))
        whole.append((perf_counter_ns() - begun) / 1e3)
        assert len(raw) == sizes[-1]
    name = "two-leg cycle with tip and lookup tables"
    middle, baseline = median(mine), median(others)
    return [
        row(f"{name}, median", "us", middle, "naively with solders", baseline, goal=f"<= {GOAL_US:.0f} us",
            met=middle <= GOAL_US),
        row(f"{name}, p99", "us", quantile(mine, 0.99), "naively with solders", quantile(others, 0.99)),
        row("the same, signed and serialised, median", "us", median(whole)),
        row("size of the transaction, largest", "bytes", max(sizes), goal="<= 1,232 bytes", met=max(sizes) <= 1_232),
    ]  # fmt: skip


def _leg(pool: str, token_in: str, token_out: str, amount_in: int) -> Leg:
    return Leg(pool=pool, protocol=Protocol.WHIRLPOOL, token_in=token_in, token_out=token_out, amount_in=amount_in)


def _timed(build: Build, order: CycleOrder) -> tuple[float, MessageV0]:
    begun = perf_counter_ns()
    message = build(order)
    return (perf_counter_ns() - begun) / 1e3, message
