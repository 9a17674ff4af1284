from collections import defaultdict

import pytest

from localnet.fair import PPM, shift_ppm, wander_of
from localnet.genesis import fair_price, genesis, listings
from localnet.layouts import TOKEN_PROGRAM, key, simulated_address, token_amount
from localnet.market import Engine, OwnFill, Temper, Trade, offline_engine
from localnet.world import Advance, World, begin
from markets.tokens import Registry, load_registry
from pipeline._core import Pool, Searcher
from pipeline.messages import Protocol

# Many trades in few slots.
LIVELY = Temper(noise_chance=400_000, informed_chance=600_000, informed_profit_lamports=500_000)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def world(registry: Registry, seed: int, temper: Temper | None = None) -> World:
    engine, pools = offline_engine(registry, seed, temper)
    return begin(engine, pools, first_slot=1, slot_ms=100)


def run(market: World, slots: int) -> list[Advance]:
    return [market.advance() for _ in range(slots)]


def accounts(market: World) -> dict[str, tuple[object, ...]]:
    """Data of every account, and its lamports where they count."""
    return {account[0]: account[2:] for held in market.pools.values() for account in held.pool.accounts()}


def balances(pool: Pool) -> dict[str, int]:
    """What the pool's vaults hold, read off the raw bytes."""
    from base58 import b58encode

    return {
        b58encode(data[:32]).decode(): token_amount(data)
        for _, owner, data, *_ in pool.accounts()
        if owner == TOKEN_PROGRAM and len(data) == 165
    }


def test_every_pair_has_three_pools_or_more_on_two_venues_or_more(registry: Registry):
    venues = defaultdict(list)
    for listing in listings(registry):
        venues[listing.pair.name].append(listing.venue)
    assert set(venues) == {pair.name for pair in registry.pairs}
    assert all(len(of_pair) >= 3 and len(set(of_pair)) >= 2 for of_pair in venues.values())


def test_pools_trade_the_real_mints_at_simulated_addresses(registry: Registry):
    _, pools = offline_engine(registry, 1)
    mints = {token.mint for token in registry.tokens}
    for address, pool in pools.items():
        # A Whirlpool signs for its vaults as the address that its program derives.
        assert address.startswith("Sim") or pool.protocol == Protocol.WHIRLPOOL
        assert {pool.token_a, pool.token_b} <= mints
        assert registry.pair(pool.token_a, pool.token_b) is not None


def test_first_prices_are_near_the_fair_price_and_nothing_is_to_be_gained_at_once(registry: Registry):
    engine, pools = offline_engine(registry, 1)
    searcher = Searcher([registry.mint("SOL")])
    for index, (address, pool) in enumerate(pools.items()):
        model = engine.models[address]
        out = pool.quote_in(True, 10_000_000).amount_out
        fair = model.value(10_000_000, is_a=True, shift=0)
        assert 0.995 < out / fair < 1.001
        searcher.upsert(index, pool)
    assert not searcher.search(None)


def test_simulated_addresses_are_addresses():
    made = {simulated_address("test", index) for index in range(500)}
    assert len(made) == 500
    assert all(address.startswith("Sim") and len(key(address)) == 32 for address in made)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(registry: Registry):
    first, second, other = world(registry, 7), world(registry, 7), world(registry, 8)
    for market in (first, second, other):
        run(market, 60)
    assert accounts(first) == accounts(second)
    assert set(accounts(first)) != set(accounts(other))
    prices = [
        [held.pool.quote_in(True, 10**9).amount_out for _, held in sorted(market.pools.items())]
        for market in (first, other)
    ]
    assert sorted(prices[0]) != sorted(prices[1])


def test_trades_move_tokens_between_pools_and_traders_and_make_none(registry: Registry):
    market = world(registry, 3, LIVELY)
    # A stake pool mints and burns its token, and its SOL lies in no token account.
    swapping = [address for address, held in market.pools.items() if held.pool.fair_rate() is None]
    before = {address: balances(market.pools[address].pool) for address in swapping}
    assert all(len(held) == 2 for held in before.values())
    trades = [trade for advance in run(market, 80) for trade in advance.trades if trade.pool in before]
    assert len(trades) > 1000
    moved: dict[str, dict[str, int]] = {address: dict(held) for address, held in before.items()}
    for trade in trades:
        pool = market.pools[trade.pool].pool
        token_in, token_out = (pool.token_a, pool.token_b) if trade.a_to_b else (pool.token_b, pool.token_a)
        moved[trade.pool][token_in] += trade.amount_in
        moved[trade.pool][token_out] -= trade.amount_out
    assert moved == {address: balances(market.pools[address].pool) for address in swapping}


