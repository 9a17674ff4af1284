"""What a transaction offers: bounds that always hold, rounding against us."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.costs import PAR, SolPrice, amount_in_lamports, cost_in_token, transaction_costs
from markets.solana.transactions.fees import (
    MAX_COMPUTE_UNITS,
    affordable_micro_lamports,
    compute_limit,
    micro_lamports_for,
    minimum_for,
    priority_fee,
    share_of,
    tip_for,
)
from pipeline.config import load_config


@dataclass(frozen=True)
class Tips:
    profit_ratio: float = 0.2
    min_lamports: int = 100_000
    max_lamports: int = 1_000_000


u64 = st.integers(0, 2**64 - 1)
lamports = st.one_of(st.integers(0, 10**7), u64)


@st.composite
def tips(draw: st.DrawFn) -> Tips:
    least = draw(st.integers(0, 10**7))
    return Tips(draw(st.floats(0, 1)), least, least + draw(st.integers(0, 10**7)))


@pytest.mark.parametrize(
    ("profit", "floor", "tip"),
    [
        (-5, 0, 100_000),
        (0, 0, 100_000),
        (500_000, 0, 100_000),
        (500_001, 0, 100_001),
        (3_000_000, 0, 600_000),
        (10**9, 0, 1_000_000),
        # Others paid more: as far as the profit bears it, and never over the bound.
        (3_000_000, 700_000, 700_000),
        (3_000_000, 5_000_000, 1_000_000),
        (600_000, 600_000, 120_000),
        (600_001, 600_000, 600_000),
        (150_000, 10**9, 100_000),
    ],
)
def test_tips(profit: int, floor: int, tip: int):
    assert tip_for(profit, floor=floor, settings=Tips()) == tip


def test_the_configuration_is_what_tips_are_sized_by():
    settings_ = load_config({}, environment={}).tip
    assert tip_for(1_000_000, floor=0, settings=settings_) == 200_000
    assert (settings_.min_lamports, settings_.max_lamports) == (100_000, 1_000_000)


@settings(max_examples=300)
@given(st.one_of(st.integers(-(10**9), 10**9), u64), lamports, tips())
def test_a_tip_stays_within_its_bounds_and_below_the_profit_where_it_was_raised(profit: int, floor: int, tip: Tips):
    offered = tip_for(profit, floor=floor, settings=tip)
    assert tip.min_lamports <= offered <= tip.max_lamports
    plain = tip_for(profit, floor=0, settings=tip)
    assert offered >= plain
    if offered > plain:
        assert offered < profit
        assert offered == min(floor, tip.max_lamports)
    # More profit never tips less.
    assert tip_for(profit + 1, floor=floor, settings=tip) >= offered


@given(u64, st.floats(0, 1))
def test_shares_are_rounded_up_and_never_more_than_all(amount: int, ratio: float):
    share = share_of(amount, ratio)
    assert 0 <= share <= amount
    assert share * 1_000_000 >= amount * round(ratio * 1_000_000)
    assert (share - 1) * 1_000_000 < amount * round(ratio * 1_000_000)


@given(st.integers(1, MAX_COMPUTE_UNITS), lamports)
def test_an_affordable_price_stays_within_its_budget_and_no_higher_one_does(units: int, budget: int):
    price = affordable_micro_lamports(budget, units)
    assert priority_fee(units, price) <= budget
    assert priority_fee(units, price + 1) > budget
    assert affordable_micro_lamports(budget, 0) == 0


@given(st.integers(0, MAX_COMPUTE_UNITS), st.integers(0, 10**9))
def test_a_priority_fee_is_the_one_that_costs_count(units: int, price: int):
    counted = transaction_costs(
        lamports_per_signature=0,
        signatures=1,
        compute_units=units,
        micro_lamports_per_unit=price,
        tip_lamports=0,
    )
    assert priority_fee(units, price) == counted.priority_fee


@pytest.mark.parametrize(
    ("samples", "percentile", "most", "price"),
    [
        ([], 50, 10, 0),
        ([7], 0, 10, 7),
        ([7], 100, 10, 7),
        ([3, 1, 2], 50, 10, 2),
        ([4, 3, 1, 2], 50, 10, 2),
        ([4, 3, 1, 2], 51, 10, 3),
        ([4, 3, 1, 2], 75, 10, 3),
        ([4, 3, 1, 2], 76, 10, 4),
        ([4, 3, 1, 2], 100, 3, 3),
        ([4, 3, 1, 2], 100, -1, 0),
    ],
)
def test_prices_by_nearest_rank(samples: list[int], percentile: int, most: int, price: int):
    assert micro_lamports_for(samples, percentile, most) == price


def test_there_is_no_percentile_over_a_hundred():
    for percentile in (-1, 101):
        with pytest.raises(ValueError, match="percentile"):
            micro_lamports_for([1], percentile, 1)


@given(st.lists(st.integers(0, 10**9), max_size=200), st.integers(0, 100), st.integers(0, 10**9))
def test_a_price_is_one_that_was_paid_or_the_most(samples: list[int], percentile: int, most: int):
    price = micro_lamports_for(samples, percentile, most)
    assert price <= most
    assert price in {*samples, most, 0}
    at_most = sum(sample <= price for sample in samples)
    assert price == most or at_most * 100 >= percentile * len(samples)


@given(st.integers(0, 2 * MAX_COMPUTE_UNITS), st.floats(0, 1))
def test_a_limit_is_never_under_what_was_used_nor_over_the_most(units: int, margin: float):
    limit = compute_limit(units, margin)
    assert min(units, MAX_COMPUTE_UNITS) <= limit <= MAX_COMPUTE_UNITS
    assert compute_limit(111_064, 0.1) == 122_171


@given(u64, lamports, st.integers(1, 2**64), st.integers(1, 2**64))
def test_a_minimum_pays_for_everything_at_its_price(amount_in: int, paid: int, amount: int, for_lamports: int):
    price = SolPrice(amount, for_lamports)
    minimum = minimum_for(amount_in, paid, price)
    assert (minimum - amount_in) * for_lamports >= paid * amount
    assert minimum == amount_in + cost_in_token(paid, price)
    # There and back nothing is gained: profits down, costs up.
    assert amount_in_lamports(cost_in_token(paid, price) - 1, price) < paid or not paid
    assert minimum_for(amount_in, paid, PAR) == amount_in + paid
