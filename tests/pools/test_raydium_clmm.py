"""Raydium CLMM: the native core against the program in plain Python, and what must be refused."""

from __future__ import annotations

import base64
import copy
import json
from decimal import Decimal, localcontext
from itertools import pairwise
from pathlib import Path

import base58
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from markets.solana.pools import Pool, PoolQuote, PoolRefused, QuoteError
from pipeline.messages import Protocol

from .build import (
    CONFIG,
    MINT_A,
    MINT_B,
    NOW,
    POOL,
    SLOT,
    SYSTEM,
    VAULT_A,
    VAULT_B,
    Raw,
    fee_config,
    key,
    mint_account,
    token_account,
    withheld,
)
from .clmm import CLMM, FACTORS, MAX_SQRT_PRICE, MIN_SQRT_PRICE, Clmm, sqrt_price, tick_at
from .clmm_build import clmm_accounts
from .drawn import positions
from .reference import TOKEN_2022, Moved
from .ticks import MAX_TICK, MIN_TICK, SwapFails, ceil_div

amounts = st.integers(1, 2**64 - 1) | st.integers(1, 10**6) | st.integers(10**6, 10**12)
PLAIN = clmm_accounts([(-600, 600, 10**13), (-1_200, 60, 10**12), (-6_000, 12_000, 10**12)], tick=3)


def parse(accounts: list[Raw], now: int = NOW) -> Pool:
    return Pool.parse(Protocol.RAYDIUM_CLMM, POOL, accounts, SLOT, 0, now)


def parsed(accounts: list[Raw]) -> Pool | None:
    try:
        return parse(accounts)
    except PoolRefused:
        return None


@st.composite
def pools(draw: st.DrawFn, *, whole: bool = False) -> list[Raw]:
    """Some positions around a price near or far from one; where not `whole`, with arrays missing and limit orders."""
    spacing = draw(st.sampled_from([1, 10, 60, 120]))
    ranges, centre, tick = positions(draw, spacing)
    price = sqrt_price(tick)
    price += draw(st.integers(0, sqrt_price(tick + 1) - price - 1))
    rates = {"fee_rate": draw(st.sampled_from([0, 100, 2_500, 100_000]))}
    if whole:
        return clmm_accounts(ranges, tick=tick, spacing=spacing, price=price, rates=rates)
    home, highest = tick // (60 * spacing), MAX_TICK // spacing
    missing = frozenset(home + at for at in draw(st.sets(st.integers(-3, 3), max_size=2)) if at)
    near = st.integers(max(-highest, centre - 80), min(highest, centre + 80)).map(lambda at: at * spacing)
    orders = draw(st.dictionaries(near, st.integers(1, 10**9), max_size=1))
    return clmm_accounts(
        ranges, tick=tick, spacing=spacing, price=price, rates=rates, missing=missing, orders=orders,
        extension=draw(st.booleans()),
    )  # fmt: skip


def quote_in(pool: Pool, a_to_b: bool, amount: int) -> PoolQuote | None:
    try:
        return pool.quote_in(a_to_b, amount)
    except QuoteError:
        return None


# --- prices of ticks


def test_ticks_have_the_programs_prices() -> None:
    """Every factor of the table is the root it stands for, and the ends of the range are the program's."""
    assert (sqrt_price(MIN_TICK), sqrt_price(MAX_TICK)) == (MIN_SQRT_PRICE, MAX_SQRT_PRICE)
    with localcontext(prec=60):
        for bit in range(19):
            exact = Decimal("1.0001") ** -(Decimal(2) ** (bit - 1)) * 2**64
            assert abs(FACTORS[bit] / exact - 1) < Decimal(2) ** -38
    # The table was made by squaring, which keeps each factor far nearer to the one before it; the last was not.
    for factor, squared in pairwise(FACTORS[:18]):
        assert abs(squared * 2**64 - factor**2) < factor**2 >> 50


