"""What the parts tell becomes rated entries: when they are seen, how they age, what is refused."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quote_tables import grid_of

from localnet.market import offline_engine
from markets.confidence import Factors
from markets.oracle.fair import FairValues
from markets.routes import Route, RouteBook
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline._core import Pool
from pipeline.messages import OraclePrice, Protocol, Quote, RouteStep, Staleness
from pipeline.shm import QUOTES_EXTERNAL, QUOTES_INTERNAL, QuoteEntry, QuoteTable
from workers.quote_core.aggregator import Aggregator, Terms
from workers.quote_core.book import Book, Offer, best_of
from workers.quote_core.parts import Confirmed, PoolGrid, PoolVoid, Settled, from_message, to_messages
from workers.quote_core.rating import Rating, Reliability
from workers.quote_core.tables import Tables

S = 1_000_000_000
START = 1_000 * S
AMOUNTS = (10**8, 10**9, 10**10)
REGISTRY = load_registry()
POOLS = offline_engine(REGISTRY, 1)[1]
DOLLAR = sorted(address for address, pool in POOLS.items() if {pool.token_a, pool.token_b} == {SOL_MINT, USDC_MINT})


class Stage:
    """An aggregator over real files, its wall clock in the test's hand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wall_ns = 5 * START
        self.refused: list[tuple[str, str]] = []
        self.accepted: list[str] = []
        self.routes = RouteBook()
        self.tables = Tables(directory, REGISTRY, AMOUNTS, capacity=1024, ring=512)
        self.aggregator = Aggregator(
            Book(FairValues({token.mint: token.decimals for token in REGISTRY.tokens})),
            self.tables,
            Terms(rerate_ns=S, external_max_age_ns=30 * S),
            remember=self.remember,
            refused=lambda pool, _slot, reason, _cause: self.refused.append((pool, reason)),
            accepted=self.accepted.append,
            wall_ns=lambda: self.wall_ns,
        )

    def remember(self, route: Route) -> int:
        return self.routes.add(route)[0]

    def pool(self, address: str, slot: int, market_ns: int, write_version: int = 1) -> None:
        self.aggregator.take(grid_of(POOLS[address].at(slot, write_version, 0), AMOUNTS, market_ns))

    def settle(self, slot: int, market_ns: int, *, market: str = "one", confirms: bool = True) -> None:
        self.aggregator.take(Settled(slot, market_ns, market, 0, confirms))

    def prices(self, market_ns: int, sol: int = 150_000_000) -> None:
        for token, price in ((SOL_MINT, sol), (USDC_MINT, 1_000_000)):
            self.aggregator.take(
                OraclePrice(token=token, source="simulated", price=price, exponent=-6, published_ns=market_ns)
            )

    def entries(self, table: str = QUOTES_INTERNAL) -> list[QuoteEntry]:
        reader = QuoteTable(self.directory / table)
        found = [reader.read(index) for index in range(len(reader))]
        assert all(entry is not None for entry in found)
        return [entry for entry in found if entry is not None]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path / "shm")
    yield made
    made.tables.close()


def external(amount_out: int = 150_000_000, **changes: object) -> Quote:
    steps = [RouteStep(pool="p", venue="Whirlpool", token_in=SOL_MINT, token_out=USDC_MINT)]
    fields = {
        "provider": "one",
        "token_in": SOL_MINT,
        "token_out": USDC_MINT,
        "amount_in": 10**9,
        "amount_out": amount_out,
        "price_impact_bps": 1.0,
        "quoted_ns": 5 * START,
        "hops": 1,
        "steps": steps,
        "provider_factor": 1.0,
    }
    return Quote(**(fields | changes))


def test_a_pool_is_seen_when_its_slot_is_settled_with_everything_about_it(stage: Stage):
    stage.prices(START)
    stage.pool(DOLLAR[0], 7, START)
    assert QuoteTable(stage.directory / QUOTES_INTERNAL).slot == 0
    stage.settle(7, START)
    entries = stage.entries()
    assert len(entries) == 2 * len(AMOUNTS)
    for entry in entries:
        assert (entry.slot, entry.quoted_ns, entry.hops) == (7, START, 1)
        assert entry.oracle_amount_out > 0
        assert abs(entry.amount_out / entry.oracle_amount_out - 1) < 0.01
        assert entry.factors[0] == 1.0
        assert entry.confidence > 0.9
        assert entry.staleness == Staleness.FRESH
        route = stage.routes.get(entry.route)
        assert route is not None
        assert route.steps[0].pool == DOLLAR[0]
    assert len({entry.route for entry in entries}) == 2
    assert stage.accepted == [DOLLAR[0]]


