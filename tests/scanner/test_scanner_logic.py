from dataclasses import dataclass
from pathlib import Path

import pytest
from quote_tables import write_pool

from localnet.market import Temper, offline_engine
from localnet.world import World, begin
from markets.confidence import Factors, confidence
from markets.costs import Costs
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline._core import Pool, QuoteError
from pipeline.config import load_config
from pipeline.messages import ConfidenceBand, Opportunity, Protocol
from workers.quote_core.tables import Tables
from workers.scanner.confidence import Swapped, leg_factors
from workers.scanner.finder import Finder, Found
from workers.scanner.metrics import scanner_metrics
from workers.scanner.opportunity import Describer, Moment, slot_id
from workers.scanner.shared import SharedQuotes
from workers.scanner.worker import cycle_costs

REGISTRY = load_registry()
COSTS = Costs(5_000, 10_000, 20_000)
FACTORS = Factors(0.9, 0.6, 0.8, 1.0, 0.7)
LIMITS = {SOL_MINT: 10**12, USDC_MINT: 2 * 10**11}
DESCRIBER = Describer(10**9)


def moved_world(slots: int = 40, seed: int = 2) -> World:
    engine, pools = offline_engine(REGISTRY, seed, Temper(noise_chance=300_000, informed_chance=0))
    world = begin(engine, pools, first_slot=1, slot_ms=100)
    for _ in range(slots):
        world.advance()
    return world


@pytest.fixture(scope="module")
def world() -> World:
    return moved_world()


def finder_of(world: World, costs: Costs = COSTS, limits: dict[str, int] | None = None) -> Finder:
    finder = Finder(lambda _legs: costs, limits or LIMITS)
    for pool_id, (_, held) in enumerate(sorted(world.pools.items())):
        finder.put(pool_id, held.pool, held.observed_ns)
    return finder


def brute_force(world: World, found: Found, share: float) -> int:
    """The profit of the same cycle with another amount; all is lost with one that a pool does not take."""
    amount = max(1, int(found.candidate.amount_in * share))
    out = amount
    for leg, held in zip(found.candidate.legs, found.pools, strict=True):
        try:
            out = held.pool.quote_in(leg.a_to_b, out).amount_out
        except QuoteError:
            return -amount
    return out - amount


def found_at_limit(found: Found) -> bool:
    return found.candidate.amount_in > LIMITS[found.candidate.token] * 0.999


