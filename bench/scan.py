"""Scan: from a commit of the quote core to the profitable cycles of two and three legs, among the recorded pools.

Ours does what the scanner does when it wakes: it asks the cursor of the quote table which pools changed, reads the
changed pool's snapshot from shared memory, puts it into the search and searches the cycles that touch it. The baseline
is plain Python: the same pools (the tests' own implementation), the same rule (marginal prices first, then bisection on
the profit of a little more), the same cycles but for dust; it reads no shared memory. Run with a snapshot named:

    PIPELINE_MARKET__RECORDED_PATH=.../whirlpool-snapshot-152927999.csv.gz pipeline bench scan
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from types import ModuleType

import base58

from bench.report import Report, Row, row
from markets.solana.pools import Candidate, Pool, Searcher
from markets.solana.snapshot import PoolAccounts, SnapshotError, load_snapshot
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.config import load_config
from pipeline.errors import BadData
from pipeline.shm import PoolBlobTable, PoolBlobWriter, QuoteTable, QuoteTableWriter

ROUNDS = 15
PYTHON_ROUNDS = 2
QUOTES = 2_000
DUST = 100
"""A profit of fewer base units may be missed by the baseline."""
AMOUNTS = 3
GOAL_US = 50.0
MAXIMUM = {SOL_MINT: 100 * 10**9, USDC_MINT: 10_000 * 10**6}


def run() -> Report:
    """Measure; the cycles found by both must be the same."""
    recorded = recorded_pools()
    pools = [Pool.parse(item.protocol, item.address, list(item.accounts), item.slot, 0, 0) for item in recorded]
    plain = _Plain(recorded)
    place = Path("/dev/shm")
    with TemporaryDirectory(prefix="pipeline-bench-", dir=place if place.is_dir() else None) as folder:
        world = _World(Path(folder), pools)
        ours_us = [
            _median_us(partial(world.scan, number), ROUNDS, partial(world.change, number))
            for number in range(len(pools))
        ]
        world.take_all()
        whole_us = _median_us(world.searcher.search, ROUNDS * 5)
        found = world.searcher.search()
        examined = world.searcher.examined
    deepest = max(found[0].legs, key=lambda leg: leg.amount_in).pool_id - 1
    busiest = max(range(len(pools)), key=lambda number: ours_us[number])
    python_busiest_us = _median_us(partial(plain.search, busiest), PYTHON_ROUNDS)
    started = perf_counter_ns()
    theirs = {tuple(recorded[number].address for number in way) for way in plain.search()}
    python_whole_us = (perf_counter_ns() - started) / 1_000
    ours = {tuple(leg.pool for leg in item.legs) for item in found}
    # Of a few units bisection on rounded profits loses its way.
    worthwhile = {tuple(leg.pool for leg in item.legs) for item in found if item.net_profit >= DUST}
    if not worthwhile or not worthwhile <= theirs <= ours:
        raise AssertionError(f"ours found {len(ours)} cycles, plain Python {len(theirs)}, not the same ones")
    three = sum(len(way) == 3 for way in ours)
    worst = ours_us[busiest]
    typical = median(ours_us)
    rows = [
        row("one changed pool, the costliest", "us", worst, "plain Python", python_busiest_us, goal="<= 50 us",
            met=worst <= GOAL_US),
        row("one changed pool, median of all", "us", typical, goal="<= 50 us", met=typical <= GOAL_US),
        row("all pools", "us", whole_us, "plain Python", python_whole_us),
        _quote_row(pools[deepest], plain, deepest),
    ]  # fmt: skip
    return Report(
        bench="scan",
        what=f"wake-up -> profitable cycles among {len(pools)} recorded pools, no cost to cover; "
        f"{len(ours) - three} cycles of two legs and {three} of three found of {examined}, {len(theirs)} by both",
        rows=rows,
    )


class _World:
    """Shared memory as the quote core writes it, and the scanner's side of it."""

    def __init__(self, folder: Path, pools: list[Pool]) -> None:
        self.writer = QuoteTableWriter(folder / "quotes")
        self.blob_writer = PoolBlobWriter(folder / "pools")
        self.snapshots = [pool.snapshot() for pool in pools]
        self.slot = 0
        # A pool's number is its id less one: ids are given in order. Every pool has quotes of three amounts both ways.
        self.entries: list[list[int]] = []
        for pool in pools:
            pool_id = self.writer.intern("pool", pool.address)
            assert pool_id == len(self.entries) + 1
            a, b = self.writer.intern("token", pool.token_a), self.writer.intern("token", pool.token_b)
            self.entries.append(
                [
                    self.writer.entry(pool_id, *way, amount_index=index)
                    for way in ((a, b), (b, a))
                    for index in range(AMOUNTS)
                ]
            )
        self.table = QuoteTable(folder / "quotes")
        self.blobs = PoolBlobTable(folder / "pools")
        self.searcher = Searcher(list(MAXIMUM))
        for token, maximum in MAXIMUM.items():
            self.searcher.set_limits(token, maximum, 0)
        self.cursor = self.table.cursor()
        for number in range(len(pools)):
            self.change(number)
        self.take_all()

    def change(self, number: int) -> None:
        """Write a pool and commit, as the quote core."""
        self.slot += 1
        self.blob_writer.write(number + 1, self.snapshots[number], self.slot)
        for entry in self.entries[number]:
            self.writer.write(entry, self.slot, self.slot, self.slot, self.slot)
        self.writer.commit(self.slot, self.slot)

    def take_all(self) -> None:
        """Read every pool."""
        self.cursor.poll()
        for number in range(len(self.snapshots)):
            self._take(number + 1)

    def scan(self, number: int) -> list[Candidate]:
        """Do what a woken scanner does, from the cursor to the candidates."""
        changed = self.cursor.poll_pools()
        assert changed == (number + 1,)
        for pool_id in changed:
            self._take(pool_id)
        return self.searcher.search(list(changed))

    def _take(self, pool_id: int) -> None:
        blob = self.blobs.read(pool_id)
        assert blob is not None
        self.searcher.upsert(pool_id, Pool.from_snapshot(blob.data))


