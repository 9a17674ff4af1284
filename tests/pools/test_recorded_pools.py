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


def brute_force(recorded: list[PoolAccounts], settlement: list[str]) -> Iterator[tuple[tuple[str, str, str], int]]:
    """All ordered pairs of pools that share both tokens: (start token, first, second) and the best profit found."""
    pools = {row.address: Whirlpool.parse(list(row.accounts)) for row in recorded}
    names = {address: [base58.b58encode(mint).decode() for mint in pool.mints] for address, pool in pools.items()}

    def profit(start: str, first: str, second: str, amount: int) -> int | None:
        for address, token in ((first, start), (second, None)):
            a_to_b = names[address][0] == start if token else names[address][1] == start
            try:
                moved = copy.deepcopy(pools[address]).swap(a_to_b, amount)
            except SwapFails:
                return None
            if moved.amount_in != amount:
                return None
            if token:
                given, amount = amount, moved.amount_out
            else:
                amount = moved.amount_out
        return amount - given

    for first, second in itertools.permutations(sorted(pools), 2):
        if set(names[first]) != set(names[second]):
            continue
        start = min(names[first], key=settlement.index)
        sizes = sorted({int(1.3**power) + 1 for power in range(130)})
        tried = {size: profit(start, first, second, size) for size in sizes}
        paying = {size: value for size, value in tried.items() if value is not None and value > 0}
        if not paying:
            continue
        best = max(paying, key=lambda size: paying[size])
        step = best
        while step:
            for size in (best - step, best + step):
                value = profit(start, first, second, size) if size > 0 else None
                if value is not None and value > paying[best]:
                    paying[size] = value
                    best = size
            step //= 2
        yield (start, first, second), paying[best]


def test_search_finds_the_cycles_that_brute_force_finds(recorded: list[PoolAccounts]) -> None:
    pools = [parse(row) for row in recorded]
    others = {token for pool in pools for token in (pool.token_a, pool.token_b)} - {SOL, USDC}
    settlement = [SOL, USDC, *sorted(others)]
    searcher = Searcher(settlement)
    for number, pool in enumerate(pools):
        searcher.upsert(number, pool)
    found = searcher.search()
    ours = {(item.token, item.legs[0].pool, item.legs[1].pool): item for item in found}
    assert len(ours) == len(found)
    theirs = dict(brute_force(recorded, settlement))
    assert ours.keys() == theirs.keys()
    assert len(ours) >= 3
    for cycle, best in theirs.items():
        assert ours[cycle].net_profit >= best, cycle
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
