"""Whirlpools whose fee moves with volatility, against plain Python, field by field."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.solana.pools import Pool, PoolRefused, QuoteError, Searcher
from pipeline.messages import Protocol

from .build import MINT_A, MINT_B, NOW, POOL, SLOT, Raw, key, oracle_account, whirlpool_accounts
from .reference import Whirlpool
from .ticks import SwapFails

RANGES = [(-6_400, 6_400, 10**12), (-640, 1_280, 10**11), (2_560, 2_624, 10**13)]


def pool_of(accounts: list[Raw], now: int = NOW) -> Pool:
    return Pool.parse(Protocol.WHIRLPOOL, POOL, accounts, SLOT, 0, now)


@st.composite
def adaptive(draw: st.DrawFn) -> list[Raw]:
    spacing = 64
    size = draw(st.sampled_from([1, 2, 16, 32, 64]))
    tick = draw(st.integers(-6_000, 6_000))
    most = draw(st.integers(0, 400_000))
    oracle = oracle_account(
        filter_s=draw(st.integers(1, 100)),
        decay_s=draw(st.integers(101, 2_000)),
        reduction=draw(st.integers(0, 9_999)),
        control=draw(st.sampled_from([0, 1, 500, 4_000, 99_999])),
        most=most,
        size=size,
        major=draw(st.integers(1, 200)),
        updated=NOW - draw(st.integers(0, 5_000)),
        major_at=NOW - draw(st.integers(0, 3_000)),
        start=draw(st.integers(0, most)),
        group=tick // size + draw(st.integers(-60, 60)),
        volatility=draw(st.integers(0, most)),
    )
    holes = draw(st.booleans())
    ranges = RANGES if not holes else [(-3_200, -640, 10**12), (640, 3_200, 10**12)]
    return [*whirlpool_accounts(ranges, tick=tick, spacing=spacing, tier=1_024), oracle]


@given(adaptive(), st.lists(st.tuples(st.booleans(), st.integers(1, 10**13), st.booleans()), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_adaptive_fees_are_plain_python(accounts: list[Raw], swaps: list[tuple[bool, int, bool]]) -> None:
    pool, reference = pool_of(accounts), Whirlpool.parse(accounts)
    now = NOW
    for a_to_b, amount, exact_in in swaps:
        try:
            moved = reference.swap(a_to_b, amount, exact_in, now=now)
        except SwapFails:
            with pytest.raises(QuoteError):
                pool.swap(a_to_b, amount, exact_in=exact_in)
            continue
        blob = Pool.from_snapshot(pool.snapshot())
        pool, quote = pool.swap(a_to_b, amount, exact_in=exact_in)
        assert (quote.amount_in, quote.amount_out, quote.fee_amount) == (moved.amount_in, moved.amount_out, moved.fee)
        assert Whirlpool.parse(pool.accounts()) == reference
        assert pool_of(pool.accounts(), now) == pool
        assert blob.swap(a_to_b, amount, exact_in=exact_in)[0] == pool
        now += amount % 700
        pool = pool.at(SLOT, 0, now)


def test_the_fee_rises_with_the_swap_and_falls_with_time() -> None:
    accounts = [*whirlpool_accounts(RANGES, tier=1_024), oracle_account(control=20_000)]
    small, large = pool_of(accounts).quote_in(True, 10**7), pool_of(accounts).quote_in(True, 10**11)
    assert small.fee_amount * 10**4 < large.fee_amount
    later = pool_of(accounts).at(SLOT, 0, NOW + 10_000).quote_in(True, 10**7)
    assert later.fee_amount <= small.fee_amount


def test_refusals() -> None:
    accounts = whirlpool_accounts(RANGES, tier=1_024)

    def reason(*more: Raw) -> str:
        with pytest.raises(PoolRefused) as caught:
            pool_of([*accounts, *more])
        return caught.value.reason

    address, owner, data = oracle_account()
    assert reason() == "missing_account"
    assert reason((address, owner, data[:-1])) == "short_data"
    assert reason(oracle_account(pool=key(7))) == "foreign_account"
    assert reason(oracle_account(opens=NOW + 1)) == "not_open"
    for wrong in (
        {"size": 0},
        {"size": 48},
        {"control": 100_000},
        {"reduction": 10_000},
        {"start": 400_000},
        {"most": 2**32 - 1},
        {"group": 2**31 - 1},
    ):
        assert reason(oracle_account(**wrong)) == "bad_pool"
    # A clock behind the oracle's: the program would fail.
    with pytest.raises(QuoteError) as caught:
        pool_of([*accounts, oracle_account(updated=NOW + 5)]).quote_in(True, 10**6)
    assert caught.value.reason == "invalid_timestamp"
    # A pool with a fixed fee has no use for an oracle.
    fixed = whirlpool_accounts(RANGES)
    assert pool_of([*fixed, oracle_account()]) == pool_of(fixed)


def test_cycles_through_adaptive_pools_are_found() -> None:
    searcher = Searcher([MINT_A, MINT_B])
    oracle = oracle_account()
    searcher.upsert(1, pool_of([*whirlpool_accounts(RANGES, tier=1_024, tick=600), oracle]))
    address = key(801)
    other = whirlpool_accounts(RANGES, tick=0, pool=address)
    searcher.upsert(2, Pool.parse(Protocol.WHIRLPOOL, address, other, SLOT, 0, NOW))
    [found] = searcher.search()
    assert found.net_profit > 0
    assert [leg.pool_id for leg in found.legs] == [1, 2]