def _quote_row(pool: Pool, plain: _Plain, number: int) -> Row:
    amount = 1_000

    def native() -> int:
        return sum(pool.quote_in(True, amount).amount_out for _ in range(QUOTES))

    def python() -> int:
        return sum(plain.quote(number, True, amount) or 0 for _ in range(QUOTES // 20)) * 20

    if native() != python():
        raise AssertionError("the two quotes differ")
    return row(
        "one quote", "us", _median_us(native, ROUNDS) / QUOTES, "plain Python",
        _median_us(python, PYTHON_ROUNDS) / (QUOTES // 20),
    )  # fmt: skip


def _median_us(work: Callable[[], object], rounds: int, before: Callable[[], object] = lambda: None) -> float:
    times = []
    for _ in range(rounds):
        before()
        started = perf_counter_ns()
        work()
        times.append(perf_counter_ns() - started)
    return median(times) / 1_000


def recorded_pools() -> list[PoolAccounts]:
    """Return the accounts of the recorded pools that the configuration names."""
    path = load_config().market.recorded_path
    if not path:
        raise BadData(
            "no snapshot of recorded pools is named", "PIPELINE_MARKET__RECORDED_PATH=FILE pipeline bench NAME"
        )
    try:
        return load_snapshot(path)
    except SnapshotError as error:
        raise BadData(str(error), "name a snapshot file: lines of pubkey,base64, gzip") from error


def _reference() -> ModuleType:
    """Load the tests' implementation: there is one, and it is checked there."""
    tests = Path(__file__).parents[1] / "tests"
    if not (tests / "pools" / "reference.py").exists():
        raise BadData(f"{tests} is missing", "run this benchmark from a checkout: its baseline stands among the tests")
    sys.path.insert(0, str(tests))
    try:
        return import_module("pools.reference")
    finally:
        sys.path.remove(str(tests))


class _Plain:
    """The same search in plain Python."""

    def __init__(self, recorded: list[PoolAccounts]) -> None:
        module = _reference()
        self.fails = module.SwapFails
        self.pools = [module.Whirlpool.parse(list(item.accounts)) for item in recorded]
        self.tokens = [tuple(base58.b58encode(mint).decode() for mint in pool.mints) for pool in self.pools]

    def quote(self, number: int, a_to_b: bool, amount: int) -> int | None:
        """Return what a pool gives, None where it would fail or not take all."""
        pool = self.pools[number]
        before = pool.price, pool.tick, pool.liquidity
        try:
            moved = pool.swap(a_to_b, amount)
        except self.fails:
            return None
        finally:
            pool.price, pool.tick, pool.liquidity = before
        return int(moved.amount_out) if moved.amount_in == amount else None

    def search(self, changed: int | None = None) -> list[tuple[int, ...]]:
        """Return the profitable cycles of two and three legs, through one pool or through any."""
        of_token: dict[str, set[int]] = {}
        for number, tokens in enumerate(self.tokens):
            for token in tokens:
                of_token.setdefault(token, set()).add(number)
        found = []
        for place, start in enumerate(MAXIMUM):
            ranked = set(list(MAXIMUM)[: place + 1])
            ways: list[tuple[tuple[int, ...], str]] = [((), start)]
            for leg in range(3):
                longer = []
                for way, token in ways:
                    for number in of_token.get(token, ()):
                        one, other = self.tokens[number]
                        end = other if token == one else one
                        if number in way:
                            continue
                        if end == start and leg:
                            found.append((start, (*way, number)))
                        elif end not in ranked:
                            longer.append(((*way, number), end))
                ways = longer
        # A way of three legs through the same two tokens comes to no new token: it is none.
        return [
            way
            for start, way in found
            if (changed is None or changed in way) and self._is_simple(start, way) and self._pays(start, way)
        ]

    def _is_simple(self, start: str, way: tuple[int, ...]) -> bool:
        token, seen = start, set()
        for number in way:
            if token in seen:
                return False
            seen.add(token)
            one, other = self.tokens[number]
            token = other if token == one else one
        return True

    def _pays(self, token: str, way: tuple[int, ...]) -> bool:
        legs = []
        end = token
        for number in way:
            a_to_b = self.tokens[number][0] == end
            legs.append((number, a_to_b))
            end = self.tokens[number][1 if a_to_b else 0]
        rate = 1.0
        for number, a_to_b in legs:
            pool = self.pools[number]
            price = (pool.price / 2**64) ** 2
            rate *= (price if a_to_b else 1 / price) * (1 - pool.fee_rate / 1e6)
        if rate < 1 - 1e-9:
            return False

        def profit(amount: int) -> int | None:
            value: int | None = amount
            for number, a_to_b in legs:
                value = self.quote(number, a_to_b, value) if value else None
            return None if value is None else value - amount

        low, high, paid = 1, MAXIMUM[token], False
        while high - low > 1:
            middle = (low + high) // 2
            here, more = profit(middle), profit(middle + middle // 50 + 1)
            paid = paid or (here or 0) > 0
            if here is not None and more is not None and more > here:
                low = middle
            else:
                high = middle
        return paid or any((profit(amount) or 0) > 0 for amount in (low, high))
