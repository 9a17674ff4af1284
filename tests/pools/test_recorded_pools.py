"""The 145 recorded pools against plain Python: quotes, chains of swaps with every written byte, and cycles."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import base58
import pytest

from markets.solana.pools import Pool, QuoteError, Searcher
from markets.solana.snapshot import PoolAccounts, load_snapshot

from .reference import Whirlpool
from .ticks import SwapFails

pytestmark = pytest.mark.recorded

NOW = 1_664_200_000
SOL = "So11111111111111111111111111111111111111112"
USDC = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"


@pytest.fixture(scope="module")
def recorded(recorded_data: Path) -> list[PoolAccounts]:
    [path] = (recorded_data / "solana/whirlpool_snapshots").glob("*.csv.gz")
    return load_snapshot(path)


def parse(row: PoolAccounts) -> Pool:
    return Pool.parse(row.protocol, row.address, list(row.accounts), row.slot, 0, NOW)


def test_all_pools_are_read(recorded: list[PoolAccounts]) -> None:
    assert len(recorded) == 145
    assert recorded[0].slot == 152_927_999
    assert sum(len(row.accounts) - 1 for row in recorded) == 1_395
    for row in recorded:
        pool, reference = parse(row), Whirlpool.parse(list(row.accounts))
        expected = sorted(
            (array.start + offset * reference.spacing, tick.net)
            for array in reference.arrays.values()
            for offset, tick in array.ticks.items()
        )
        assert pool.info()["ticks"] == expected
        assert Pool.from_snapshot(pool.snapshot()) == pool
        assert len(pool.snapshot()) <= 64 * 1024


def test_quotes_are_those_of_plain_python(recorded: list[PoolAccounts]) -> None:
    dice = random.Random(1)
    compared = failed = 0
    for row in recorded:
        pool, reference = parse(row), Whirlpool.parse(list(row.accounts))
        blob = Pool.from_snapshot(pool.snapshot())
        for a_to_b, exact_in in itertools.product((True, False), (True, False)):
            for amount in (1, dice.randrange(2, 10**5), dice.randrange(10**5, 10**10), dice.randrange(10**10, 10**14)):
                quote = pool.quote_in if exact_in else pool.quote_out
                try:
                    moved = copy.deepcopy(reference).swap(a_to_b, amount, exact_in)
                except SwapFails:
                    failed += 1
                    with pytest.raises(QuoteError):
                        quote(a_to_b, amount)
                    continue
                compared += 1
                result = quote(a_to_b, amount)
                assert (result.amount_in, result.amount_out, result.fee_amount) == (
                    moved.amount_in,
                    moved.amount_out,
                    moved.fee,
                ), (row.address, a_to_b, exact_in, amount)
                snapped = (blob.quote_in if exact_in else blob.quote_out)(a_to_b, amount)
                assert (snapped.amount_in, snapped.amount_out) == (result.amount_in, result.amount_out)
    assert compared > 1_000
    assert failed > 100


def test_chains_of_swaps_write_what_the_program_writes(recorded: list[PoolAccounts]) -> None:
    dice = random.Random(2)
    rows = [row for row in recorded if len(row.accounts) > 5]
    crossed = swaps = 0
    for row in dice.sample(rows, 25):
        pool, reference = parse(row), Whirlpool.parse(list(row.accounts))
        for turn in range(12):
            a_to_b, amount = dice.random() < 0.5, int(10 ** dice.uniform(3, 12))
            now = NOW + 7 * turn
            pool = pool.at(row.slot + turn, 0, now)
            try:
                moved = reference.swap(a_to_b, amount, now=now)
            except SwapFails:
                with pytest.raises(QuoteError):
                    pool.swap(a_to_b, amount)
                continue
            pool, quote = pool.swap(a_to_b, amount)
            assert (quote.amount_in, quote.amount_out) == (moved.amount_in, moved.amount_out)
            crossed += quote.ticks_crossed
            swaps += 1
        written = pool.accounts()
        assert [account[:2] for account in written] == [account[:2] for account in row.accounts]
        assert Whirlpool.parse(written) == reference
        # Reading the written accounts again gives the state that was carried.
        assert Pool.parse(row.protocol, row.address, written, pool.slot, 0, pool.unix_time) == pool
    assert swaps > 150
    assert crossed > 50


Way = tuple[str, ...]
"""A cycle: its start token and its pools in order."""


class BruteForce:
    """Every cycle of two or three pools at every order of magnitude, in plain Python."""

    def __init__(self, recorded: list[PoolAccounts], settlement: list[str]) -> None:
        self.settlement = settlement
        self.pools = {row.address: Whirlpool.parse(list(row.accounts)) for row in recorded}
        self.tokens = {
            address: tuple(base58.b58encode(mint).decode() for mint in pool.mints)
            for address, pool in self.pools.items()
        }

    def ways(self, legs: int) -> Iterator[Way]:
        """Return each directed cycle once, from the first of its tokens in the settlement list."""
        of_token: dict[str, list[str]] = {}
        for address, tokens in self.tokens.items():
            for token in tokens:
                of_token.setdefault(token, []).append(address)
        for start in self.settlement:
            ranked = set(self.settlement[: self.settlement.index(start)])
            ways = [((start,), start, frozenset[str]())]
            for leg in range(legs):
                longer = []
                for way, token, between in ways:
                    for address in of_token.get(token, ()):
                        one, other = self.tokens[address]
                        end = other if token == one else one
                        last = leg == legs - 1
                        if address in way or end in between | ranked or (end == start) != last:
                            continue
                        longer.append(((*way, address), end, between | {end}))
                ways = longer
            yield from (way for way, _, _ in ways)

    def profit(self, way: Way, amount: int) -> int | None:
        token, given = way[0], amount
        for address in way[1:]:
            pool, (one, other) = self.pools[address], self.tokens[address]
            before = pool.price, pool.tick, pool.liquidity
            try:
                moved = pool.swap(token == one, amount)
            except SwapFails:
                return None
            finally:
                pool.price, pool.tick, pool.liquidity = before
            if moved.amount_in != amount:
                return None
            token, amount = other if token == one else one, moved.amount_out
        return amount - given

    def best(self, way: Way) -> int | None:
        """Return the best profit among sizes of all orders of magnitude and those around the best of them."""
        tried: dict[int, int] = {}
        missed = 0
        for size in sorted({int(1.15**power) + 1 for power in range(230)}):
            value = self.profit(way, size)
            if value is not None and value > 0:
                tried[size] = value
            # Beyond what the pools can take, and far beyond what pays, nothing more is to come.
            missed = missed + 1 if value is None or value < 0 else 0
            if missed > 60 and size > 10**12:
                break
        if not tried:
            return None
        best = max(tried, key=lambda size: tried[size])
        step = best
        while step:
            for size in (best - step, best + step):
                value = self.profit(way, size) if size > 0 else None
                if value is not None and value > tried[best]:
                    tried[size] = value
                    best = size
            step //= 2
        return tried[best]


@pytest.mark.parametrize("legs", [2, 3])
def test_search_finds_the_cycles_that_brute_force_finds(recorded: list[PoolAccounts], legs: int) -> None:
    pools = [parse(row) for row in recorded]
    others = {token for pool in pools for token in (pool.token_a, pool.token_b)} - {SOL, USDC}
    settlement = [SOL, USDC, *sorted(others)]
    searcher = Searcher(settlement, most_legs=legs)
    for number, pool in enumerate(pools):
        searcher.upsert(number, pool)
    found = searcher.search()
    assert searcher.left_out == 0
    ours = {(item.token, *(leg.pool for leg in item.legs)): item for item in found}
    assert len(ours) == len(found), "no cycle twice, whichever of its tokens it could begin in"
    brute = BruteForce(recorded, settlement)
    ways = [way for count in range(2, legs + 1) for way in brute.ways(count)]
    assert searcher.examined == len(ways)
    theirs = {way: best for way in ways if (best := brute.best(way)) is not None}
    assert ours.keys() == theirs.keys()
    assert len(ours) >= {2: 3, 3: 30}[legs]
    for way, best in theirs.items():
        # Rounding makes a saw of the profit: two units, and one of each token between at what it is worth.
        item = ours[way]
        worth = sum(item.amount_in / leg.amount_in for leg in item.legs[1:])
        assert item.net_profit >= best - 2 - worth, way
    # Each candidate is what its legs give, one after the other.
    by_address = {pool.address: pool for pool in pools}
    for item in found:
        amount = item.amount_in
        for leg in item.legs:
            assert leg.amount_in == amount
            amount = by_address[leg.pool].quote_in(leg.a_to_b, amount).amount_out
            assert leg.amount_out == amount
        assert item.amount_out == amount


def test_search_by_change_adds_up_to_the_whole(recorded: list[PoolAccounts]) -> None:
    pools = [parse(row) for row in recorded]
    searcher = Searcher([SOL, USDC])
    for number, pool in enumerate(pools):
        searcher.upsert(number, pool)
    whole = [repr(item) for item in searcher.search()]
    assert whole == [repr(item) for item in searcher.search(list(range(145)))]
    single = {repr(item) for number in range(145) for item in searcher.search([number])}
    assert single == set(whole)
