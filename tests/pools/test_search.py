"""The search on made-up pools: what it finds, what limits and costs do to it, and what it leaves out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.solana.pools import Candidate, Pool, PoolRefused, QuoteError, Searcher
from pipeline.messages import Protocol

from .build import MINT_A, MINT_B, NOW, POOL, SLOT, amm_v4_accounts, cpmm_accounts, key, whirlpool_accounts
from .dlmm import Bin, Pair, bin_price

OTHER = key(300)


def v4(number: int, coin: int, pc: int, mints: tuple[str, str] = (MINT_A, MINT_B)) -> Pool:
    address = key(500 + number)
    accounts = amm_v4_accounts(coin, pc, pool=address, mints=mints)
    return Pool.parse(Protocol.RAYDIUM_AMM_V4, address, accounts, SLOT, 0, NOW)


def cpmm(number: int, a: int, b: int, mints: tuple[str, str] = (MINT_A, MINT_B)) -> Pool:
    address = key(600 + number)
    return Pool.parse(Protocol.RAYDIUM_CPMM, address, cpmm_accounts(a, b, pool=address, mints=mints), SLOT, 0, NOW)


def orca(number: int, tick: int, liquidity: int, mints: tuple[str, str] = (MINT_A, MINT_B)) -> Pool:
    address = key(700 + number)
    accounts = whirlpool_accounts(
        [(-12_800, 12_800, liquidity), (-640, 640, liquidity)], tick=tick, pool=address, fee_rate=500, mints=mints
    )
    return Pool.parse(Protocol.WHIRLPOOL, address, accounts, SLOT, 0, NOW)


def bins(number: int, dice: random.Random, mints: tuple[str, str] = (MINT_A, MINT_B)) -> Pool:
    """A pool whose price stands still within a bin; between other mints than A and B one whose does not."""
    if mints != (MINT_A, MINT_B):
        return v4(number, 10**9, 10**9, mints)
    active = dice.randrange(-20, 20)
    pair = Pair(step=80, active=active, index_reference=active, control=0)
    for place in range(active - 10, active + 11):
        amount = int(10 ** dice.uniform(3, 10))
        x, y = (amount if place >= active else 0), (amount if place <= active else 0)
        pair.bins[place] = Bin(x=x, y=y, price=bin_price(place, 80))
    return Pool.parse(Protocol.METEORA_DLMM, POOL, pair.accounts(), SLOT, 0, NOW)


def searcher(*pools: Pool, settlement: tuple[str, ...] = (MINT_A, MINT_B), **options: int) -> Searcher:
    made = Searcher(list(settlement), **options)
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


def ring(*rates: float, depth: int = 10**12) -> list[Pool]:
    """Pools A/B, B/C and C/A with these prices."""
    mints = [(MINT_A, MINT_B), (MINT_B, OTHER), (OTHER, MINT_A)]
    return [
        v4(number, depth, int(depth * rate), mints=pair)
        for number, (rate, pair) in enumerate(zip(rates, mints, strict=True))
    ]


def test_three_legs_begin_at_the_first_settlement_token() -> None:
    pools = ring(1, 1, 2)
    for settlement, first in [((MINT_A,), 0), ((MINT_B,), 1), ((OTHER,), 2), ((OTHER, MINT_A, MINT_B), 2)]:
        [found] = searcher(*pools, settlement=settlement).search()
        assert found.token == settlement[0]
        assert [leg.pool_id for leg in found.legs] == [first, (first + 1) % 3, (first + 2) % 3]
        assert all(leg.a_to_b for leg in found.legs)
        assert [leg.amount_in for leg in found.legs[1:]] == [leg.amount_out for leg in found.legs[:2]]
    [found] = searcher(*ring(1, 1, 0.5)).search()
    assert [(leg.pool_id, leg.a_to_b) for leg in found.legs] == [(2, False), (1, False), (0, False)]
    # The pool that changed may be the one without a settlement token.
    made = searcher(*pools, settlement=(MINT_A,))
    assert made.search([1])[0].legs[1].pool_id == 1
    assert (made.examined, made.sized, made.left_out) == (2, 1, 0)
    assert searcher(*pools, settlement=(key(999),)).search() == []
    assert searcher(*pools, most_legs=2).search() == []


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_change_by_change_finds_every_cycle_once(seed: int) -> None:
    dice = random.Random(seed)
    tokens = [MINT_A, MINT_B, OTHER, key(301)]
    pools = [
        v4(number, int(10 ** dice.uniform(6, 9)), int(10 ** dice.uniform(6, 9)), mints=tuple(dice.sample(tokens, 2)))
        for number in range(7)
    ]
    made = searcher(*pools, settlement=tuple(tokens[:2]))
    whole = [repr(item) for item in made.search()]
    examined = made.examined
    assert len(whole) == len(set(whole))
    assert [repr(item) for item in made.search(list(range(7)))] == whole
    assert made.examined == examined
    some = dice.sample(range(7), 3)
    expected = [item for item in made.search() if {leg.pool_id for leg in item.legs} & set(some)]
    assert [repr(item) for item in made.search(some)] == [repr(item) for item in expected]


def test_what_exceeds_the_limit_is_counted_and_the_most_promising_stays() -> None:
    # Dearer and dearer, and the deepest of them the dearest but one.
    pools = [
        v4(n, 10**9 * (1000 if n == 18 else 1), 10**9 * (1000 if n == 18 else 1) * (10 + n) // 10) for n in range(20)
    ]
    everything = searcher(*pools)
    whole = everything.search()
    assert everything.sized == len(whole) == 190 - sum(1.0025**-2 * (11 + n) / (10 + n) < 1 for n in range(19))
    assert everything.left_out == 0
    made = searcher(*pools, most_sized=5)
    found = made.search()
    assert (made.examined, made.sized, made.left_out) == (everything.examined, 5, everything.sized - 5)
    assert repr(found[0]) == repr(whole[0])
    assert {repr(item) for item in found} <= {repr(item) for item in whole}


@pytest.mark.parametrize("options", [{"most_legs": 1}, {"most_legs": 4}, {"most_sized": 0}])
def test_limits_of_the_search_are_checked(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="2 or 3 legs"):
        Searcher([MINT_A], **options)


@given(st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_no_other_size_is_better(seed: int) -> None:
    dice = random.Random(seed)

    def size() -> int:
        return int(10 ** dice.uniform(4, 13))

    makers = [
        lambda n, mints: v4(n, size(), size(), mints),
        lambda n, mints: cpmm(n, size(), size(), mints),
        lambda n, mints: orca(n, dice.randrange(-10_000, 10_000), int(10 ** dice.uniform(3, 13)), mints),
        lambda n, mints: bins(n, dice, mints),
    ]
    between = [(MINT_A, MINT_B), (MINT_A, MINT_B), (MINT_B, OTHER), (MINT_A, OTHER)]
    pools = [dice.choice(makers)(number, mints) for number, mints in enumerate(between)]
    for candidate in searcher(*pools).search():
        assert profit(pools, candidate, candidate.amount_in) == candidate.net_profit > 0
        tries = [candidate.amount_in + near for near in range(-40, 41)]
        tries += [int(candidate.amount_in * dice.uniform(0.5, 1.5)) for _ in range(60)]
        tries += [int(10 ** dice.uniform(0, 15)) for _ in range(60)]
        for amount in tries:
            other = profit(pools, candidate, amount) if amount > 0 else None
            if other is not None:
                # Rounding makes the profit a saw, one unit of each token between the legs high.
                most = max(candidate.amount_in, candidate.amount_out)
                unit = sum(most // leg.amount_out for leg in candidate.legs[:-1])
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