@given(st.integers(MIN_TICK, MAX_TICK - 1), st.integers(0, 2**64))
def test_a_swap_ends_on_the_programs_tick(tick: int, beyond: int) -> None:
    """A pool takes a price and its tick together or not at all, so a wrong price of a tick is refused."""
    price = min(sqrt_price(tick) + beyond, sqrt_price(tick + 1) - 1)
    highest = MAX_TICK // 120 * 120
    accounts = clmm_accounts([(-highest, highest, 10**12)], tick=tick, spacing=120, price=price)
    assert parse(accounts).info()["tick"] == tick == tick_at(price)
    wrong = clmm_accounts([(-highest, highest, 10**12)], tick=tick - 1, spacing=120, price=price)
    if price != sqrt_price(tick):
        with pytest.raises(PoolRefused):
            parse(wrong)


# --- swaps


@given(pools(), st.booleans(), st.booleans(), amounts)
@settings(max_examples=400, deadline=None)
def test_swaps_are_plain_python(accounts: list[Raw], a_to_b: bool, exact_in: bool, amount: int) -> None:
    pool = parsed(accounts)
    if pool is None:
        # The price lies in an array that only the absent extension could tell: the program finds no way either.
        assert reason_of(accounts) == "missing_account"
        for direction in (True, False):
            with pytest.raises(SwapFails):
                Clmm.parse(accounts).swap(direction, amount, exact_in)
        return
    reference = Clmm.parse(accounts)
    moved: Moved | None = None
    failure = ""
    try:
        moved = reference.swap(a_to_b, amount, exact_in)
    except SwapFails as failed:
        failure = str(failed)
    if moved is None:
        with pytest.raises(QuoteError) as caught:
            pool.swap(a_to_b, amount, exact_in=exact_in)
        known = {"not_enough_tick_array_account", "liquidity_insufficient", "limit_orders"}
        assert caught.value.reason == failure or not {caught.value.reason, failure} & known
        return
    after, quote = pool.swap(a_to_b, amount, exact_in=exact_in)
    assert (quote.amount_in, quote.amount_out, quote.fee_amount) == (moved.amount_in, moved.amount_out, moved.fee)
    assert Clmm.parse(after.accounts()) == reference
    alone = (pool.quote_in if exact_in else pool.quote_out)(a_to_b, amount)
    assert (alone.amount_in, alone.amount_out) == (moved.amount_in, moved.amount_out)


@given(pools(whole=True), st.booleans(), amounts, st.integers(-5_000, 5_000))
@settings(max_examples=200, deadline=None)
def test_price_limit_is_kept(accounts: list[Raw], exact_in: bool, amount: int, distance: int) -> None:
    pool, reference = parse(accounts), Clmm.parse(accounts)
    a_to_b = distance < 0
    limit = sqrt_price(max(MIN_TICK, min(MAX_TICK, reference.tick + distance)))
    assume(limit != reference.price and (limit < reference.price) == a_to_b)
    try:
        moved = copy.deepcopy(reference).swap(a_to_b, amount, exact_in, limit)
    except SwapFails:
        with pytest.raises(QuoteError):
            (pool.quote_in if exact_in else pool.quote_out)(a_to_b, amount, limit)
        return
    quote = (pool.quote_in if exact_in else pool.quote_out)(a_to_b, amount, limit)
    assert (quote.amount_in, quote.amount_out) == (moved.amount_in, moved.amount_out)
    assert quote.sqrt_price_after >= limit if a_to_b else quote.sqrt_price_after <= limit