def test_what_is_found_pays_after_costs_and_no_other_amount_pays_more(world: World):
    found = finder_of(world).search(None)
    assert len(found) > 10
    assert found == sorted(found, key=lambda one: -one.net_profit)
    for one in found:
        gross = one.candidate.amount_out - one.candidate.amount_in
        assert one.net_profit == gross - one.cost > 0
        assert one.cost == COSTS.lamports
        bounded = found_at_limit(one)
        for share in (0.5, 0.9, 0.99) if bounded else (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
            assert brute_force(world, one, share) <= gross


def test_pools_that_guard_no_swap_are_left_out(world: World):
    held = {pool.pool.protocol for pool in finder_of(world).pools.values()}
    every = {one.pool.protocol for one in world.pools.values()}
    assert {int(protocol) for protocol in every - held} == {int(Protocol.MARINADE)}


def test_a_search_of_changed_pools_finds_the_cycles_through_them(world: World):
    finder = finder_of(world)
    everything = {tuple(leg.pool for leg in found.candidate.legs) for found in finder.search(None)}
    for changed in ([0], [1, 5, 9], list(range(len(world.pools)))):
        found = {tuple(leg.pool for leg in one.candidate.legs) for one in finder.search(changed)}
        addresses = {finder.pools[pool_id].pool.address for pool_id in changed if pool_id in finder.pools}
        assert found == {pools for pools in everything if addresses & set(pools)}
    assert finder.search([]) == []


def test_higher_costs_leave_only_what_pays_them(world: World):
    cheap = {found.net_profit for found in finder_of(world).search(None)}
    dear = finder_of(world, Costs(5_000, 10_000, 3_000_000)).search(None)
    assert 0 < len(dear) < len(cheap)
    assert all(found.cost == 3_015_000 for found in dear)


def test_costs_in_usdc_follow_the_dearest_sol(world: World):
    finder = finder_of(world)
    offers = [
        held.pool.quote_in(held.pool.token_a == SOL_MINT, 10**9).amount_out
        for held in world.pools.values()
        if USDC_MINT in (held.pool.token_a, held.pool.token_b)
    ]
    assert finder.cost_in(USDC_MINT) == -(-COSTS.lamports * max(offers) // 10**9)
    assert finder.cost_in(SOL_MINT) == COSTS.lamports


def test_without_a_price_of_sol_no_cycle_of_that_token_is_emitted(world: World):
    finder = finder_of(world, limits={USDC_MINT: 2 * 10**11})
    assert all(found.candidate.token == USDC_MINT for found in finder.search(None))
    for pool_id in range(len(world.pools)):
        finder.drop(pool_id)
    assert finder.cost_in(USDC_MINT) is None
    assert finder.search(None) == []


def test_the_message_says_what_was_found(world: World):
    moment = Moment(world.slot, world.market_ns, 123, "scanner")
    for found in finder_of(world).search(None):
        message = DESCRIBER.opportunity(found, FACTORS, moment)
        assert message.id == message.correlation_id
        assert message.causation_id == slot_id(world.slot, world.market_ns)
        assert message.net_profit == message.gross_profit - message.cost == found.net_profit
        assert message.cost == message.base_fee + message.priority_fee + message.tip
        assert message.legs[0].token_in == message.legs[-1].token_out == message.token == SOL_MINT
        assert message.legs[0].amount_out == message.legs[1].amount_in
        assert message.legs[0].min_amount_out == 0
        assert message.legs[1].min_amount_out == message.amount_in + message.cost
        for leg in message.legs:
            held = world.pools[leg.pool]
            assert (leg.slot, leg.quoted_ns) == (held.slot, held.observed_ns)
        assert message.expires_ns == message.found_ns + 10**9
        assert message.confidence == confidence(FACTORS)
        assert message.band == ConfidenceBand.VERIFY
        assert (message.age_factor, message.oracle_factor) == (0.9, 0.8)
        assert Opportunity.decode(message.encode()) == message


def test_the_id_follows_from_the_cycle_and_its_quotes_alone(world: World):
    found = finder_of(world).search(None)
    early = [DESCRIBER.opportunity(one, FACTORS, Moment(41, 10**9, 1, "scanner")).id for one in found]
    late = [DESCRIBER.opportunity(one, FACTORS, Moment(50, 2 * 10**9, 9, "another")).id for one in found]
    assert early == late
    assert len(set(early)) == len(found)
    later = finder_of(moved_world(41)).search(None)
    other = [DESCRIBER.opportunity(one, FACTORS, Moment(41, 0, 1, "s")).id for one in later]
    assert set(other) != set(early)


@dataclass(frozen=True)
class Entry:
    """What the scanner reads of a table's entry."""

    amount_in: int = 10**9
    amount_out: int = 9 * 10**8
    oracle_amount_out: int = 9 * 10**8
    price_impact_bps: float = 2.0
    quoted_ns: int = 0
    factors: tuple[float, ...] = (1.0, 0.8, 1.0, 0.9, 1.0)
    void: bool = False


def test_a_leg_is_rated_at_its_own_amounts():
    # Ten times the amount: ten times the worth, ten times the impact that is expected.
    swapped = Swapped(10**10, 9 * 10**9, 20.0)
    assert leg_factors(swapped, [Entry()], 0) == Factors(1.0, 0.8, 1.0, 0.9, 1.0)
    assert leg_factors(swapped, [Entry()], 30 * 10**9).age == 0.5
    assert leg_factors(Swapped(10**10, 855 * 10**7, 20.0), [Entry()], 0).oracle == pytest.approx(0.5)
    assert leg_factors(Swapped(10**10, 9 * 10**9, 70.0), [Entry()], 0).slippage == pytest.approx(0.5)


def test_the_quote_nearest_in_size_tells():
    entries = [Entry(), Entry(amount_in=10**10, price_impact_bps=50.0), Entry(amount_in=10**11, void=True)]
    assert leg_factors(Swapped(10**11, 9 * 10**10, 500.0), entries, 0).slippage == 1.0


@pytest.mark.parametrize("entries", [[], [Entry(amount_in=0)]])
def test_a_leg_nobody_quoted_gives_no_confidence(entries: list[Entry]):
    assert leg_factors(Swapped(10**9, 9 * 10**8, 1.0), entries, 0) == Factors()


def test_of_a_pool_that_gives_none_of_the_quoted_amounts_age_and_reliability_are_known():
    entries = [Entry(void=True, quoted_ns=5), Entry(void=True, quoted_ns=30 * 10**9)]
    assert leg_factors(Swapped(10, 9, 1.0), entries, 60 * 10**9) == Factors(0.5, 0.8, 0.0, 0.9, 0.0)


def test_no_oracle_is_no_confidence_in_the_price():
    assert leg_factors(Swapped(10**9, 9 * 10**8, 2.0), [Entry(oracle_amount_out=0)], 0).oracle == 0.0


@pytest.fixture
def tables(tmp_path: Path):
    made = Tables(tmp_path, REGISTRY, (10**9,), capacity=256, ring=16)
    yield made
    made.close()


def names(shared: SharedQuotes, changed: list[int] | None) -> set[str | None]:
    assert changed is not None
    return {shared.table.name("pool", pool_id) for pool_id in changed}


def test_the_first_look_is_a_full_one_then_only_what_changed(tables: Tables, tmp_path: Path, world: World):
    pools = [held.pool for _, held in sorted(world.pools.items())]
    shared = SharedQuotes(tmp_path)
    for pool in pools[:4]:
        write_pool(tables, pool, 0)
    tables.commit(1, 100)
    assert shared.changed() is None
    assert len(shared.all_pools()) == 4
    assert shared.changed() == []
    write_pool(tables, pools[2].at(2, 2, 0), 0)
    assert shared.changed() == [], "nothing is visible before the commit"
    tables.commit(2, 200)
    assert names(shared, shared.changed()) == {pools[2].address}


def test_a_lap_means_looking_at_everything(tables: Tables, tmp_path: Path, world: World):
    shared = SharedQuotes(tmp_path)
    tables.commit(1, 100)
    shared.changed()
    for slot in range(2, 8):
        for held in list(world.pools.values())[:4]:
            write_pool(tables, held.pool.at(slot, slot, 0), 0)
        tables.commit(slot, slot)
    assert shared.changed() is None
    assert shared.laps == 1
    assert shared.changed() == []


def test_another_writer_means_looking_at_everything(tmp_path: Path, world: World):
    pool = next(iter(world.pools.values())).pool
    first = Tables(tmp_path, REGISTRY, (10**9,), capacity=64, ring=16)
    write_pool(first, pool, 0)
    first.commit(1, 100)
    shared = SharedQuotes(tmp_path)
    assert shared.changed() is None
    first.close()
    del first  # the lock goes with the process, or here with the object
    second = Tables(tmp_path, REGISTRY, (10**9,), capacity=64, ring=16)
    write_pool(second, pool, 0)
    second.commit(2, 200)
    assert shared.changed() is None
    assert not shared.replaced
    blob = shared.snapshot(shared.all_pools()[0])
    assert blob is not None
    assert Pool.from_snapshot(blob.data).address == pool.address
    second.close()


def test_the_metrics_tell_bands_laps_and_the_use_of_the_ring(tables: Tables, tmp_path: Path, world: World):
    shared = SharedQuotes(tmp_path)
    shared.changed()
    for held in list(world.pools.values())[:3]:
        write_pool(tables, held.pool, 0)
    tables.commit(1, 100)
    shared.changed()
    bands = dict.fromkeys(ConfidenceBand, 0) | {ConfidenceBand.VERIFY: 3}
    figures = {
        (sample.name, *sample.labels.values()): sample.value
        for family in scanner_metrics(bands, 2, 5, shared.laps, shared)
        for sample in family.samples
    }
    assert figures["pipeline_scanner_cycles_total", "verify"] == 3
    assert figures["pipeline_scanner_left_out_total",] == 2
    assert figures["pipeline_shm_ring_slots",] == 16
    assert figures["pipeline_shm_ring_used",] == 6
    assert figures["pipeline_scanner_quotes_alive",] == 1
    assert figures["pipeline_shm_read_retries_total",] >= 0
    assert list(scanner_metrics(bands, 0, 0, 0, None))[-1].samples[0].value == 0


def test_the_least_tip_is_counted_and_every_swap_has_its_units():
    config = load_config({"tip.min_lamports": 123_456, "tip.max_lamports": 200_000}, environment={})
    for legs in (2, 3):
        costs = cycle_costs(config.scanner, config.tip.min_lamports, legs)
        assert costs == Costs(5_000, -(-(30_000 + legs * 110_000) * 40_000 // 10**6), 123_456)