def test_without_an_oracle_nothing_is_trusted_far(stage: Stage):
    stage.pool(DOLLAR[0], 7, START)
    stage.settle(7, START)
    for entry in stage.entries():
        assert (entry.oracle_amount_out, entry.factors[2]) == (0, 0.0)
        assert entry.confidence < 0.7


def test_an_older_state_never_replaces_a_newer_one(stage: Stage):
    stage.pool(DOLLAR[0], 7, START, write_version=2)
    stage.settle(7, START)
    for slot, version in ((6, 9), (7, 1)):
        stage.pool(DOLLAR[0], slot, START, write_version=version)
        stage.settle(8, START + S)
        assert {(entry.slot, entry.write_version) for entry in stage.entries()} == {(7, 2)}


def test_silence_makes_quotes_stale_and_a_settled_slot_makes_them_fresh(stage: Stage):
    stage.prices(START)
    stage.pool(DOLLAR[0], 7, START)
    stage.settle(7, START)
    before = {entry.amount_out for entry in stage.entries()}
    reader = QuoteTable(stage.directory / QUOTES_INTERNAL)
    confidence = 1.0
    for seconds, band in ((10, Staleness.FRESH), (31, Staleness.STALE), (61, Staleness.VERY_STALE)):
        stage.wall_ns = 5 * START + seconds * S
        stage.aggregator.age()
        entries = stage.entries()
        assert {entry.staleness for entry in entries} == {int(band)}
        assert max(entry.confidence for entry in entries) < confidence
        confidence = min(entry.confidence for entry in entries)
        assert {entry.amount_out for entry in entries} == before
    assert reader.slot == 7
    stage.prices(START + 62 * S)
    stage.settle(8, START + 62 * S)
    assert {entry.staleness for entry in stage.entries()} == {int(Staleness.FRESH)}
    assert min(entry.confidence for entry in stage.entries()) > 0.9


def test_only_what_was_confirmed_stays_fresh_where_a_slot_confirms_nothing(stage: Stage):
    for address in DOLLAR[:2]:
        stage.pool(address, 7, START)
    stage.settle(7, START, confirms=False)
    stage.aggregator.take(Confirmed((DOLLAR[0],), START + 40 * S))
    stage.settle(8, START + 40 * S, confirms=False)
    reader = QuoteTable(stage.directory / QUOTES_INTERNAL)
    for entry in stage.entries():
        fresh = reader.name("pool", entry.pool) == DOLLAR[0]
        assert entry.staleness == (Staleness.FRESH if fresh else Staleness.STALE)
        assert entry.quoted_ns == (START + 40 * S if fresh else START)


def test_a_pool_that_cannot_be_read_is_void_and_counts_against_its_reliability(stage: Stage):
    stage.pool(DOLLAR[0], 7, START)
    stage.settle(7, START)
    stage.aggregator.take(PoolVoid(DOLLAR[0], Protocol.WHIRLPOOL, 8, START + S, "short_data: cut", "c"))
    stage.settle(8, START + S)
    assert all(entry.void for entry in stage.entries())
    assert stage.refused == [(DOLLAR[0], "short_data: cut")]
    stage.pool(DOLLAR[0], 9, START + 2 * S)
    stage.settle(9, START + 2 * S)
    assert {round(entry.factors[3], 2) for entry in stage.entries()} == {0.67}


def test_another_market_begins_with_nothing(stage: Stage):
    stage.prices(START)
    stage.pool(DOLLAR[0], 7, START)
    stage.pool(DOLLAR[1], 7, START)
    stage.settle(7, START)
    stage.pool(DOLLAR[0], 1, 10 * S)
    stage.settle(1, 10 * S, market="two")
    reader = QuoteTable(stage.directory / QUOTES_INTERNAL)
    for entry in stage.entries():
        assert entry.void == (reader.name("pool", entry.pool) == DOLLAR[1])
        if not entry.void:
            assert (entry.slot, entry.oracle_amount_out) == (1, 0)


