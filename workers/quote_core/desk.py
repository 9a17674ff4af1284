"""The desk: answers who asks for quotes, from the book, within time limits, and with a short memory.

An answer is made of one state of the book, both directions together. It is remembered for a few seconds and forgotten
as soon as anything about its pair changes. Pools have 10 ms to say what they give, else an external answer stands in
for them; an external provider that is asked anew has 100 ms, else its answer follows.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from markets.routes import Route, RouteRefused, Step
from markets.tokens import Registry, TokenFileError
from pipeline.messages import AskedPair, PairQuotes, Problem, Quote, Staleness
from workers.quote_core.aggregator import Aggregator, Changed
from workers.quote_core.book import Book, Direction, Offer, best_of
from workers.quote_core.route_store import RouteStore
from workers.quote_core.telling import quote_of

MAX_AMOUNT = 2**64 - 1
NS_PER_MS = 1_000_000
MAX_REMEMBERED = 8192


@dataclass(frozen=True, slots=True)
class DeskTerms:
    """How long things may take, and are remembered."""

    local_ns: int = 10 * NS_PER_MS
    external_ns: int = 100 * NS_PER_MS
    remember_ns: int = 5_000 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, understood."""

    token_in: str
    token_out: str
    amount: int
    reverse_amount: int = 0
    """0 = what the first direction gives."""
    paired: bool = False

    @property
    def direction(self) -> Direction:
        """Return the first direction."""
        return self.token_in, self.token_out


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """What was asked for, and why it cannot be answered."""

    problem: Problem
    detail: str


@dataclass(slots=True)
class DeskFigures:
    """What happened since the start."""

    hits: int = 0
    misses: int = 0
    expired: int = 0
    """Misses because the answer had become too old."""
    dropped: int = 0
    """Misses because the pair had changed."""
    local_timeouts: int = 0
    external_asked: int = 0
    external_timeouts: int = 0


@dataclass(frozen=True, slots=True)
class _Remembered:
    book: Book
    generation: int
    until_ns: int
    answer: PairQuotes


