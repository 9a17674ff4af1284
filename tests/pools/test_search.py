"""The search on made-up pools: what it finds, what limits and costs do to it, and what it leaves out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.solana.pools import Candidate, Pool, PoolRefused, QuoteError, Searcher
from pipeline.messages import Protocol

from .build import MINT_A, MINT_B, NOW, SLOT, amm_v4_accounts, cpmm_accounts, key, whirlpool_accounts

OTHER = key(300)


def v4(number: int, coin: int, pc: int, mints: tuple[str, str] = (MINT_A, MINT_B)) -> Pool:
    address = key(500 + number)
    accounts = amm_v4_accounts(coin, pc, pool=address, mints=mints)
    return Pool.parse(Protocol.RAYDIUM_AMM_V4, address, accounts, SLOT, 0, NOW)


def cpmm(number: int, a: int, b: int) -> Pool:
    address = key(600 + number)
    return Pool.parse(Protocol.RAYDIUM_CPMM, address, cpmm_accounts(a, b, pool=address), SLOT, 0, NOW)


def orca(number: int, tick: int, liquidity: int) -> Pool:
    address = key(700 + number)
    accounts = whirlpool_accounts(
        [(-12_800, 12_800, liquidity), (-640, 640, liquidity)], tick=tick, pool=address, fee_rate=500
    )
    return Pool.parse(Protocol.WHIRLPOOL, address, accounts, SLOT, 0, NOW)


def searcher(*pools: Pool, settlement: tuple[str, ...] = (MINT_A, MINT_B)) -> Searcher:
    made = Searcher(list(settlement))
    for number, pool in enumerate(pools):
        made.upsert(number, pool)
    return made


def profit(pools: list[Pool], candidate: Candidate, amount: int) -> int | None:
    given = amount
    try:
        for leg in candidate.legs:
            amount = pools[leg.pool_id].quote_in(leg.a_to_b, amount).amount_out
    except QuoteError:
        return None
    return amount - given


def test_nothing_between_equal_prices() -> None:
    made = searcher(v4(1, 10**12, 10**12), cpmm(1, 10**12, 10**12), orca(1, 0, 10**12))
    assert made.search() == []
    assert made.examined == 6
    assert len(made) == 3


def test_a_gap_is_found_in_its_direction_and_token() -> None:
    pools = [v4(1, 10**12, 2 * 10**12), cpmm(1, 10**12, 10**12)]
    [found] = searcher(*pools).search()
    assert found.token == MINT_A
    assert [(leg.pool_id, leg.a_to_b) for leg in found.legs] == [(0, True), (1, False)]
    [found] = searcher(*pools, settlement=(MINT_B, MINT_A)).search()
    assert found.token == MINT_B
    assert [(leg.pool_id, leg.a_to_b) for leg in found.legs] == [(1, False), (0, True)]
    assert searcher(*pools, settlement=(OTHER,)).search() == []


def test_other_tokens_are_other_pairs() -> None:
    made = searcher(v4(1, 10**12, 10**12), v4(2, 10**12, 3 * 10**12, mints=(MINT_A, OTHER)))
    assert made.search() == []
    assert made.examined == 0


def test_turned_pools_meet() -> None:
    made = searcher(v4(1, 10**12, 2 * 10**12), v4(2, 10**12, 10**12, mints=(MINT_B, MINT_A)))
    [found] = made.search()
    assert [leg.a_to_b for leg in found.legs] == [True, True]


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_no_other_size_is_better(seed: int) -> None:
    dice = random.Random(seed)
    makers = [
        lambda n: v4(n, int(10 ** dice.uniform(4, 13)), int(10 ** dice.uniform(4, 13))),
        lambda n: cpmm(n, int(10 ** dice.uniform(4, 13)), int(10 ** dice.uniform(4, 13))),
        lambda n: orca(n, dice.randrange(-10_000, 10_000), int(10 ** dice.uniform(3, 13))),
    ]
    pools = [dice.choice(makers)(number) for number in range(3)]
    for candidate in searcher(*pools).search():
        assert profit(pools, candidate, candidate.amount_in) == candidate.net_profit > 0
        tries = [candidate.amount_in + near for near in range(-40, 41)]
        tries += [int(candidate.amount_in * dice.uniform(0.5, 1.5)) for _ in range(60)]
        tries += [int(10 ** dice.uniform(0, 15)) for _ in range(60)]
        for amount in tries:
            other = profit(pools, candidate, amount) if amount > 0 else None
            if other is not None:
                # Rounding makes the profit a saw, one unit of the token between the legs high.
                unit = max(candidate.amount_in, candidate.amount_out) // candidate.legs[0].amount_out
                assert other <= candidate.net_profit + 2 + unit


def test_limits_and_costs() -> None:
    pools = [v4(1, 10**12, 2 * 10**12), cpmm(1, 10**12, 10**12)]
    made = searcher(*pools)
    [free] = made.search()
    made.set_limits(MINT_A, 10**9, 500)
    [bounded] = made.search()
    assert bounded.amount_in == 10**9
    assert bounded.cost == 500
    assert bounded.net_profit == bounded.amount_out - bounded.amount_in - 500
    made.set_limits(MINT_A, 2**64 - 1, free.net_profit)
    assert made.search() == []
    made.set_limits(MINT_A, 2**64 - 1, free.net_profit - 1)
    assert [item.net_profit for item in made.search()] == [1]
    made.set_limits(MINT_A, 0, 0)
    assert made.search() == []


def test_only_cycles_of_changed_pools() -> None:
    pools = [v4(1, 10**12, 2 * 10**12), cpmm(1, 10**12, 10**12), v4(2, 10**12, 2 * 10**12)]
    made = searcher(*pools)
    assert len(made.search()) == 2
    assert [item.legs[0].pool_id for item in made.search([0])] == [0]
    assert len(made.search([1])) == 2
    assert len(made.search([0, 2, 2, 0])) == 2
    assert made.search([]) == []
    assert made.search([99]) == []
    made.upsert(1, cpmm(1, 10**12, 2 * 10**12))
    assert made.search() == []
    assert made.remove(0)
    assert not made.remove(0)
    assert len(made) == 2


def test_a_pool_may_change_its_tokens() -> None:
    made = searcher(v4(1, 10**12, 2 * 10**12), cpmm(1, 10**12, 10**12))
    made.upsert(0, v4(1, 10**12, 2 * 10**12, mints=(MINT_A, OTHER)))
    assert made.search() == []


def test_bad_addresses_are_refused() -> None:
    with pytest.raises(PoolRefused):
        Searcher(["nonsense"])
    with pytest.raises(PoolRefused):
        Searcher([MINT_A]).set_limits("nonsense", 1, 1)
