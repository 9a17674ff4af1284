"""What holds for every pool: checked on made-up pools of all three programs."""

from __future__ import annotations

import copy

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from markets.solana.pools import Pool, PoolQuote, QuoteError
from pipeline.messages import Protocol

from .build import NOW, POOL, SLOT, Raw, amm_v4_accounts, cpmm_accounts, whirlpool_accounts
from .drawn import positions
from .reference import Whirlpool, amm_v4_in, amm_v4_out, cpmm_in
from .ticks import MAX_TICK, MIN_TICK, SwapFails, sqrt_price

amounts = st.integers(1, 2**64 - 1) | st.integers(1, 10**6) | st.integers(10**6, 10**12)
reserves = st.integers(10**3, 10**15)


@st.composite
def whirlpools(draw: st.DrawFn) -> list[Raw]:
    """Some positions around a price, in fixed and dynamic tick arrays."""
    spacing = draw(st.sampled_from([1, 2, 8, 64, 128, 32_896]))
    ranges, _, tick = positions(draw, spacing)
    price = sqrt_price(tick)
    price += draw(st.integers(0, sqrt_price(tick + 1) - price - 1))
    fee = draw(st.sampled_from([0, 100, 3_000, 60_000]))
    dynamic = draw(st.booleans())
    return whirlpool_accounts(ranges, tick=tick, spacing=spacing, price=price, fee_rate=fee, dynamic=dynamic)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """A pool of any program."""
    kind = draw(st.sampled_from([Protocol.WHIRLPOOL, Protocol.RAYDIUM_AMM_V4, Protocol.RAYDIUM_CPMM]))
    if kind is Protocol.WHIRLPOOL:
        accounts = draw(whirlpools())
    elif kind is Protocol.RAYDIUM_AMM_V4:
        accounts = amm_v4_accounts(draw(reserves), draw(reserves), owed=(7, 9))
    else:
        rates = draw(st.sampled_from([(2_500, 120_000, 40_000), (0, 0, 0), (100_000, 500_000, 500_000)]))
        creator = {"creator_enabled": draw(st.booleans()), "creator_on": draw(st.integers(0, 2)), "creator_rate": 500}
        accounts = cpmm_accounts(draw(reserves), draw(reserves), rates=rates, owed=(3, 4), **creator)
    return Pool.parse(kind, POOL, accounts, SLOT, 0, NOW)


def quote_in(pool: Pool, a_to_b: bool, amount: int) -> PoolQuote | None:
    try:
        return pool.quote_in(a_to_b, amount)
    except QuoteError:
        return None


@given(whirlpools(), st.booleans(), st.booleans(), amounts)
@settings(max_examples=300, deadline=None)
def test_whirlpool_is_plain_python(accounts: list[Raw], a_to_b: bool, exact_in: bool, amount: int) -> None:
    pool = Pool.parse(Protocol.WHIRLPOOL, POOL, accounts, SLOT, 0, NOW)
    reference = Whirlpool.parse(accounts)
    try:
        moved = reference.swap(a_to_b, amount, exact_in, now=NOW)
    except SwapFails:
        moved = None
    if moved is None:
        with pytest.raises(QuoteError):
            pool.swap(a_to_b, amount, exact_in=exact_in)
        return
    after, quote = pool.swap(a_to_b, amount, exact_in=exact_in)
    assert (quote.amount_in, quote.amount_out, quote.fee_amount) == (moved.amount_in, moved.amount_out, moved.fee)
    assert Whirlpool.parse(after.accounts()) == reference


@given(whirlpools(), st.booleans(), amounts, st.integers(-5_000, 5_000))
@settings(max_examples=200, deadline=None)
def test_price_limit_is_kept(accounts: list[Raw], exact_in: bool, amount: int, distance: int) -> None:
    pool = Pool.parse(Protocol.WHIRLPOOL, POOL, accounts, SLOT, 0, NOW)
    reference = Whirlpool.parse(accounts)
    a_to_b = distance < 0
    limit = sqrt_price(max(MIN_TICK, min(MAX_TICK, reference.tick + distance)))
    assume(limit != reference.price and (limit < reference.price) == a_to_b)
    try:
        moved = copy.deepcopy(reference).swap(a_to_b, amount, exact_in, limit)
    except SwapFails:
        return
    quote = (pool.quote_in if exact_in else pool.quote_out)(a_to_b, amount, limit)
    assert (quote.amount_in, quote.amount_out) == (moved.amount_in, moved.amount_out)
    assert quote.sqrt_price_after >= limit if a_to_b else quote.sqrt_price_after <= limit


