"""The desk: what it answers, how long it waits, and when it forgets."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from quote_tables import grid_of

from localnet.market import offline_engine
from markets.oracle.fair import FairValues
from markets.routes import Route, Step
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline.messages import AskedPair, PairQuotes, Problem, Protocol, QuoteRequest
from workers.quote_core.aggregator import Changed
from workers.quote_core.book import Book, Offer
from workers.quote_core.desk import MAX_REMEMBERED, Asked, Desk, DeskTerms, NotUnderstood
from workers.quote_core.rating import rate
from workers.quote_core.route_store import RouteStore
from workers.quote_core.served.clerk import Clerk

S = 1_000_000_000
REGISTRY = load_registry()
POOLS = offline_engine(REGISTRY, 1)[1]
DOLLAR = sorted(address for address, pool in POOLS.items() if {pool.token_a, pool.token_b} == {SOL_MINT, USDC_MINT})
ASKED = Asked(SOL_MINT, USDC_MINT, S)
PAIRED = Asked(SOL_MINT, USDC_MINT, S, paired=True)
BACK = (USDC_MINT, SOL_MINT)


class Place:
    """A desk over a book that the test fills, with the clock in the test's hand."""

    def __init__(self, **more: Any) -> None:
        self.now = 0
        self.step = 0
        self.aggregator: Any = SimpleNamespace(counts=SimpleNamespace(settled=1))
        self.new_book()
        self.desk = Desk(lambda: self.aggregator, REGISTRY, clock=self.clock, **more)

    def clock(self) -> int:
        self.now += self.step
        return self.now

    def new_book(self) -> Book:
        self.book = self.aggregator.book = Book(FairValues({token.mint: token.decimals for token in REGISTRY.tokens}))
        self.aggregator.now_ns = lambda: self.book.now_ns
        for address in DOLLAR:
            self.put(address, 1)
        return self.book

    def put(self, address: str, slot: int, amount: int = 0) -> None:
        pool = POOLS[address].at(slot, 1, 0)
        self.book.slot = slot
        self.book.put(grid_of(pool.swap(True, amount)[0] if amount else pool, [S]))

    def external(self, amount_out: int, provider: str = "other") -> None:
        rating = rate(
            age_ns=0, hops=1, amount_out=amount_out, worth=0, reliability=1.0, expected_bps=1.0, quoted_bps=1.0
        )
        self.book.put_external(
            Offer(provider, "", Protocol.UNKNOWN, SOL_MINT, USDC_MINT, S, amount_out, 0, 1.0, 1, 0, rating, route=5)
        )


def outs(answer: PairQuotes) -> list[tuple[str, int]]:
    return [(quote.provider, quote.amount_out) for quote in answer.forward]