@dataclass(slots=True)
class Desk:
    """Answers from the book of an aggregator; `aggregator` is asked each time, as it may be made anew."""

    aggregator: Callable[[], Aggregator | None]
    registry: Registry
    routes: RouteStore | None = None
    ask_external: Callable[[str, str, int], bool] | None = None
    """Begins to ask external providers for a pair; False where that cannot be done now."""
    freshen: Callable[[str], object] | None = None
    """Asks for a pool's state before its turn; called with pools that clients were told stale quotes of."""
    terms: DeskTerms = field(default_factory=DeskTerms)
    clock: Callable[[], int] = time.monotonic_ns
    figures: DeskFigures = field(default_factory=DeskFigures)
    _memory: OrderedDict[Asked, _Remembered] = field(default_factory=OrderedDict)
    _own_routes: dict[tuple[str, str], int] = field(default_factory=dict)
    _waiting: dict[Direction, set[asyncio.Event]] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Tell whether a market has been seen."""
        aggregator = self.aggregator()
        return aggregator is not None and aggregator.counts.settled > 0

    def understand(self, asked: AskedPair, *, paired: bool) -> Asked | NotUnderstood:
        """Return what a client asks for, by mints; or why that makes no sense."""
        given, taken = asked.token_in, asked.token_out
        if asked.pair:
            if given or taken:
                return NotUnderstood(Problem.BAD_REQUEST, "give pair, or token_in and token_out, not both")
            given, slash, taken = asked.pair.partition("/")
            if not slash:
                return NotUnderstood(Problem.BAD_REQUEST, f"{asked.pair[:64]!r} is no pair; write it like SOL/USDC")
        if not 0 < asked.amount <= MAX_AMOUNT:
            return NotUnderstood(
                Problem.BAD_REQUEST, "amount is missing: base units of the token given, 1000000000 for one SOL"
            )
        try:
            mints = self.registry.mint(given[:64]), self.registry.mint(taken[:64])
        except TokenFileError as error:
            return NotUnderstood(Problem.UNKNOWN_TOKEN, str(error))
        if mints[0] == mints[1]:
            return NotUnderstood(Problem.BAD_REQUEST, "a token is not quoted against itself")
        return Asked(*mints, asked.amount, asked.reverse_amount if paired else 0, paired)

    def answer(self, asked: Asked) -> PairQuotes:
        """Return what is offered now; remembered answers are given again until the pair changes."""
        aggregator = self.aggregator()
        if aggregator is None:
            return _nothing(asked, Problem.NOT_READY, "the quote core has not begun; ask again in a second")
        book = aggregator.book
        generation, now = book.generation(*asked.direction), self.clock()
        remembered = self._memory.get(asked)
        if remembered is not None:
            if remembered.book is not book or remembered.generation != generation:
                self.figures.dropped += 1
            elif now >= remembered.until_ns:
                self.figures.expired += 1
            else:
                self.figures.hits += 1
                return remembered.answer
        self.figures.misses += 1
        answer = self._make(asked, book, aggregator.now_ns())
        if not answer.local_left_out:
            self._memory[asked] = _Remembered(book, generation, now + self.terms.remember_ns, answer)
            self._memory.move_to_end(asked)
            if len(self._memory) > MAX_REMEMBERED:
                self._memory.popitem(last=False)
        return answer

    async def fresh(self, asked: Asked) -> PairQuotes:
        """Ask external providers anew and wait for them shortly; an answer that comes later follows by itself."""
        aggregator = self.aggregator()
        if self.ask_external is None or aggregator is None:
            return self.answer(asked)
        before = aggregator.book.external(*asked.direction, asked.amount)
        changed = asyncio.Event()
        # Listening before asking: the answer may come at once.
        waiting = self._waiting.setdefault(asked.direction, set())
        waiting.add(changed)
        try:
            if not self.ask_external(asked.token_in, asked.token_out, asked.amount):
                return self.answer(asked)
            self.figures.external_asked += 1
            async with asyncio.timeout(self.terms.external_ns / 1e9):
                while aggregator.book.external(*asked.direction, asked.amount) in (before, None):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            self.figures.external_timeouts += 1
            return self.answer(asked).replace(external_follows=True)
        finally:
            waiting.discard(changed)
            if not waiting:
                self._waiting.pop(asked.direction, None)
        return self.answer(asked)

    def on_changed(self, changed: Changed) -> None:
        """Wake those who wait for an external answer."""
        if self._waiting:
            for direction in changed.directions:
                for event in self._waiting.get(direction, ()):
                    event.set()

    def quote_of(self, offer: Offer) -> Quote:
        """Return an offer as it is told to clients."""
        return quote_of(offer, route=offer.route or self._own_route(offer))

    def _make(self, asked: Asked, book: Book, now_ns: int) -> PairQuotes:
        deadline = self.clock() + self.terms.local_ns
        forward, left_out = self._offers(book, asked.direction, asked.amount, now_ns, deadline)
        reverse: list[Offer] = []
        if asked.paired and forward:
            amount = asked.reverse_amount or forward[0].amount_out
            reverse, reverse_left_out = self._offers(book, asked.direction[::-1], amount, now_ns, deadline)
            left_out = left_out or reverse_left_out
        if self.clock() > deadline:
            self.figures.local_timeouts += 1
        if not forward:
            words = "no pool gives anything for this amount; ask for less"
            if not book.pools_of(*asked.direction):
                words = "no pool and no provider trades this pair here"
            return _nothing(asked, Problem.NO_QUOTE, words)
        return PairQuotes(
            token_in=asked.token_in,
            token_out=asked.token_out,
            amount_in=asked.amount,
            forward=[self.quote_of(offer) for offer in forward],
            reverse=[self.quote_of(offer) for offer in reverse],
            local_left_out=left_out,
        )

    def _offers(
        self, book: Book, direction: Direction, amount: int, now_ns: int, deadline: int
    ) -> tuple[list[Offer], bool]:
        """Return the best pool's and the best provider's offer, the better first; and whether pools were left out.

        Pools that are late are left out where a provider's answer stands in for them; where nobody else offers anything
        there is nothing that they would hold up.
        """
        external = book.external(*direction, amount)
        offers: list[Offer] = []
        for pool in book.pools_of(*direction):
            if external is not None and self.clock() > deadline:
                # What the first pools gave need not be near the best: all or nothing.
                return [external], True
            offer = book.offer(pool, direction[0], amount, now_ns)
            if offer is not None:
                offers.append(offer)
                if self.freshen is not None and offer.rating.staleness is not Staleness.FRESH:
                    self.freshen(pool)
        found = [offer for offer in (best_of(offers), external) if offer is not None]
        if len(found) == 2 and best_of(found) is external:
            found.reverse()
        return found, False

    def _own_route(self, offer: Offer) -> int:
        """Return the id of the route through one pool."""
        if self.routes is None or not offer.pool:
            return 0
        key = (offer.pool, offer.token_in)
        known = self._own_routes.get(key)
        if known is None:
            venue = offer.protocol.name.lower()
            try:
                known = self.routes.remember(Route((Step(offer.pool, venue, offer.token_in, offer.token_out),)))
            except RouteRefused:
                known = 0
            self._own_routes[key] = known
        return known


def _nothing(asked: Asked, problem: Problem, words: str) -> PairQuotes:
    return PairQuotes(
        token_in=asked.token_in, token_out=asked.token_out, amount_in=asked.amount, problem=problem, detail=words
    )


def refused(asked: AskedPair, why: NotUnderstood) -> PairQuotes:
    """Return the answer to what cannot be answered."""
    return PairQuotes(
        token_in=asked.token_in[:64],
        token_out=asked.token_out[:64],
        amount_in=asked.amount,
        problem=why.problem,
        detail=why.detail,
    )
