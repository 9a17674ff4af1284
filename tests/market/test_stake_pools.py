"""Simulated stake pools, and the simulated oracle."""

from __future__ import annotations

from fractions import Fraction

import pytest

from localnet.fair import shift_ppm
from localnet.genesis import genesis, terms_of
from localnet.market import OwnFill, Temper, offline_engine
from localnet.oracle import EVERY_SLOTS, Oracle
from localnet.publication import Publication
from localnet.world import World, begin
from markets.oracle.fair import FairValues
from markets.paper import fill
from markets.pool_states import PoolStates
from markets.solana.venues import VENUES
from markets.tokens import SOL_MINT, USDC_MINT, Pair, Registry, load_registry
from pipeline._core import Pool, QuoteError, Searcher
from pipeline.messages import ExecutionPlan, Leg, Protocol

EPOCH_SLOTS = 432_000
LIVELY = Temper(noise_chance=400_000, informed_chance=600_000, informed_profit_lamports=500_000)
COST = 35_000


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def world(registry: Registry, seed: int, *, first_slot: int = 1, temper: Temper | None = None) -> World:
    engine, pools = offline_engine(registry, seed, temper)
    return begin(engine, pools, first_slot=first_slot, slot_ms=100)


def stake_pools(market: World) -> dict[str, Pool]:
    return {address: held.pool for address, held in market.pools.items() if held.pool.fair_rate() is not None}


def rate(pool: Pool) -> Fraction:
    found = pool.fair_rate()
    assert found is not None
    return Fraction(*found)


def test_every_staked_token_has_one_stake_pool(registry: Registry) -> None:
    found = {pool.token_a: pool for pool in stake_pools(world(registry, 1)).values()}
    assert set(found) == {token.mint for token in registry.tokens if token.kind == "staked"}
    assert {pool.token_b for pool in found.values()} == {SOL_MINT}
    marinade = [mint for mint, pool in found.items() if pool.protocol == Protocol.MARINADE]
    assert marinade == [registry.mint("mSOL")]


def test_stake_pools_pay_a_little_more_than_the_market_and_not_after_fees(registry: Registry) -> None:
    for seed in range(1, 6):
        engine, _ = offline_engine(registry, seed)
        for pool in stake_pools(world(registry, seed)).values():
            model = engine.models[pool.address]
            market = Fraction(model.value(10**9, is_a=True, shift=0), 10**9)
            assert Fraction(3, 10_000) < rate(pool) / market - 1 < Fraction(10, 10_000)
            unstake = pool.unstake_rate()
            assert unstake is not None
            assert Fraction(*unstake) < market
            # A deposit costs more than the token fetches, even for those who pay most for it.
            asked = Fraction(10**9, pool.quote_in(False, 10**9).amount_out)
            highest = model.shifts[0] if model.shifts[1] == 1_000_000 else model.shifts[1]
            assert asked >= market * (1 + Fraction(abs(highest) - 2, 1_000_000))


def test_their_accounts_are_what_the_venues_ask_for(registry: Registry) -> None:
    """The chain would find them: derived addresses, owners, and what a quote needs."""
    for made in genesis(registry, 3):
        if made.venue not in ("spl_stake_pool", "marinade"):
            continue
        accounts = {account[0]: account for account in made.accounts}
        protocol = Protocol.MARINADE if made.venue == "marinade" else Protocol.SPL_STAKE_POOL
        needed = VENUES[protocol].accounts_needed(made.address, made.accounts[0][2], {})
        for need in needed:
            if need.role != "mint":
                assert accounts[need.address][1] in need.owners
        assert made.accounts[0][1] in VENUES[protocol].PROGRAMS
        assert VENUES[protocol].mints(made.accounts[0][2]) == (_staked(made.pair), SOL_MINT)


def _staked(pair: Pair) -> str:
    return (pair.quote if pair.base.kind == "native" else pair.base).mint


def test_people_stake_and_unstake(registry: Registry) -> None:
    market = world(registry, 4, temper=LIVELY)
    before = {address: (pool.info(), rate(pool)) for address, pool in stake_pools(market).items()}
    trades = [trade for _ in range(60) for trade in market.advance().trades if trade.pool in before]
    assert {trade.trader for trade in trades} == {"noise"}
    assert {trade.a_to_b for trade in trades} == {True, False}
    for address, pool in stake_pools(market).items():
        assert pool.info() != before[address][0]
        # Fees and rounding stay in the pool: the rate never falls.
        assert before[address][1] <= rate(pool) < before[address][1] * Fraction(10_001, 10_000)


def test_a_new_epoch_updates_every_stake_pool(registry: Registry) -> None:
    market = world(registry, 2, first_slot=EPOCH_SLOTS - 1)
    market.advance()
    stale = stake_pools(market)
    advance = market.advance()
    assert advance.slot == EPOCH_SLOTS
    for address, pool in stake_pools(market).items():
        assert pool.quote_in(True, 10**9).amount_out
        if pool.protocol == Protocol.SPL_STAKE_POOL:
            assert address in {held.pool.address for held in advance.changed}
            assert rate(stale[address]) <= rate(pool) < rate(stale[address]) * Fraction(100_001, 100_000)
            with pytest.raises(QuoteError, match="out_of_date"):
                stale[address].at(EPOCH_SLOTS, 0, 0).quote_in(True, 10**9)
    assert not {held.pool.address for held in market.advance().changed} >= set(stale)