@given(pools(), st.lists(st.tuples(st.booleans(), amounts), min_size=2, max_size=6))
@settings(max_examples=200, deadline=None)
def test_chains_carry_the_state(accounts: list[Raw], swaps: list[tuple[bool, int]]) -> None:
    pool = parsed(accounts)
    if pool is None:
        return
    reference = Clmm.parse(accounts)
    for a_to_b, amount in swaps:
        try:
            pool, quote = pool.swap(a_to_b, amount)
        except QuoteError:
            continue
        moved = reference.swap(a_to_b, amount)
        assert (quote.amount_in, quote.amount_out) == (moved.amount_in, moved.amount_out)
        assert Clmm.parse(pool.accounts()) == reference
        assert parse(pool.accounts()) == pool
        assert Pool.from_snapshot(pool.snapshot()) == pool
        back = quote_in(pool, not a_to_b, quote.amount_out)
        assert back is None or back.amount_out <= quote.amount_in


@given(pools(), st.booleans(), amounts, amounts)
@settings(max_examples=200, deadline=None)
def test_more_in_never_gives_less(accounts: list[Raw], a_to_b: bool, one: int, other: int) -> None:
    pool = parsed(accounts)
    if pool is None:
        return
    less, more = quote_in(pool, a_to_b, min(one, other)), quote_in(pool, a_to_b, max(one, other))
    if less is not None and more is not None:
        assert less.amount_out <= more.amount_out
        assert less.price_impact_bps <= more.price_impact_bps + 1e-6


@given(st.integers(1, 10**10), st.integers(0, 9_999), st.integers(0, 9_999), st.integers(0, 10**9), st.booleans())
@settings(max_examples=150, deadline=None)
def test_transfer_fees(amount: int, bps_a: int, bps_b: int, maximum: int, a_to_b: bool) -> None:
    mints = [
        mint_account(address, owner=TOKEN_2022, extensions=fee_config(bps, maximum))
        for address, bps in ((MINT_A, bps_a), (MINT_B, bps_b))
    ]
    pool = parse([*PLAIN, *mints])
    bps_in, bps_out = (bps_a, bps_b) if a_to_b else (bps_b, bps_a)
    arrives = amount - min(maximum, ceil_div(amount * bps_in, 10_000))
    quote = quote_in(pool, a_to_b, amount)
    try:
        moved = Clmm.parse(PLAIN).swap(a_to_b, arrives)
    except SwapFails:
        assert quote is None
        return
    kept = min(maximum, ceil_div(moved.amount_out * bps_out, 10_000))
    assert quote is not None
    assert (quote.amount_in, quote.amount_out) == (amount, moved.amount_out - kept)
    if quote.amount_out:
        asked = pool.quote_out(a_to_b, quote.amount_out)
        assert asked.amount_in <= amount


# --- what is known of the ticks


def test_a_quote_past_what_is_known_fails() -> None:
    """An array that exists and is not given ends every swap that would need it, and no other."""
    ranges = [(-600, 600, 10**13), (-6_000, -5_400, 10**12), (5_400, 6_000, 10**12)]
    whole = parse(clmm_accounts(ranges, tick=3))
    assert whole.info()["known_ticks"] == (MIN_TICK, MAX_TICK)
    part = parse(clmm_accounts(ranges, tick=3, missing=frozenset({-10})))
    # Arrays -9 and 9 hold ticks -5,400 and 5,400; arrays -10 and 10 the outer ends.
    assert part.info()["known_ticks"] == (-5_400, MAX_TICK)
    small, large = 10**9, 2 * 10**12
    for pool in (whole, part):
        assert pool.quote_in(True, small).amount_out == whole.quote_in(True, small).amount_out
    with pytest.raises(QuoteError) as caught:
        part.quote_in(True, large)
    assert caught.value.reason == "not_enough_tick_array_account"
    with pytest.raises(QuoteError) as caught:
        whole.quote_in(True, large)
    assert caught.value.reason == "liquidity_insufficient"