def test_our_fills_move_the_pools_by_exactly_what_was_reported(registry: Registry):
    market = world(registry, 4)
    run(market, 5)
    address, held = next(iter(sorted(market.pools.items())))
    first, quote = held.pool.swap(True, 2_000_000_000)
    _, second = first.swap(False, 1_000_000_000)
    fills = [
        OwnFill("plan-b", address, held.pool.token_b, second.amount_in, second.amount_out),
        OwnFill("plan-a", address, held.pool.token_a, quote.amount_in, quote.amount_out),
    ]
    market._fills[market.slot] = fills
    advance = market.advance()
    ours = [trade for trade in advance.trades if trade.trader == "ours"]
    assert ours == [
        Trade("ours", address, True, quote.amount_in, quote.amount_out),
        Trade("ours", address, False, second.amount_in, second.amount_out),
    ]
    assert not advance.differing


def test_a_fill_that_comes_out_otherwise_is_told(registry: Registry):
    market = world(registry, 4)
    address, held = next(iter(sorted(market.pools.items())))
    wrong = OwnFill("plan", address, held.pool.token_a, 10**9, 1)
    market._fills[0] = [wrong]
    assert market.advance().differing == (wrong,)


def test_the_first_closing_slot_applies_our_fills_and_then_nothing_moves(registry: Registry):
    market = world(registry, 5, LIVELY)
    run(market, 3)
    address, held = next(iter(sorted(market.pools.items())))
    fill = OwnFill("plan", address, held.pool.token_a, 10**9, held.pool.quote_in(True, 10**9).amount_out)
    market._fills[market.slot] = [fill]
    closing = market.advance(last=True)
    assert closing.closing
    assert [trade.trader for trade in closing.trades] == ["ours"]
    market._fills[market.slot] = [fill]
    for advance in run(market, 3):
        assert advance.closing
        assert not advance.changed


def test_market_time_goes_on_with_the_slots(registry: Registry):
    advances = run(world(registry, 1), 3)
    assert [advance.slot for advance in advances] == [1, 2, 3]
    assert advances[1].market_ns - advances[0].market_ns == 100_000_000


def test_fair_prices_stay_inside_their_bound_for_ever(registry: Registry):
    for pair in registry.pairs:
        bound = wander_of(pair).bound
        for slot in [*range(0, 3000, 7), *range(10**9, 10**9 + 2000, 13)]:
            assert abs(shift_ppm(11, pair, slot)) <= bound


def deviation(engine: Engine, pool: Pool, registry: Registry, slot: int) -> float:
    """How far a small trade's price is from the fair price."""
    model = engine.models[pool.address]
    amount = 10_000_000
    fair = model.value(amount, is_a=True, shift=shift_ppm(engine.seed, model.pair, slot))
    return abs(pool.quote_in(True, amount).amount_out / fair - 1)


@pytest.mark.parametrize("slots", [800, pytest.param(3_000, marks=[pytest.mark.thorough])])
def test_prices_stay_sane_for_many_slots(registry: Registry, slots: int):
    market = world(registry, 2)
    for advance in run(market, slots):
        assert len(advance.changed) <= len(market.pools)
    for held in market.pools.values():
        assert deviation(market.engine, held.pool, registry, market.slot) < 0.03
        for a_to_b in (True, False):
            assert held.pool.quote_in(a_to_b, 10**8).amount_out > 0


def test_the_fair_price_of_the_genesis_is_what_the_table_says(registry: Registry):
    usdc = registry.pair(registry.mint("SOL"), registry.mint("USDC"))
    jito = registry.pair(registry.mint("SOL"), registry.mint("JitoSOL"))
    assert usdc is not None
    assert jito is not None
    assert fair_price(usdc) == (150_000_000, 1_000_000_000)
    assert fair_price(jito) == (1_000_000_000, 1_225_000_000)
    assert shift_ppm(1, jito, 0) * 1000 < PPM


def test_accounts_have_the_sizes_of_the_real_programs(registry: Registry):
    sizes = {
        "whirlpool": [653, *[9988] * 5, 165, 165],
        "raydium_amm_v4": [752, 165, 165],
        "raydium_cpmm": [637, 236, 165, 165],
        "spl_stake_pool": [611, 200, 165],
        "marinade": [2616, 165, 0, 165],
    }
    for made in genesis(registry, 1):
        assert [len(account[2]) for account in made.accounts] == sizes[made.venue]