def test_external_quotes_are_rated_here_and_forgotten_in_time(stage: Stage):
    stage.prices(START)
    stage.pool(DOLLAR[0], 7, START)
    stage.settle(7, START)
    stage.aggregator.take(external())
    (entry,) = stage.entries(QUOTES_EXTERNAL)
    assert (entry.amount_in, entry.amount_out, entry.hops, entry.quoted_ns) == (10**9, 150_000_000, 1, START)
    assert entry.confidence > 0.9
    route = stage.routes.get(entry.route)
    assert route is not None
    assert route.steps[0].venue == "Whirlpool"
    answer = stage.aggregator.book.answer(SOL_MINT, USDC_MINT, 10**9, START)
    assert answer.external is not None
    assert answer.internal is not None
    stage.wall_ns += 31 * S
    stage.aggregator.age()
    (entry,) = stage.entries(QUOTES_EXTERNAL)
    assert entry.void
    assert stage.aggregator.book.external(SOL_MINT, USDC_MINT, 10**9) is None


def test_external_quotes_grow_old_between_two_answers(stage: Stage):
    stage.prices(START)
    stage.pool(DOLLAR[0], 7, START)
    stage.settle(7, START)
    stage.aggregator.take(external())
    (young,) = stage.entries(QUOTES_EXTERNAL)
    stage.wall_ns += 20 * S
    stage.aggregator.age()
    (old,) = stage.entries(QUOTES_EXTERNAL)
    assert (old.amount_out, old.quoted_ns) == (young.amount_out, young.quoted_ns)
    assert old.factors[0] == pytest.approx(young.factors[0] - 20 / 60, abs=0.01)
    assert old.confidence == pytest.approx(young.confidence - 0.1, abs=0.01)
    offer = stage.aggregator.book.external(SOL_MINT, USDC_MINT, 10**9)
    assert offer is not None
    assert offer.rating.confidence == old.confidence


def test_an_absurd_external_price_is_no_temptation(stage: Stage):
    stage.prices(START)
    stage.pool(DOLLAR[0], 7, START)
    stage.settle(7, START)
    stage.aggregator.take(external(amount_out=170_000_000, provider_factor=0.1))
    answer = stage.aggregator.book.answer(SOL_MINT, USDC_MINT, 10**9, START)
    assert answer.best is answer.internal
    assert answer.external is not None
    assert answer.external.rating.factors.oracle == 0.0


@pytest.mark.parametrize(
    "changes", [{"amount_out": 0}, {"amount_in": 0}, {"token_out": SOL_MINT}, {"steps": [RouteStep(token_in="a")]}]
)
def test_an_external_quote_that_is_none_is_refused(stage: Stage, changes: dict[str, object]):
    stage.aggregator.take(external(**changes))
    assert stage.entries(QUOTES_EXTERNAL) == []
    assert stage.aggregator.counts.external_refused == 1