@given(pools(), st.booleans(), amounts)
@settings(max_examples=300, deadline=None)
def test_a_round_trip_never_pays(pool: Pool, a_to_b: bool, amount: int) -> None:
    try:
        after, there = pool.swap(a_to_b, amount)
        back = after.quote_in(not a_to_b, there.amount_out)
    except QuoteError:
        return
    assert back.amount_out <= there.amount_in


@given(pools(), st.booleans(), amounts, amounts)
@settings(max_examples=300, deadline=None)
def test_more_in_never_gives_less(pool: Pool, a_to_b: bool, one: int, other: int) -> None:
    less, more = quote_in(pool, a_to_b, min(one, other)), quote_in(pool, a_to_b, max(one, other))
    if less is not None and more is not None:
        assert less.amount_out <= more.amount_out
        assert less.price_impact_bps <= more.price_impact_bps + 1e-6


@given(pools(), st.booleans(), amounts)
@settings(max_examples=300, deadline=None)
def test_exact_out_asks_enough(pool: Pool, a_to_b: bool, wanted: int) -> None:
    try:
        asked = pool.quote_out(a_to_b, wanted)
    except QuoteError:
        return
    assert asked.amount_out == wanted
    given = quote_in(pool, a_to_b, asked.amount_in)
    # Rounding is against the trader both ways: giving what was asked brings what was wanted, or a few units less.
    if given is not None and given.amount_in == asked.amount_in and pool.protocol != Protocol.WHIRLPOOL:
        assert given.amount_out >= wanted
    # Asking back for what an amount brings never asks more than that amount.
    if given is not None and given.amount_out:
        again = pool.quote_out(a_to_b, given.amount_out)
        assert again.amount_in <= asked.amount_in


@given(pools(), st.booleans(), amounts, st.booleans())
@settings(max_examples=200, deadline=None)
def test_carried_state_is_read_state(pool: Pool, a_to_b: bool, amount: int, second: bool) -> None:
    for direction in (a_to_b, second):
        try:
            after, quote = pool.swap(direction, amount)
        except QuoteError:
            return
        assert quote.amount_out == pool.quote_in(direction, amount).amount_out
        assert Pool.parse(pool.protocol, POOL, after.accounts(), SLOT, 0, NOW) == after
        blob = Pool.from_snapshot(pool.snapshot()).swap(direction, amount)[0]
        assert blob == after
        assert blob.snapshot() == after.snapshot()
        pool = after


@given(reserves, reserves, st.integers(1, 10**15), st.booleans())
@settings(max_examples=200, deadline=None)
def test_amm_v4_is_plain_python(coin: int, pc: int, amount: int, a_to_b: bool) -> None:
    pool = Pool.parse(Protocol.RAYDIUM_AMM_V4, POOL, amm_v4_accounts(coin + 5, pc + 6, owed=(5, 6)), SLOT, 0, NOW)
    given, taken = (coin, pc) if a_to_b else (pc, coin)
    expected = amm_v4_in(given, taken, amount)
    quote = quote_in(pool, a_to_b, amount)
    assert (quote.amount_out if quote else 0) == expected
    wanted = amount % taken
    if wanted:
        assert pool.quote_out(a_to_b, wanted).amount_in == amm_v4_out(given, taken, wanted)


@given(reserves, reserves, st.integers(1, 10**15), st.booleans(), st.integers(0, 2), st.booleans())
@settings(max_examples=200, deadline=None)
def test_cpmm_is_plain_python(a: int, b: int, amount: int, a_to_b: bool, on: int, enabled: bool) -> None:
    accounts = cpmm_accounts(a + 2, b + 3, owed=(2, 3), creator_rate=700, creator_on=on, creator_enabled=enabled)
    pool = Pool.parse(Protocol.RAYDIUM_CPMM, POOL, accounts, SLOT, 0, NOW)
    given, taken = (a, b) if a_to_b else (b, a)
    on_input = on == 0 or (on == 1) == a_to_b
    expected = cpmm_in(given, taken, amount, 2_500, 700 if enabled else 0, on_input)
    quote = quote_in(pool, a_to_b, amount)
    assert (quote.amount_out if quote else 0) == expected
