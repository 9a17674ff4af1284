"""Grids: all amounts in both directions from one state, each the same as the pool's own quote."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from markets.solana.pools import Grid, Pool, QuoteError, quote_grids
from markets.solana.snapshot import load_snapshot

from . import build

AMOUNTS = [10**exponent * digit for exponent in range(14) for digit in (1, 3)]


def expected_row(pool: Pool, a_to_b: bool, index: int, amount: int) -> tuple[bool, int, int, int, int, float]:
    try:
        quote = pool.quote_in(a_to_b, amount)
    except QuoteError:
        return (a_to_b, index, amount, 0, 0, 0.0)
    if quote.amount_in != amount or quote.amount_out == 0:
        return (a_to_b, index, amount, 0, 0, 0.0)
    return (a_to_b, index, amount, quote.amount_out, quote.fee_amount, quote.price_impact_bps)


def expected(pool: Pool, amounts: list[int]) -> list[tuple[bool, int, int, int, int, float]]:
    return [expected_row(pool, a_to_b, i, amount) for a_to_b in (True, False) for i, amount in enumerate(amounts)]


@pytest.mark.recorded
def test_recorded_pools_row_by_row(recorded_data: Path) -> None:
    [path] = (recorded_data / "solana/whirlpool_snapshots").glob("*.csv.gz")
    pools = [
        Pool.parse(row.protocol, row.address, list(row.accounts), row.slot, 0, 1_664_200_000)
        for row in load_snapshot(path)
    ]
    shuffled = random.Random(5).sample(AMOUNTS, len(AMOUNTS))
    for amounts in (AMOUNTS, shuffled):
        grids = quote_grids(pools, amounts)
        assert [list(grid) for grid in grids] == [expected(pool, amounts) for pool in pools]
    given = sum(row[3] > 0 for grid in grids for row in grid)
    assert given > 3_000, "most rows are quotes, not failures"
    assert given < sum(len(grid) for grid in grids), "some pools end before the largest amount"


def test_a_grid_is_a_sequence_of_rows() -> None:
    rows = [(True, 0, 10, 9, 1, 0.5), (False, 0, 10, 0, 0, 0.0)]
    grid = Grid.of(rows)
    assert (len(grid), list(grid), grid[0], grid[-1]) == (2, rows, rows[0], rows[1])
    assert (grid.amount_out(True, 0), grid.amount_out(False, 0)) == (9, 0)
    assert grid == Grid.of(iter(rows))
    assert grid != Grid.of(rows[:1])
    for bad in (2, -3):
        with pytest.raises(IndexError):
            grid[bad]
    with pytest.raises(IndexError):
        grid.amount_out(True, 1)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ((True, 0, -1, 9, 1, 0.5), OverflowError),
        ((True, 0, 2**64, 9, 1, 0.5), OverflowError),
        ((True, 0, 10, 9, 1, float("nan")), ValueError),
        ((True, 0, 10, 9, 1), ValueError),
        (7, TypeError),
    ],
)
def test_rows_that_are_none_are_refused(row: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        Grid.of([row])


def test_no_amounts_no_pools_and_amounts_of_nothing() -> None:
    pool = Pool.parse(2, build.POOL, build.amm_v4_accounts(10**12, 10**11), build.SLOT, 0, build.NOW)
    assert quote_grids([], [1, 2]) == []
    assert list(quote_grids([pool], [])[0]) == []
    assert list(quote_grids([pool], [0])[0]) == [(True, 0, 0, 0, 0, 0.0), (False, 0, 0, 0, 0, 0.0)]
    with pytest.raises(OverflowError):
        quote_grids([pool], [-1])