def test_the_same_values_give_the_same_tables(tmp_path: Path):
    written = []
    for name in ("one", "two"):
        stage = Stage(tmp_path / name)
        for slot in range(1, 30):
            stage.wall_ns += slot * 7  # the wall clock has no say
            stage.prices(START + slot * S // 10, 150_000_000 + slot * 1000)
            for address in sorted(POOLS)[slot % 7 :: 7]:
                stage.pool(address, slot, START + slot * S // 10)
            stage.settle(slot, START + slot * S // 10)
        written.append([(entry.pool, entry.amount_out, entry.confidence, entry.factors) for entry in stage.entries()])
        stage.tables.close()
    assert written[0] == written[1]
    assert len(written[0]) > 200


def test_what_an_earlier_writer_left_is_void_until_it_is_told_again(tmp_path: Path):
    stage = Stage(tmp_path)
    stage.prices(START)
    for address in DOLLAR[:2]:
        stage.pool(address, 7, START)
    stage.settle(7, START)
    stage.aggregator.take(external(quoted_ns=stage.wall_ns))
    reader = QuoteTable(tmp_path / QUOTES_INTERNAL)
    stage.tables.close()
    del stage
    gc.collect()  # the files are let go of

    again = Stage(tmp_path)
    assert len(again.entries()) == 12
    assert len(again.entries(QUOTES_EXTERNAL)) == 1
    assert all(entry.void for entry in [*again.entries(), *again.entries(QUOTES_EXTERNAL)])
    assert reader.slot == 7  # nothing was committed
    again.pool(DOLLAR[0], 8, START)
    again.settle(8, START)
    assert [entry.void for entry in again.entries()] == [False] * 6 + [True] * 6
    again.tables.close()


def test_slots_that_take_long_give_the_same_tables(tmp_path: Path):
    """How long the wall clock says a slot took changes nothing once the next one is settled."""
    written = []
    for name, silences in (("quick", {}), ("slow", {4: 3, 9: 40, 17: 70})):
        stage = Stage(tmp_path / name)
        after_each = []
        for slot in range(1, 30):
            market_ns = START + slot * S // 10
            stage.prices(market_ns, 150_000_000 + slot * 1000)
            for address in sorted(POOLS)[slot % 7 :: 7]:
                stage.pool(address, slot, market_ns)
            stage.settle(slot, market_ns)
            after_each.append(
                [
                    (e.pool, e.amount_out, e.quoted_ns, e.oracle_amount_out, e.confidence, e.staleness, e.factors)
                    for e in stage.entries()
                ]
            )
            for _second in range(silences.get(slot, 0)):
                stage.wall_ns += S
                stage.aggregator.age()
            if silences.get(slot, 0) > 30:
                assert {entry.staleness for entry in stage.entries()} != {int(Staleness.FRESH)}
                # What a cycle is rated by stands as it was: a scanner that is late reads the same.
                read = [(entry.quoted_ns, entry.oracle_amount_out) for entry in stage.entries()]
                assert read == [(row[2], row[3]) for row in after_each[-1]]
        written.append(after_each)
        stage.tables.close()
    assert written[0] == written[1]


def offer(amount_out: int, confidence: float, provider: str = "p") -> Offer:
    rating = Rating(Factors(), confidence, Staleness.FRESH)
    return Offer(provider, "", Protocol.UNKNOWN, "A", "B", 1, amount_out, 0, 0.0, 1, 0, rating)


offers = st.builds(offer, st.integers(1, 10**12), st.floats(0, 1), st.sampled_from("abc"))


@given(st.lists(offers, min_size=1))
def test_the_best_offer_has_the_highest_weighted_output_in_any_order(given_offers: list[Offer]):
    best = best_of(given_offers)
    assert best is not None
    assert all(other.amount_out * other.rating.confidence <= best.score for other in given_offers)
    assert best_of(reversed(given_offers)) == best


def test_a_little_more_from_a_doubtful_source_is_not_better():
    assert best_of([offer(1000, 0.95), offer(1010, 0.5)]) == offer(1000, 0.95)
    assert best_of([]) is None


def test_reliability_is_of_the_newest_answers():
    reliability = Reliability()
    assert reliability.share is None
    for _ in range(20):
        reliability.note(False)
    for _ in range(20):
        reliability.note(True)
    assert reliability.share == 1.0


def test_values_survive_the_wire():
    pool = POOLS[DOLLAR[0]].at(7, 2, 0)
    grid = grid_of(pool, AMOUNTS, START)
    (message,) = to_messages(grid, producer="quote_core-local", now_ns=1)
    back = from_message(type(message).decode(message.encode()))
    assert isinstance(back, PoolGrid)
    assert back.pool == Pool.from_snapshot(pool.snapshot())
    assert (list(back.grid), back.observed_ns, back.confirmed_ns) == (list(grid.grid), START, START)
    for value in (
        PoolVoid("p", Protocol.WHIRLPOOL, 7, START, "paused", "c"),
        Confirmed(("p",), START),
        Settled(7, START, "m", 3, True),
        external(),
    ):
        (message,) = to_messages(value, producer="quote_core-local", now_ns=1)
        assert from_message(type(message).decode(message.encode())) == value


def test_a_pool_that_stands_still_is_held_against_the_newest_oracle_price(stage: Stage):
    stage.prices(START)
    stage.pool(DOLLAR[0], 7, START)
    stage.settle(7, START)
    before = {entry.index: entry.oracle_amount_out for entry in stage.entries()}
    stage.prices(START + 2 * S, sol=165_000_000)
    stage.settle(8, START + 2 * S)
    for entry in stage.entries():
        assert entry.oracle_amount_out != before[entry.index]
        assert entry.factors[2] < 0.2
        assert entry.quoted_ns == START + 2 * S
