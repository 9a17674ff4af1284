"""Meteora DAMM v2: the native core against plain Python, its limits, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.solana.pools import Pool, PoolRefused, QuoteError, Searcher
from pipeline.messages import Protocol

from .build import MINT_A, MINT_B, NOW, POOL, SLOT, VAULT_A, Raw, fee_config, key, mint_account, token_account
from .damm import (
    CAP_EXPONENTIAL,
    CAP_LINEAR,
    COMPOUNDING,
    DAMM,
    EXPONENTIAL,
    HIGHEST,
    IN_B,
    LIMITER,
    LINEAR,
    LOWEST,
    ONE,
    OUTPUT,
    U64,
    Damm,
)
from .reference import TOKEN_2022
from .ticks import SwapFails

D = Protocol.METEORA_DAMM_V2
amounts = st.integers(1, 10**6) | st.integers(10**6, 10**13) | st.integers(1, 2**64 - 1)


def parse(accounts: list[Raw], now: int = NOW, slot: int = SLOT, address: str = POOL) -> Pool:
    return Pool.parse(D, address, accounts, slot, 0, now)


@st.composite
def damms(draw: st.DrawFn) -> Damm:
    """A pool of any kind."""
    collect = draw(st.sampled_from([OUTPUT, IN_B, COMPOUNDING]))
    mode = draw(st.sampled_from([LINEAR, EXPONENTIAL, LIMITER, CAP_LINEAR, CAP_EXPONENTIAL]))
    price = draw(st.integers(ONE >> 4, ONE << 4) | st.integers(1 << 40, 1 << 90))
    width = draw(st.integers(2, 2**20))
    pool = Damm(
        collect=collect,
        price=price,
        lowest=max(LOWEST, price // width),
        highest=min(HIGHEST, price * width),
        liquidity=draw(st.integers(1, 2**64)) << draw(st.integers(0, 60)),
        cliff=draw(st.sampled_from([100_000, 2_500_000, 400_000_000])),
        base_mode=mode,
        periods=draw(st.integers(0, 50)),
        reduction=draw(st.sampled_from([0, 1_000, 9_000])),
        protocol_percent=draw(st.sampled_from([0, 20])),
        opened=SLOT - draw(st.integers(0, 2_000)),
        fee_version=draw(st.integers(0, 1)),
        layout=1 if collect == COMPOUNDING else draw(st.integers(0, 1)),
        moving=draw(st.booleans()),
        accumulator=draw(st.integers(0, 2_000_000)),
        reference=draw(st.integers(0, 1_000_000)),
        price_reference=price + draw(st.integers(-(price >> 3), price >> 3)),
        updated=NOW - draw(st.integers(0, 200)),
    )
    if mode in (LINEAR, EXPONENTIAL):
        pool.second = (draw(st.integers(0, 100)), 0)
    elif mode == LIMITER:
        pool.second = draw(st.sampled_from([(0, 0), (1_000, 9_900)]))
    else:
        pool.second, pool.initial_price = (draw(st.integers(1, 500)), 1_000), max(1, price // draw(st.integers(1, 3)))
    if collect == COMPOUNDING:
        pool.reserves = (draw(st.integers(1, 10**15)), draw(st.integers(1, 10**15)))
        pool.compounding_bps = draw(st.integers(0, 10_000))
    if any(amount > U64 for amount in pool.held()):
        pool.liquidity >>= 60
    return pool


@given(damms(), st.lists(st.tuples(st.booleans(), st.booleans(), amounts, st.integers(0, 300)), min_size=1, max_size=4))
@settings(max_examples=500, deadline=None)
def test_chains_of_swaps_are_plain_python(damm: Damm, orders: list[tuple[bool, bool, int, int]]) -> None:
    if any(amount > U64 for amount in damm.held()):
        return
    pool, slot, now = parse(damm.accounts(vaults=False)), SLOT, NOW
    for a_to_b, exact_in, amount, later in orders:
        slot, now = slot + 2 * later, now + later
        pool = pool.at(slot, 0, now)
        following = copy.deepcopy(damm)
        try:
            moved = following.swap(a_to_b, amount, exact_in, slot, now)
        except SwapFails:
            with pytest.raises(QuoteError):
                pool.swap(a_to_b, amount, exact_in=exact_in)
            continue
        after, quote = pool.swap(a_to_b, amount, exact_in=exact_in)
        assert (quote.amount_in, quote.amount_out) == (moved.amount_in, moved.amount_out)
        assert quote.fee_amount == (moved.fee if damm.collect != OUTPUT and not a_to_b else 0)
        assert damm.written(after.accounts()[0][2]) == following.state()
        assert Pool.from_snapshot(after.snapshot()) == after == parse(after.accounts(), now, slot)
        pool, damm = after, following


@given(damms(), st.booleans(), amounts, amounts)
@settings(max_examples=300, deadline=None)
def test_what_holds_for_every_pool(damm: Damm, a_to_b: bool, one: int, other: int) -> None:
    if any(amount > U64 for amount in damm.held()):
        return
    pool = parse(damm.accounts(vaults=False))
    try:
        less, (after, more) = pool.quote_in(a_to_b, min(one, other)), pool.swap(a_to_b, max(one, other))
        wanted = pool.quote_out(a_to_b, less.amount_out)
    except QuoteError:
        return
    assert less.amount_out <= more.amount_out
    assert wanted.amount_out == less.amount_out
    assert pool.quote_in(a_to_b, wanted.amount_in).amount_out >= less.amount_out
    try:
        back = after.quote_in(not a_to_b, more.amount_out)
    except QuoteError:
        return
    assert back.amount_out <= more.amount_in


def simple(**options: Any) -> Damm:
    return Damm(lowest=ONE >> 8, highest=ONE << 8, **options)


def refusal(accounts: list[Raw], now: int = NOW, slot: int = SLOT) -> str:
    with pytest.raises(PoolRefused) as caught:
        parse(accounts, now, slot)
    return caught.value.reason


def changed(accounts: list[Raw], at: int, value: bytes) -> list[Raw]:
    address, owner, data = accounts[0]
    return [(address, owner, data[:at] + value + data[at + len(value) :]), *accounts[1:]]


def test_refusals() -> None:
    good = simple().accounts()
    parse(good)
    assert refusal([]) == "missing_account"
    assert refusal([(POOL, key(1), good[0][2])]) == "wrong_owner"
    assert refusal(changed(good, 0, b"\0")) == "wrong_discriminator"
    assert refusal([(POOL, DAMM, good[0][2][:-1])]) == "short_data"
    assert refusal(simple(status=1).accounts()) == "swap_disabled"
    assert refusal(good, slot=SLOT - 1_001) == "not_open"
    assert refusal(simple(opened=NOW, by_time=True).accounts(), now=NOW - 1) == "not_open"
    assert refusal([good[0], token_account(VAULT_A, MINT_A, 5), good[2]]) == "bad_pool"
    assert refusal(changed(good, 440, (ONE - 1).to_bytes(16, "little"))) == "bad_pool"
    assert refusal(simple(base_mode=CAP_LINEAR).accounts()) == "bad_pool"
    assert refusal(simple(moving=True, bin_step_x64=0).accounts()) == "bad_pool"
    assert refusal(simple(moving=True, accumulator=2**32).accounts()) == "bad_pool"
    assert refusal(simple(protocol_percent=101).accounts()) == "bad_pool"
    assert refusal(simple(collect=COMPOUNDING, reserves=(5, 0)).accounts()) == "bad_pool"
    assert refusal(simple(collect=COMPOUNDING, reserves=(5, 5), layout=0).accounts()) == "bad_pool"


@pytest.mark.parametrize(("at", "value"), [(16, 5), (480, 2), (482, 2), (484, 3), (486, 2), (696, 2)])
def test_what_is_not_known_is_refused(at: int, value: int) -> None:
    assert refusal(changed(simple().accounts(), at, bytes([value]))) == "unknown_mode"


def test_the_range_ends() -> None:
    pool = parse(simple().accounts())
    for a_to_b in (True, False):
        with pytest.raises(QuoteError, match="price_range_violation"):
            pool.quote_in(a_to_b, 10**15)
    with pytest.raises(QuoteError, match="insufficient_liquidity"):
        parse(simple(liquidity=0).accounts()).quote_in(True, 5)
    with pytest.raises(QuoteError, match="price_limit_unsupported"):
        pool.quote_in(True, 5, ONE)


def test_base_fees_fall_with_time_and_with_price() -> None:
    linear = simple(cliff=500_000_000, periods=10, second=(100, 0), reduction=40_000_000, opened=SLOT)
    exponential = simple(cliff=500_000_000, base_mode=EXPONENTIAL, periods=10, second=(100, 0), reduction=2_000)
    exponential.opened = SLOT
    capped = simple(cliff=500_000_000, base_mode=CAP_LINEAR, periods=10, second=(100, 1_000), reduction=40_000_000)
    for damm in (linear, exponential):
        pool = parse(damm.accounts())
        quotes = [pool.at(SLOT + 99 * i, 0, NOW).quote_in(True, 10**6).amount_out for i in range(15)]
        assert quotes == sorted(quotes)
        assert len(set(quotes)) == 11
    capped.opened, outs = SLOT, []
    for percent in (90, 100, 102, 120):
        capped.price = ONE * percent // 100
        pool = parse(capped.accounts())
        out = pool.quote_in(True, 10**6).amount_out
        outs.append(out * 10**4 // percent**2)
    assert outs[0] < outs[2] < outs[3]
    assert pool.at(SLOT + 1_001, 0, NOW).quote_in(True, 10**6).amount_out == pool.quote_in(True, 10**6).amount_out


def test_a_rate_limiter_in_force_stops_purchases_only() -> None:
    damm = simple(collect=IN_B, base_mode=LIMITER, periods=10, second=(1_000, 9_900), reduction=10**6, opened=SLOT)
    pool = parse(damm.accounts())
    pool.quote_in(True, 10**6)
    with pytest.raises(QuoteError, match="rate_limiter_applied"):
        pool.quote_in(False, 10**6)
    with pytest.raises(QuoteError, match="pool_disabled"):
        pool.at(SLOT - 1, 0, NOW).quote_in(True, 10**6)
    assert pool.at(SLOT + 1_001, 0, NOW).quote_in(False, 10**6).fee_amount == 2_500


def test_transfer_fees() -> None:
    fee_b = mint_account(MINT_B, owner=TOKEN_2022, extensions=fee_config(200, 2**64 - 1))
    accounts = simple(programs=(0, 1)).accounts(vaults=False)
    assert refusal(accounts) == "missing_account"
    pool, plain = parse([*accounts, fee_b]), parse(simple().accounts())
    there, without = pool.quote_in(True, 10**9), plain.quote_in(True, 10**9)
    assert there.amount_out == without.amount_out + -without.amount_out * 200 // 10_000
    assert pool.quote_in(False, 10**9).amount_out == plain.quote_in(False, 10**9 - 2 * 10**7).amount_out
    wanted = pool.quote_out(True, 10**8)
    assert pool.quote_in(True, wanted.amount_in).amount_out >= 10**8


@pytest.mark.parametrize("collect", [OUTPUT, IN_B, COMPOUNDING])
def test_the_search_finds_the_best_size(collect: int) -> None:
    cheap = simple(collect=collect, reserves=(10**9, 10**9))
    dear = simple(
        collect=collect, price=ONE * 105 // 100, reserves=(10**9, 11 * 10**8), accumulator=40_000, moving=True
    )
    pools = [parse(cheap.accounts(vaults=False)), parse(dear.accounts(vaults=False))]
    searcher = Searcher([MINT_B])
    for number, pool in enumerate(pools):
        searcher.upsert(number, pool)
    [found] = searcher.search()
    buy, sell = (pools[leg.pool_id] for leg in found.legs)

    def profit(amount: int) -> int:
        return sell.quote_in(True, buy.quote_in(False, amount).amount_out).amount_out - amount

    assert profit(found.amount_in) == found.net_profit > 0
    near = [found.amount_in + step for step in range(-50, 51)]
    far = [found.amount_in * part // 100 for part in range(50, 150)]
    assert max(profit(amount) for amount in near + far) <= found.net_profit + 2