def test_the_best_pool_and_the_best_provider_the_better_first() -> None:
    place = Place()
    pools_best = max(POOLS[address].quote_in(POOLS[address].token_a == SOL_MINT, S).amount_out for address in DOLLAR)
    assert outs(place.desk.answer(ASKED)) == [("local", pools_best)]
    place.external(pools_best * 2)
    assert outs(place.desk.answer(ASKED)) == [("other", pools_best * 2), ("local", pools_best)]
    place.external(pools_best // 2)
    assert outs(place.desk.answer(ASKED)) == [("local", pools_best), ("other", pools_best // 2)]


def test_both_directions_come_from_one_state() -> None:
    place = Place()
    answer = place.desk.answer(PAIRED)
    forward, reverse = answer.forward[0], answer.reverse[0]
    assert (reverse.token_in, reverse.token_out, reverse.amount_in) == (USDC_MINT, SOL_MINT, forward.amount_out)
    assert reverse.amount_out < S, "there and back loses the fees"
    other = place.desk.answer(Asked(SOL_MINT, USDC_MINT, S, reverse_amount=7_000_000, paired=True))
    assert other.reverse[0].amount_in == 7_000_000
    assert place.desk.answer(ASKED).reverse == ()


def test_an_answer_is_remembered_until_its_pair_changes_or_it_is_old() -> None:
    place = Place()
    first = place.desk.answer(ASKED)
    assert place.desk.answer(ASKED) is first
    assert (place.desk.figures.hits, place.desk.figures.misses) == (1, 1)
    place.put(DOLLAR[0], 2, amount=S)
    changed = place.desk.answer(ASKED)
    assert changed is not first
    assert place.desk.figures.dropped == 1
    place.now += 5 * S
    assert place.desk.answer(ASKED) is not changed
    assert place.desk.figures.expired == 1


def test_another_pairs_change_is_not_ours() -> None:
    place = Place()
    first = place.desk.answer(ASKED)
    other = next(address for address, pool in POOLS.items() if USDC_MINT not in (pool.token_a, pool.token_b))
    place.put(other, 1)
    assert place.desk.answer(ASKED) is first


def test_a_book_made_anew_is_another_book() -> None:
    place = Place()
    first = place.desk.answer(ASKED)
    assert place.new_book().generation(SOL_MINT, USDC_MINT) == len(DOLLAR)
    assert place.desk.answer(ASKED) is not first


def test_what_is_remembered_is_bounded() -> None:
    place = Place()
    for amount in range(1, MAX_REMEMBERED + 10):
        place.desk.answer(Asked(SOL_MINT, "J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn", amount))
    assert len(place.desk._memory) == MAX_REMEMBERED


def test_pools_that_take_longer_are_left_out_and_asked_again() -> None:
    place = Place(terms=DeskTerms(local_ns=10_000_000))
    place.external(5)
    place.step = 11_000_000
    answer = place.desk.answer(ASKED)
    assert answer.local_left_out
    assert outs(answer) == [("other", 5)]
    assert place.desk.figures.local_timeouts == 1
    place.step = 0
    assert not place.desk.answer(ASKED).local_left_out, "a left-out answer is not remembered"


def test_pools_that_take_longer_are_waited_for_where_nobody_else_offers_anything() -> None:
    place = Place(terms=DeskTerms(local_ns=10_000_000))
    place.step = 11_000_000
    answer = place.desk.answer(ASKED)
    assert not answer.local_left_out
    assert [quote.provider for quote in answer.forward] == ["local"]
    assert place.desk.figures.local_timeouts == 1


async def test_an_external_answer_in_time_is_in_the_answer() -> None:
    place = Place()
    asked: list[tuple[str, str, int]] = []

    def ask(token_in: str, token_out: str, amount: int) -> bool:
        asked.append((token_in, token_out, amount))
        asyncio.get_running_loop().call_later(0.02, arrive)
        return True

    def arrive() -> None:
        # Another direction first: it must not be taken for ours.
        place.desk.on_changed(Changed(1, frozenset({(SOL_MINT, USDC_MINT)})))
        place.external(10**12)
        place.desk.on_changed(Changed(1, frozenset({(SOL_MINT, USDC_MINT)})))

    place.desk.ask_external = ask
    answer = await place.desk.fresh(ASKED)
    assert asked == [(SOL_MINT, USDC_MINT, S)]
    assert answer.forward[0].provider == "other"
    assert not answer.external_follows
    assert place.desk._waiting == {}


async def test_an_external_answer_that_is_late_follows() -> None:
    place = Place(terms=DeskTerms(external_ns=20_000_000), ask_external=lambda *_asked: True)
    answer = await place.desk.fresh(ASKED)
    assert answer.external_follows
    assert [quote.provider for quote in answer.forward] == ["local"]
    assert (place.desk.figures.external_asked, place.desk.figures.external_timeouts) == (1, 1)
    place.external(10**12)
    assert place.desk.answer(ASKED).forward[0].provider == "other"
    assert place.desk._waiting == {}


async def test_nobody_to_ask_is_answered_at_once() -> None:
    for ask in (None, lambda *_asked: False):
        place = Place(ask_external=ask, terms=DeskTerms(external_ns=60 * S))
        async with asyncio.timeout(5):
            answer = await place.desk.fresh(ASKED)
        assert not answer.external_follows
        assert answer.forward


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (AskedPair(pair="SOLUSDC", amount=1), Problem.BAD_REQUEST),
        (AskedPair(pair="SOL/USDC", token_in="SOL", amount=1), Problem.BAD_REQUEST),
        (AskedPair(pair="SOL/USDC"), Problem.BAD_REQUEST),
        (AskedPair(pair="SOL/SOL", amount=1), Problem.BAD_REQUEST),
        (AskedPair(pair="SOL/DOGE", amount=1), Problem.UNKNOWN_TOKEN),
        (AskedPair(pair="SOL/", amount=1), Problem.UNKNOWN_TOKEN),
        (AskedPair(amount=1), Problem.UNKNOWN_TOKEN),
    ],
)
def test_what_makes_no_sense_is_refused(asked: AskedPair, problem: Problem) -> None:
    understood = Place().desk.understand(asked, paired=False)
    assert isinstance(understood, NotUnderstood)
    assert understood.problem is problem
    assert understood.detail


def test_symbols_and_mints_mean_the_same() -> None:
    desk = Place().desk
    for asked in (
        AskedPair(pair="SOL/USDC", amount=S),
        AskedPair(token_in="SOL", token_out=USDC_MINT, amount=S),
        AskedPair(pair=f"{SOL_MINT}/{USDC_MINT}", amount=S),
    ):
        assert desk.understand(asked, paired=False) == ASKED


def test_nobody_gives_anything() -> None:
    place = Place()
    no_pool = place.desk.answer(Asked(SOL_MINT, "J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn", S))
    assert (no_pool.problem, no_pool.forward) == (Problem.NO_QUOTE, ())
    too_much = place.desk.answer(Asked(SOL_MINT, USDC_MINT, 2**64 - 1))
    assert too_much.problem is Problem.NO_QUOTE
    assert "ask for less" in too_much.detail
    place.aggregator = None
    assert place.desk.answer(ASKED).problem is Problem.NOT_READY
    assert not place.desk.ready


def test_the_route_of_a_pool_is_remembered_under_its_id() -> None:
    routes = RouteStore([], lambda: 0, capacity=16)
    place = Place(routes=routes)
    quote = place.desk.answer(ASKED).forward[0]
    assert routes.book.get(quote.route) == Route(
        (Step(quote.pool, Protocol(quote.protocol).name.lower(), SOL_MINT, USDC_MINT),)
    )


def test_a_stale_pool_is_asked_for_before_its_turn() -> None:
    asked: list[str] = []
    place = Place(freshen=asked.append)
    place.desk.answer(ASKED)
    assert asked == []
    place.book.now_ns = 40 * S
    place.put(DOLLAR[0], 2)
    place.book.confirm(DOLLAR[0], 40 * S)
    place.desk.answer(ASKED)
    assert sorted(asked) == DOLLAR[1:]


def clerk(place: Place, **limits: int) -> Clerk:
    return Clerk(place.desk, "quote_core", lambda: 77, **({"max_pairs": 8, "max_waiting": 4} | limits))


def request(*pairs: str, **more: Any) -> QuoteRequest:
    return QuoteRequest(id="r", pairs=[AskedPair(pair=pair, amount=S) for pair in pairs], **more)


async def test_a_batch_is_answered_pair_by_pair() -> None:
    answer = await clerk(Place()).quotes(request("SOL/USDC", "SOL/DOGE", "USDC/SOL", "SOL/mSOL", "SOL/USDC"))
    assert (answer.problem, answer.correlation_id, answer.created_ns) == (Problem.NONE, "r", 77)
    assert [pair.problem for pair in answer.pairs] == [
        *(Problem.NONE, Problem.UNKNOWN_TOKEN, Problem.NONE, Problem.NO_QUOTE, Problem.NONE),
    ]


async def test_a_single_pairs_problem_is_the_answers() -> None:
    office = clerk(Place())
    assert office.quotes_now(request("SOL/DOGE")).problem is Problem.UNKNOWN_TOKEN
    assert office.quotes_now(request()).problem is Problem.BAD_REQUEST
    assert (await office.quotes(request(*["SOL/USDC"] * 9))).problem is Problem.TOO_MANY
    place = Place()
    place.aggregator.counts.settled = 0
    assert clerk(place).quotes_now(request("SOL/USDC")).problem is Problem.NOT_READY
    assert office.figures.problems == {"unknown_token": 1, "bad_request": 1, "too_many": 1}


async def test_more_waiters_than_may_wait_are_answered_without() -> None:
    place = Place(terms=DeskTerms(external_ns=50_000_000), ask_external=lambda *_asked: True)
    office = clerk(place, max_waiting=2)
    fresh = [office.quotes(request("SOL/USDC", fresh_external=True)) for _ in range(5)]
    answers = await asyncio.gather(*fresh)
    assert [answer.pairs[0].external_follows for answer in answers].count(True) == 2
    assert all(answer.pairs[0].forward for answer in answers)
