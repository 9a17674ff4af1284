"""Quotes from shared memory are those of the pools themselves, pending swaps included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from executor.pools import CHEAP, DEAR, DEEP, DOLLAR, gap, pool_state
from quote_tables import write_pool

from markets.pool_states import PoolStates
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline.messages import Leg, Protocol, RefusalReason
from workers.planner.cycle import LegQuote, NoQuote
from workers.planner.decide import Moment
from workers.planner.open_plans import OpenPlans, Swap
from workers.planner.quotes import SharedQuotes, after
from workers.quote_core.tables import Tables

from .opportunities import JITO, SLOT_NS, START_NS, an_opportunity


def looking(directory: Path) -> SharedQuotes:
    """Shared quotes that have looked at the table, as the planner does for each opportunity."""
    quotes = SharedQuotes(directory)
    quotes.moment(an_opportunity())
    return quotes


LEG = Leg(pool=CHEAP, protocol=Protocol.RAYDIUM_CPMM, token_in=SOL_MINT, token_out=JITO)


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[Tables]:
    found = Tables(tmp_path, load_registry(), [10**9], capacity=64, ring=64)
    yield found
    found.close()


def write(tables: Tables, slot: int, bps: int = 200) -> PoolStates:
    states = PoolStates()
    for state in gap(bps, slot=slot):
        states.apply(state)
        pool = states.get(state.pool)
        assert pool is not None
        write_pool(tables, pool, state.observed_ns)
    tables.commit(slot, START_NS + slot * SLOT_NS)
    return states


def test_no_files_no_quotes(tmp_path: Path) -> None:
    quotes = SharedQuotes(tmp_path / "nowhere")
    opportunity = an_opportunity()
    assert quotes.moment(opportunity) == Moment(opportunity.slot, opportunity.found_ns)
    found = quotes.quote(LEG, 10**9, None)
    assert isinstance(found, NoQuote)
    assert found.reason == RefusalReason.QUOTE_MISSING
    assert quotes.trouble


def test_a_file_of_something_else(tmp_path: Path) -> None:
    for name in ("quotes-internal", "pools"):
        (tmp_path / name).write_bytes(b"not a table" * 1000)
    quotes = looking(tmp_path)
    assert isinstance(quotes.quote(LEG, 10**9, None), NoQuote)
    assert quotes.trouble


def test_the_newest_state_is_quoted_exactly(tables: Tables, tmp_path: Path) -> None:
    quotes = SharedQuotes(tmp_path)
    for slot, bps in ((10, 200), (11, 100), (12, 300)):
        pool = write(tables, slot, bps).get(CHEAP)
        assert pool is not None
        quotes.moment(an_opportunity())
        for amount in (1_000, 10**9, 10**12):
            expected = pool.quote_in(True, amount)
            found = quotes.quote(LEG, amount, None)
            assert isinstance(found, LegQuote)
            assert (found.amount_out, found.price_impact_bps) == (expected.amount_out, expected.price_impact_bps)
            assert (found.slot, found.quoted_ns) == (slot, START_NS + slot * SLOT_NS)
        back = quotes.quote(LEG.replace(token_in=JITO, token_out=SOL_MINT), 10**9, None)
        assert isinstance(back, LegQuote)
        assert back.amount_out == pool.quote_in(False, 10**9).amount_out
        assert quotes.moment(an_opportunity(slot=9)) == Moment(slot, START_NS + slot * SLOT_NS)
        assert quotes.moment(an_opportunity(slot=99)) == Moment(99, START_NS + 99 * SLOT_NS)


@pytest.mark.parametrize(
    ("leg", "reason"),
    [
        (LEG.replace(pool="nowhere"), RefusalReason.QUOTE_MISSING),
        (LEG.replace(pool=DOLLAR), RefusalReason.QUOTE_MISSING),
        (LEG.replace(token_out=SOL_MINT), RefusalReason.QUOTE_MISSING),
        (LEG.replace(token_in=USDC_MINT), RefusalReason.QUOTE_MISSING),
    ],
)
def test_legs_without_a_quote(tables: Tables, tmp_path: Path, leg: Leg, reason: RefusalReason) -> None:
    write(tables, 10)
    found = looking(tmp_path).quote(leg, 10**9, None)
    assert isinstance(found, NoQuote)
    assert found.reason == reason


def test_no_amount_no_quote(tables: Tables, tmp_path: Path) -> None:
    write(tables, 10)
    found = looking(tmp_path).quote(LEG, 0, None)
    assert isinstance(found, NoQuote)
    assert found.reason == RefusalReason.AMOUNT_OUT_OF_RANGE


def test_a_pool_that_is_forgotten(tables: Tables, tmp_path: Path) -> None:
    write(tables, 10)
    quotes = looking(tmp_path)
    assert isinstance(quotes.quote(LEG, 10**9, None), LegQuote)
    tables.forget(CHEAP, 11, START_NS)
    tables.commit(11, START_NS + 11 * SLOT_NS)
    assert isinstance(quotes.quote(LEG, 10**9, None), NoQuote)


def test_pending_swaps_count_as_done(tables: Tables, tmp_path: Path) -> None:
    plans = OpenPlans()
    pool = write(tables, 10).get(CHEAP)
    quotes = looking(tmp_path)
    assert pool is not None
    for number in range(6):
        found = quotes.quote(LEG, 10**9, plans.pending(CHEAP))
        expected = after(pool, SOL_MINT, [Swap(CHEAP, SOL_MINT, 10**10 * (n + 1)) for n in range(number)])
        assert isinstance(found, LegQuote)
        assert found.amount_out == expected.quote_in(True, 10**9).amount_out
        plans.add(str(number), SOL_MINT, 1, [Swap(CHEAP, SOL_MINT, 10**10 * (number + 1)), Swap(DEAR, JITO, 1)], slot=1)
    plans.settle("2", 10)
    plans.advance(11)
    left = [Swap(CHEAP, SOL_MINT, 10**10 * (n + 1)) for n in range(6) if n != 2]
    found = quotes.quote(LEG, 10**9, plans.pending(CHEAP))
    assert isinstance(found, LegQuote)
    assert found.amount_out == after(pool, SOL_MINT, left).quote_in(True, 10**9).amount_out
    # A newer state of the pool: the same swaps on top of that.
    newer = pool_state(CHEAP, (DEEP, DEEP), slot=12, version=2)
    states = PoolStates()
    states.apply(newer)
    fresh = states.get(CHEAP)
    assert fresh is not None
    write_pool(tables, fresh, newer.observed_ns)
    tables.commit(12, START_NS + 12 * SLOT_NS)
    found = quotes.quote(LEG, 10**9, plans.pending(CHEAP))
    assert isinstance(found, LegQuote)
    assert found.amount_out == after(fresh, SOL_MINT, left).quote_in(True, 10**9).amount_out


def test_a_swap_that_a_pool_cannot_give_changes_nothing(tables: Tables, tmp_path: Path) -> None:
    pool = write(tables, 10).get(CHEAP)
    assert pool is not None
    assert after(pool, SOL_MINT, [Swap(CHEAP, SOL_MINT, 0)]) is pool


def test_a_new_quote_core_is_found(tmp_path: Path) -> None:
    quotes = SharedQuotes(tmp_path)
    for slot in (10, 3):
        tables = Tables(tmp_path, load_registry(), [10**9, 10**10], capacity=64 + slot, ring=64)
        pool = write(tables, slot).get(DEAR)
        assert pool is not None
        quotes.moment(an_opportunity())
        found = quotes.quote(LEG.replace(pool=DEAR), 10**9, None)
        assert isinstance(found, LegQuote)
        assert (found.slot, found.amount_out) == (slot, pool.quote_in(True, 10**9).amount_out)
        tables.close()
        del tables  # the file is free when its writer is gone


def test_a_pending_swap_that_would_help_is_not_counted_on(tables: Tables, tmp_path: Path) -> None:
    pool = write(tables, 10).get(CHEAP)
    quotes = looking(tmp_path)
    assert pool is not None
    plans = OpenPlans()
    # A plan the other way: after it the same amount fetches more, if it lands first.
    plans.add("other way", SOL_MINT, 1, [Swap(CHEAP, JITO, 10**11)], slot=1)
    found = quotes.quote(LEG, 10**9, plans.pending(CHEAP))
    assert isinstance(found, LegQuote)
    assert after(pool, SOL_MINT, [Swap(CHEAP, JITO, 10**11)]).quote_in(True, 10**9).amount_out > found.amount_out
    assert found.amount_out == pool.quote_in(True, 10**9).amount_out
