"""Quotes: grids of many amounts in both directions from one state of each pool, and quotes served to other processes.

Grids: 45 pools by 20 and by 40 amounts, both ways (1,800 and 3,600 quotes), in one call without the GIL, against a
Python loop of single quotes over the same pools; both give the same amounts. The pools are the recorded ones with the
most ticks, so that swaps cross many, and the amounts lie across their liquidity. Run with the recorded snapshot named:

    PIPELINE_MARKET__RECORDED_PATH=.../whirlpool-snapshot-152927999.csv.gz pipeline bench quotes
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter_ns

from bench import quotes_served
from bench.report import Report, Row, row
from bench.scan import recorded_pools
from markets.solana.pools import Pool, QuoteError, quote_grids

ROUNDS = 15
POOLS = 45
AMOUNTS = [int(10**5 * 1.35**power) for power in range(40)]
GOAL_MS = 5.0


def run() -> Report:
    """Measure, after asserting that both ways give the same quotes."""
    rows, notes = grid_rows()
    served_rows, served_notes = quotes_served.measure()
    return Report(
        bench="quotes",
        what=f"grids: {POOLS} recorded pools, {len(AMOUNTS)} amounts; served: from another process",
        rows=rows + served_rows,
        notes=notes + served_notes,
    )


def grid_rows() -> tuple[list[Row], list[str]]:
    """Return the rows about grids, and what is to be said of them."""
    pools = [Pool.parse(item.protocol, item.address, list(item.accounts), item.slot, 0, 0) for item in recorded_pools()]
    deepest = sorted(pools, key=_ticks, reverse=True)[:POOLS]
    rows = []
    for name, chosen, amounts in (
        ("grid, 1,800 quotes", deepest, AMOUNTS[::2]),
        ("grid, 3,600 quotes", deepest, AMOUNTS),
        (f"grid, all {len(pools)} recorded pools, {2 * len(pools) * len(AMOUNTS):,} quotes", pools, AMOUNTS),
    ):
        grids = quote_grids(chosen, amounts)
        ours_out = [row_out for grid in grids for _, _, _, row_out, _, _ in grid]
        if ours_out != _one_by_one(chosen, amounts):
            raise AssertionError("a grid and single quotes differ")
        ours, python = _in_turn(partial(quote_grids, chosen, amounts), partial(_one_by_one, chosen, amounts))
        goal = f"<= {GOAL_MS:.0f} ms" if chosen is deepest else ""
        met = ours <= GOAL_MS if goal else None
        rows.append(row(name, "ms", ours, "Python loop of single quotes", python, goal=goal, met=met))
    crossed = sum(_ticks(pool) for pool in deepest)
    return rows, [f"Grids: the {POOLS} pools have {crossed:,} initialized ticks; one core."]


def _ticks(pool: Pool) -> int:
    ticks = pool.info()["ticks"]
    assert isinstance(ticks, list)
    return len(ticks)


def _one_by_one(pools: list[Pool], amounts: list[int]) -> list[int]:
    found = []
    for pool in pools:
        for a_to_b in (True, False):
            for amount in amounts:
                try:
                    quote = pool.quote_in(a_to_b, amount)
                except QuoteError:
                    found.append(0)
                else:
                    found.append(quote.amount_out if quote.amount_in == amount else 0)
    return found


def _in_turn(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for work, times in zip((ours, theirs), taken, strict=True):
            started = perf_counter_ns()
            work()
            times.append((perf_counter_ns() - started) / 1e6)
    return median(taken[0]), median(taken[1])