def test_far_from_one_the_extension_tells_the_arrays() -> None:
    ranges = [(40_000, 40_100, 10**12), (39_000, 41_000, 10**10)]
    known = parse(clmm_accounts(ranges, tick=40_050, spacing=1))
    assert known.quote_in(True, 10**6).amount_out > 0
    with pytest.raises(PoolRefused) as refused:
        parse(clmm_accounts(ranges, tick=40_050, spacing=1, extension=False))
    assert refused.value.reason == "missing_account"
    # Just inside the pool's own bitmap, which ends at 30,720: known as far as that.
    edge = parse(clmm_accounts([(30_000, 31_000, 10**12)], tick=30_500, spacing=1, extension=False))
    assert edge.info()["known_ticks"] == (-30_720, 30_719)
    assert edge.quote_in(True, 10**6).amount_out > 0
    with pytest.raises(QuoteError) as caught:
        edge.quote_in(False, 10**6)
    assert caught.value.reason == "missing_tick_array_bitmap_extension_account"


def test_limit_orders_end_the_swaps_that_reach_them() -> None:
    ranges = [(-600, 600, 10**13)]
    plain, waiting = (parse(clmm_accounts(ranges, tick=3, orders=orders)) for orders in (None, {50: 10**9}))
    assert waiting.info()["limit_orders_at"] == [50]
    assert waiting.quote_in(True, 10**9).amount_out == plain.quote_in(True, 10**9).amount_out
    assert waiting.quote_in(False, 10**6).amount_out == plain.quote_in(False, 10**6).amount_out
    assert plain.quote_in(False, 10**11).amount_out > 0
    with pytest.raises(QuoteError) as caught:
        waiting.quote_in(False, 10**11)
    assert caught.value.reason == "limit_orders"


# --- refusals


def reason_of(accounts: list[Raw], now: int = NOW) -> str:
    with pytest.raises(PoolRefused) as caught:
        parse(accounts, now)
    return caught.value.reason


def test_switched_off_and_unknown_features_are_refused() -> None:
    ranges = [(-600, 600, 10**13)]
    assert reason_of(clmm_accounts(ranges, status=1 << 4)) == "swap_disabled"
    assert parse(clmm_accounts(ranges, status=0xFF ^ 1 << 4)).quote_in(True, 10**6).amount_out > 0
    opening = clmm_accounts(ranges, open_time=NOW)
    assert reason_of(opening) == "not_open"
    assert parse(opening, NOW + 1).quote_in(True, 10**6).amount_out > 0
    assert reason_of(clmm_accounts(ranges, fee_on=1)) == "fee_on_one_token"


def test_accounts_of_others_are_refused() -> None:
    def without(address: str) -> list[Raw]:
        return [row for row in PLAIN if row[0] != address]

    def with_data(position: int, at: int, value: bytes) -> list[Raw]:
        address, owner, data = PLAIN[position]
        return [
            *PLAIN[:position],
            (address, owner, data[:at] + value + data[at + len(value) :]),
            *PLAIN[position + 1 :],
        ]

    assert reason_of(without(POOL)) == "missing_account"
    assert reason_of(without(CONFIG)) == "missing_account"
    assert reason_of([(POOL, SYSTEM, PLAIN[0][2]), *PLAIN[1:]]) == "wrong_owner"
    assert reason_of([PLAIN[0], (CONFIG, SYSTEM, PLAIN[1][2]), *PLAIN[2:]]) == "wrong_owner"
    assert reason_of(with_data(0, 0, bytes(8))) == "wrong_discriminator"
    assert reason_of(with_data(1, 0, bytes(8))) == "wrong_discriminator"
    assert reason_of([(POOL, CLMM, PLAIN[0][2] + b"\x00"), *PLAIN[1:]]) == "short_data"
    extension, array = 2, 3
    assert reason_of(with_data(extension, 8, bytes(32))) == "foreign_account"
    assert reason_of(with_data(array, 8, bytes(32))) == "foreign_account"
    assert reason_of([*PLAIN, (key(9), *PLAIN[array][1:])]) == "duplicate_account"
    assert reason_of([*PLAIN, (key(9), *PLAIN[extension][1:])]) == "duplicate_account"
    assert reason_of(with_data(array, 40, b"\x01")) == "bad_tick_array"
    assert reason_of(with_data(1, 47, (10**6).to_bytes(4, "little"))) == "bad_pool"
    assert reason_of(with_data(0, 235, bytes(2))) == "bad_pool"
    assert reason_of(with_data(0, 269, (500).to_bytes(4, "little"))) == "bad_pool"
    # A tick that does not stand where its array says.
    start = int.from_bytes(PLAIN[array][2][40:44], "little", signed=True)
    offset = next(at for at in range(60) if any(PLAIN[array][2][64 + 168 * at : 80 + 168 * at]))
    wrong = (start + offset * 10 + 1).to_bytes(4, "little", signed=True)
    assert reason_of(with_data(array, 44 + 168 * offset, wrong)) == "bad_tick"


