"""Scan: from a changed pool's snapshot to the list of profitable cycles, among the recorded pools.

Ours reads the changed pool's compact snapshot, puts it into the search and searches the cycles that touch it. The
baseline is plain Python: the same pools (the tests' own implementation), the same rule (marginal prices first, then
bisection on the profit of one unit more), the same answer. Run with the recorded snapshot named:

    PIPELINE_MARKET__RECORDED_PATH=.../whirlpool-snapshot-152927999.csv.gz pipeline bench scan
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import permutations
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from types import ModuleType
from typing import Any

import base58

from bench.report import Report, Row, row
from markets.solana.pools import Pool, Searcher
from markets.solana.snapshot import PoolAccounts, SnapshotError, load_snapshot
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.config import load_config
from pipeline.errors import BadData

ROUNDS = 9
PYTHON_ROUNDS = 3
QUOTES = 2_000
GOAL_US = 50.0
MAXIMUM = {SOL_MINT: 100 * 10**9, USDC_MINT: 10_000 * 10**6}


def run() -> Report:
    """Measure; the cycles found by both must be the same."""
    recorded = _recorded()
    pools = [Pool.parse(item.protocol, item.address, list(item.accounts), item.slot, 0, 0) for item in recorded]
    blobs = [pool.snapshot() for pool in pools]
    searcher = Searcher(list(MAXIMUM))
    for token, maximum in MAXIMUM.items():
        searcher.set_limits(token, maximum, 0)
    for number, pool in enumerate(pools):
        searcher.upsert(number, pool)

    def changed(number: int) -> list[Any]:
        searcher.upsert(number, Pool.from_snapshot(blobs[number]))
        return searcher.search([number])

    plain = _Plain(recorded)
    every = range(len(pools))
    ours_us = {number: _median_us(partial(changed, number), ROUNDS) for number in every}
    whole_us = _median_us(searcher.search, ROUNDS * 5)
    busiest = max(ours_us, key=lambda number: ours_us[number])
    python_busiest_us = _median_us(partial(plain.search, busiest), PYTHON_ROUNDS)
    python_whole_us = _median_us(plain.search, PYTHON_ROUNDS)
    ours = {tuple(leg.pool for leg in item.legs) for item in searcher.search()}
    theirs = {(recorded[first].address, recorded[second].address) for first, second in plain.search()}
    if not ours or ours != theirs:
        raise AssertionError(f"ours found {len(ours)} cycles, plain Python {len(theirs)}, not the same ones")
    worst = ours_us[busiest]
    typical = median(ours_us.values())
    rows = [
        row("one changed pool, the costliest", "us", worst, "plain Python", python_busiest_us, goal="<= 50 us",
            met=worst <= GOAL_US),
        row("one changed pool, median of all", "us", typical, goal="<= 50 us", met=typical <= GOAL_US),
        row("all pools", "us", whole_us, "plain Python", python_whole_us),
        _quote_row(pools[busiest], plain, busiest),
    ]  # fmt: skip
    return Report(
        bench="scan",
        what=f"changed pool -> profitable cycles among {len(pools)} recorded pools; {len(ours)} cycles found by both",
        rows=rows,
    )


def _quote_row(pool: Pool, plain: _Plain, number: int) -> Row:
    amount = 10_000

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


def _median_us(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = perf_counter_ns()
        work()
        times.append(perf_counter_ns() - started)
    return median(times) / 1_000


def _recorded() -> list[PoolAccounts]:
    path = load_config().market.recorded_path
    if not path:
        raise BadData(
            "no snapshot of recorded pools is named", "PIPELINE_MARKET__RECORDED_PATH=FILE pipeline bench scan"
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

    def search(self, changed: int | None = None) -> list[tuple[int, int]]:
        """Return the profitable ordered pairs."""
        found = []
        for first, second in permutations(range(len(self.pools)), 2):
            if changed is not None and changed not in (first, second):
                continue
            if set(self.tokens[first]) != set(self.tokens[second]):
                continue
            token = next((token for token in MAXIMUM if token in self.tokens[first]), None)
            if token is not None and self._pays(token, first, second):
                found.append((first, second))
        return found

    def _pays(self, token: str, first: int, second: int) -> bool:
        legs = [(first, self.tokens[first][0] == token), (second, self.tokens[second][1] == token)]
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

        low, high = 1, MAXIMUM[token]
        while high - low > 1:
            middle = (low + high) // 2
            here, more = profit(middle), profit(middle + middle // 1_000 + 1)
            if here is not None and more is not None and more > here:
                low = middle
            else:
                high = middle
        return any((profit(amount) or 0) > 0 for amount in (low, high))