def test_lamports_come_along_with_the_messages(registry: Registry) -> None:
    market, publication, known = world(registry, 5, temper=LIVELY), Publication("market"), PoolStates()
    addresses = list(stake_pools(market))
    for address in addresses:
        known.apply(publication.keyframe(market.pools[address], 0))
    for _ in range(20):
        for held in market.advance().changed:
            if held.pool.address in addresses:
                state = publication.change(held, 0)
                known.apply(state)
                # Manager's account and, but for unstaked mSOL, the legs stay: a change is what a swap wrote.
                assert len(state.accounts) < len(held.pool.accounts())
    for address in addresses:
        pool = known.get(address)
        assert pool is not None
        assert pool.accounts() == market.pools[address].pool.accounts()
        assert pool.quote_in(False, 10**9).amount_out == market.pools[address].pool.quote_in(False, 10**9).amount_out


def test_a_paper_fill_goes_through_a_stake_pool(registry: Registry) -> None:
    market = world(registry, 1)
    stake = next(pool for pool in stake_pools(market).values() if pool.protocol == Protocol.SPL_STAKE_POOL)
    swap = next(
        held.pool
        for held in market.pools.values()
        if held.pool.fair_rate() is None and stake.token_a in (held.pool.token_a, held.pool.token_b)
    )
    bought = swap.quote_in(swap.token_a == SOL_MINT, 10**9).amount_out
    legs = [
        Leg(pool=swap.address, protocol=swap.protocol, token_in=SOL_MINT, token_out=stake.token_a, amount_in=10**9),
        Leg(pool=stake.address, protocol=stake.protocol, token_in=stake.token_a, token_out=SOL_MINT, amount_in=bought),
    ]
    plan = ExecutionPlan(id="p", token=SOL_MINT, amount_in=10**9, legs=legs)
    found = fill(plan, lambda address: market.pools[address].pool, slot=1, sol_price_usd_e6=0)
    assert isinstance(found, tuple)
    filled, left = found
    staked, back = filled.fills
    assert stake.quote_in(True, staked.amount_out).amount_out == back.amount_out
    assert left[stake.address].info()["available_lamports"] == stake.info()["available_lamports"] - back.amount_out
    # The market makes the same of it.
    market._fills[0] = [
        OwnFill("p", entry.pool, entry.token_in, entry.amount_in, entry.amount_out) for entry in filled.fills
    ]
    assert not market.advance().differing


def test_stake_pools_are_no_fountain(registry: Registry) -> None:
    """A trader who takes every cycle at once gets more out of the pools than out of stake pools."""
    for seed in (1, 2):
        market = world(registry, seed)
        numbers = {address: number for number, address in enumerate(sorted(market.pools))}
        searcher = Searcher([SOL_MINT])
        searcher.set_limits(SOL_MINT, 100 * 10**9, COST)
        for address, number in numbers.items():
            searcher.upsert(number, market.pools[address].pool)
        gains = {True: [0], False: [0]}
        for _ in range(500):
            changed = market.advance().changed
            for held in changed:
                searcher.upsert(numbers[held.pool.address], held.pool)
            fills, used = [], set()
            for number, cycle in enumerate(searcher.search([numbers[held.pool.address] for held in changed])):
                pools = [market.pools[leg.pool].pool for leg in cycle.legs]
                if used & {pool.address for pool in pools}:
                    continue
                used |= {pool.address for pool in pools}
                gains[any(pool.fair_rate() for pool in pools)].append(cycle.net_profit)
                fills += [
                    OwnFill(
                        f"{number:03}",
                        leg.pool,
                        pool.token_a if leg.a_to_b else pool.token_b,
                        leg.amount_in,
                        leg.amount_out,
                    )
                    for pool, leg in zip(pools, cycle.legs, strict=True)
                ]
            market._fills[market.slot] = fills
        assert len(gains[True]) > 10
        assert 0 < sum(gains[True]) < sum(gains[False])


def prices(registry: Registry, seed: int, slot: int) -> dict[str, tuple[int, int, int, int]]:
    told = Oracle(seed, registry, "market").prices("m", slot, 10**18 + slot * 10**8, 10**8, 0)
    return {price.token: (price.price, price.confidence, price.slot, price.published_ns) for price in told}


def test_the_oracle_follows_the_fair_price_in_every_fourth_slot(registry: Registry) -> None:
    engine, pools = offline_engine(registry, 1)
    pair = registry.pair(SOL_MINT, USDC_MINT)
    model = next(model for model in engine.models.values() if model.pair is pair)
    oracle, now = Oracle(1, registry, "market"), 10**18
    for slot in range(1, 2_000, 37):
        assert prices(registry, 1, slot) == prices(registry, 1, slot - slot % EVERY_SLOTS)
        assert Oracle.changes(slot) is (slot % 4 == 0)
        fair = FairValues({SOL_MINT: 9, USDC_MINT: 6})
        for price in oracle.prices("m", slot, now, 10**8, 0):
            assert 0 < price.confidence * 500 < price.price
            fair.take(price, now)
        worth = fair.worth(SOL_MINT, 10**9, USDC_MINT, now)
        assert worth is not None
        is_a = pools[model.address].token_a == SOL_MINT
        expected = model.value(10**9, is_a=is_a, shift=shift_ppm(1, model.pair, slot - slot % 4))
        assert abs(worth.amount_out - expected) <= 1
    assert prices(registry, 1, 400) != prices(registry, 2, 400)


def test_an_oracle_needs_a_pair_to_tell_of(registry: Registry) -> None:
    assert Oracle(1, Registry(registry.tokens, registry.pairs[:3]), "m").prices("m", 8, 1, 1, 0) == []
    turned = Registry(registry.tokens, tuple(Pair(pair.quote, pair.base) for pair in registry.pairs))
    assert terms_of(turned.pairs[0], 1) == terms_of(registry.pairs[0], 1)
    (sol, _), (same, _) = (Oracle(1, known, "m").prices("m", 0, 1, 1, 0) for known in (registry, turned))
    assert (sol.token, abs(sol.price - same.price) <= 1) == (SOL_MINT, True)