def test_vaults_and_mints_are_checked() -> None:
    vaults = [token_account(VAULT_A, MINT_A, 10**15), token_account(VAULT_B, MINT_B, 10**15)]
    after, quote = parse([*PLAIN, *vaults]).swap(True, 10**9)
    balances = [int.from_bytes(data[64:72], "little") for _, _, data in after.accounts()[-2:]]
    assert balances == [10**15 + quote.amount_in, 10**15 - quote.amount_out]
    assert reason_of([*PLAIN, token_account(VAULT_A, MINT_B, 1)]) == "foreign_account"
    assert reason_of([*PLAIN, token_account(VAULT_A, MINT_A, 1, state=2)]) == "frozen_vault"
    charging = token_account(VAULT_A, MINT_A, 1, owner=TOKEN_2022, extensions=withheld())
    assert reason_of([*PLAIN, charging]) == "missing_account"


# --- recorded


@pytest.mark.recorded
def test_recorded_accounts(recorded_data: Path) -> None:
    folder = recorded_data / "solana" / "carbon" / "raydium-clmm"

    def data_of(name: str) -> bytes:
        return base64.b64decode(json.loads((folder / name).read_text())["data"])

    pool, config, array = (data_of(f"{name}_account.json") for name in ("pool_state", "amm_config", "tick_array_state"))
    price, tick = int.from_bytes(pool[253:269], "little"), int.from_bytes(pool[269:273], "little", signed=True)
    assert tick_at(price) == tick
    # The same pool: its own bitmap is empty, for its price is far from one; arrays are made up, as none was recorded.
    made_up = clmm_accounts([(tick - 100, tick + 100, 3_464_101_788_356)], tick=tick, spacing=1, price=price)
    rows = [(POOL, CLMM, pool), (_key_at(pool, 9), CLMM, config), *made_up[2:]]
    parsed = Pool.parse(Protocol.RAYDIUM_CLMM, POOL, rows, SLOT, 0, NOW)
    info = parsed.info()
    assert (info["trade_fee_rate_e6"], info["protocol_fee_rate_e6"], info["fund_fee_rate_e6"]) == (100, 120_000, 40_000)
    assert (info["sqrt_price"], info["liquidity"], info["tick"]) == (price, 3_464_101_788_356, tick)
    reference = Clmm.parse([(POOL, CLMM, pool), (CONFIG, CLMM, config), *made_up[2:]])
    moved = reference.swap(True, 10**6)
    assert parsed.quote_in(True, 10**6).amount_out == moved.amount_out > 0
    # Without the extension nothing is known of its ticks.
    assert reason_of([row for row in rows if len(row[2]) != 1_832]) == "missing_account"
    decoded = json.loads((folder / "tick_array_state_account.json").read_text())["data_decoded"]
    assert int(decoded["startTickIndex"]["data"]) == int.from_bytes(array[40:44], "little", signed=True)
    assert len(array) == 10_240
    assert array[:8].hex() == "c09b55cd31f9812a"


def _key_at(data: bytes, at: int) -> str:
    return base58.b58encode(data[at : at + 32]).decode()
