"""Raydium CLMM pools whose fee moves: the native core against the program in plain Python, over time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.solana.pools import Pool, PoolRefused, QuoteError, Searcher
from pipeline.messages import Protocol

from .build import MINT_A, MINT_B, NOW, POOL, SLOT, Raw
from .clmm import Clmm, sqrt_price
from .clmm_build import clmm_accounts, dynamic_fee
from .ticks import SwapFails

amounts = st.integers(1, 10**6) | st.integers(10**6, 10**13)


def parse(accounts: list[Raw], now: int = NOW) -> Pool:
    return Pool.parse(Protocol.RAYDIUM_CLMM, POOL, accounts, SLOT, 0, now)


@st.composite
def pools(draw: st.DrawFn) -> list[Raw]:
    spacing = draw(st.sampled_from([1, 10, 60]))
    centre = draw(st.integers(-300, 300))
    ranges = []
    for _ in range(draw(st.integers(1, 5))):
        lower = centre + draw(st.integers(-60, 60))
        width = draw(st.integers(1, 120))
        ranges.append((lower * spacing, (lower + width) * spacing, draw(st.integers(10**6, 10**14))))
    tick = centre * spacing + draw(st.integers(0, spacing - 1))
    price = draw(st.integers(sqrt_price(tick), sqrt_price(tick + 1) - 1))
    fee = dynamic_fee(
        reduction=draw(st.integers(1, 9_999)),
        control=draw(st.sampled_from([1, 4_000, 99_999])),
        most=draw(st.sampled_from([0, 15_000, 350_000, 2_000_000])),
        start=centre + draw(st.integers(-8, 8)),
        floor=draw(st.integers(0, 50_000)),
        volatility=draw(st.integers(0, 100_000)),
        updated=NOW - draw(st.integers(-10, 800)),
    )
    rates = {"fee_rate": draw(st.sampled_from([0, 100, 2_500, 99_000]))}
    return clmm_accounts(ranges, tick=tick, spacing=spacing, price=price, rates=rates, dynamic=fee)


@given(pools(), st.lists(st.tuples(st.booleans(), st.booleans(), amounts, st.integers(0, 700)), min_size=1, max_size=5))
@settings(max_examples=250, deadline=None)
def test_moving_fees_are_plain_python(accounts: list[Raw], swaps: list[tuple[bool, bool, int, int]]) -> None:
    pool, reference, now = parse(accounts), Clmm.parse(accounts), NOW
    for a_to_b, exact_in, amount, wait in swaps:
        now += wait
        pool = pool.at(SLOT, 0, now)
        try:
            moved = reference.swap(a_to_b, amount, exact_in, now=now)
        except SwapFails:
            with pytest.raises(QuoteError):
                pool.swap(a_to_b, amount, exact_in=exact_in)
            continue
        alone = (pool.quote_in if exact_in else pool.quote_out)(a_to_b, amount)
        pool, quote = pool.swap(a_to_b, amount, exact_in=exact_in)
        assert (quote.amount_in, quote.amount_out, quote.fee_amount) == (moved.amount_in, moved.amount_out, moved.fee)
        assert (alone.amount_in, alone.amount_out) == (moved.amount_in, moved.amount_out)
        assert Clmm.parse(pool.accounts()) == reference
        assert parse(pool.accounts(), now) == pool
        assert Pool.from_snapshot(pool.snapshot()) == pool


def test_a_calm_pool_charges_its_base_and_a_moved_one_more() -> None:
    ranges, amount = [(-60_000, 60_000, 10**13)], 10**10
    fixed = parse(clmm_accounts(ranges, spacing=10))
    plain = fixed.quote_in(True, amount)
    calm = parse(clmm_accounts(ranges, spacing=10, dynamic=dynamic_fee(updated=NOW - 10_000, volatility=350_000)))
    # Within the stretch of the price, upwards from its lower end.
    assert calm.quote_in(False, 10**8).fee_amount == fixed.quote_in(False, 10**8).fee_amount
    assert calm.quote_in(True, amount).fee_amount > plain.fee_amount
    moved = parse(clmm_accounts(ranges, spacing=10, dynamic=dynamic_fee(updated=NOW, start=20, control=90_000)))
    assert moved.info()["dynamic_fee"]
    dear = moved.quote_in(True, amount)
    assert dear.fee_amount > 2 * plain.fee_amount
    assert dear.amount_out < plain.amount_out
    # The farther it goes, the more it pays.
    shares = [quote.fee_amount / quote.amount_in for quote in (moved.quote_in(True, 10**at) for at in (9, 11, 12))]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1] < 0.1


def test_figures_that_no_fee_comes_from_are_refused() -> None:
    for wrong in (
        dynamic_fee(reduction=10_000),
        dynamic_fee(most=2**32 - 1),
        dynamic_fee(start=500_000),
    ):
        with pytest.raises(PoolRefused) as caught:
            parse(clmm_accounts([(-600, 600, 10**12)], dynamic=wrong))
        assert caught.value.reason == "bad_pool"


def around(tick: int, *, moving: bool) -> Pool:
    fee = dynamic_fee(start=tick // 10 + 1, updated=NOW - 40) if moving else b""
    ranges = [(-12_000, 12_000, 10**12), (-600, 600, 10**12)]
    return parse(clmm_accounts(ranges, tick=tick, rates={"fee_rate": 500}, dynamic=fee))


@pytest.mark.parametrize("moving", [False, True])
def test_cycles_between_two_pools(moving: bool) -> None:
    """Pools whose prices are 5 % apart: found, with a profit that quotes confirm, and little is left beside it."""
    pools = [around(250, moving=moving), around(-250, moving=moving)]
    made = Searcher([MINT_A, MINT_B])
    for number, pool in enumerate(pools):
        made.upsert(number, pool)

    def profit(amount: int) -> int:
        try:
            bought = pools[0].quote_in(True, amount).amount_out
            return pools[1].quote_in(False, bought).amount_out - amount
        except QuoteError:
            return 0

    [found] = made.search()
    assert [(leg.pool_id, leg.a_to_b) for leg in found.legs] == [(0, True), (1, False)]
    assert profit(found.amount_in) == found.net_profit > 0
    best = max(profit(found.amount_in * at // 100) for at in range(10, 200, 3))
    # Where the fee falls along the way the search may stop early, but not far from the best.
    assert best <= found.net_profit * (1.02 if moving else 1)
