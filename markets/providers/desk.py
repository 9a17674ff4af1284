"""Asks providers for pairs: both directions at once, within every limit, again where that failed.

All decisions are made in the pure modules beside this one; this one waits for answers. The clock, the randomness, the
pause and the network are passed in.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from markets.providers.answer import Answer, Ask, BadAnswer, Bounds, Known, Reason, check
from markets.providers.cache import SplitCache, Want
from markets.providers.choose import Chosen, Pair, choose
from markets.providers.fetch import Body, Exchange
from markets.providers.provider import Provider, Request
from markets.providers.state import Patience, ProviderState

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
LAST_GOOD_S = 60.0
"""So long a provider's own last answer is something to hold its next one against."""


class Fetch(Protocol):
    """Gets an answer from the network."""

    def get(self, request: Request, timeout_s: float, exchange: Exchange) -> Awaitable[Body]:
        """Return the body of an answer, or raise BadAnswer."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How asking is done."""

    timeout_s: float
    """Of one request."""
    deadline_s: float
    """Of one pair, with everything that is tried for it."""
    retries: int
    retry_wait_s: float
    """First pause before a retry; doubles, and is drawn between half of it and all of it."""
    pair_gap_s: float
    """The two requests of a pair may be sent at most so far apart."""
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Said:
    """One direction's outcome: an answer, or why there is none."""

    provider: str
    ask: Ask
    sent_ns: int | None
    """Monotonic time at which the question was on its way."""
    answer: Answer | None = None
    bad: BadAnswer | None = None
    reliability: float = 0.0
    """Of the provider, after this."""


@dataclass(frozen=True, slots=True)
class PairSaid:
    """Both directions of a pair, asked at once."""

    pair: Pair
    forward: Said
    reverse: Said
    within_gap: bool
    """The two questions were sent so close to each other that they are about one state of the market."""

    @property
    def whole(self) -> bool:
        """Tell whether both directions were answered, about one state of the market."""
        return self.within_gap and self.forward.answer is not None and self.reverse.answer is not None

    @property
    def sent_ns(self) -> int:
        """Return when the earlier of both questions was sent; 0 where one was not."""
        both = (self.forward.sent_ns, self.reverse.sent_ns)
        return 0 if None in both else min(sent for sent in both if sent is not None)


@dataclass(slots=True)
class Counts:
    """What became of pairs."""

    asked: int = 0
    whole: int = 0
    split: int = 0
    """Asked at two providers, one direction each."""
    too_far_apart: int = 0
    retried: int = 0
    given_up: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class Desk:
    """All providers, and what is asked of them."""

    def __init__(
        self,
        providers: Iterable[tuple[Provider, Patience]],
        terms: Terms,
        cache: SplitCache,
        fetch: Fetch,
        *,
        clock: Callable[[], int],
        draw: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Begin with every provider closed and full; `draw` gives numbers in 0..1."""
        self.states = [ProviderState(provider, patience, clock) for provider, patience in providers]
        self.terms = terms
        self.cache = cache
        self.counts = Counts()
        self._fetch = fetch
        self._clock = clock
        self._draw = draw
        self._pause = pause

    def take(self, pair: Pair, *, urgent: bool, avoid: frozenset[str] = frozenset()) -> Chosen | None:
        """Take what asking for a pair needs, and return who is to be asked; None where it cannot be asked now."""
        chosen = choose(pair, self.states, self.cache.route, urgent=urgent, avoid=avoid)
        if chosen is None:
            return None
        if chosen.forward is chosen.reverse:
            return chosen if chosen.forward.take(2) else None
        return chosen if chosen.forward.take(1) and chosen.reverse.take(1) else None

    async def ask(self, pair: Pair, chosen: Chosen, price_ttl_s: float, known: Callable[[Ask], Known]) -> PairSaid:
        """Ask for both directions of a pair until both are answered, or the deadline or the limits forbid another try.

        `chosen` is what `take` returned. Return the last try. A retry asks for both again, others where there are some:
        a direction's answer from before it would be about another state of the market.
        """
        terms = self.terms
        deadline_ns = self._clock() + int(terms.deadline_s * NS_PER_S)
        failed: set[str] = set()
        for attempt in range(terms.retries + 1):
            said = await self._both(pair, chosen, price_ttl_s, known)
            if said.whole:
                self.counts.whole += 1
                return said
            failed |= {side.provider for side in (said.forward, said.reverse) if side.bad is not None}
            wait_s = terms.retry_wait_s * 2**attempt * (0.5 + 0.5 * self._draw())
            late = self._clock() + int((wait_s + terms.timeout_s) * NS_PER_S) > deadline_ns
            if attempt == terms.retries or late:
                break
            await self._pause(wait_s)
            again = self.take(pair, urgent=True, avoid=frozenset(failed))
            if again is None:
                break
            chosen = again
            self.counts.retried += 1
        self.counts.given_up += 1
        return said

    async def _both(self, pair: Pair, chosen: Chosen, price_ttl_s: float, known: Callable[[Ask], Known]) -> PairSaid:
        self.counts.asked += 1
        self.counts.split += chosen.forward is not chosen.reverse
        forward, reverse = await asyncio.gather(
            self._one(chosen.forward, pair.forward, price_ttl_s, known),
            self._one(chosen.reverse, pair.reverse, price_ttl_s, known),
        )
        within = True
        if forward.sent_ns is not None and reverse.sent_ns is not None:
            within = abs(forward.sent_ns - reverse.sent_ns) <= self.terms.pair_gap_s * NS_PER_S
            self.counts.too_far_apart += not within
        return PairSaid(pair, forward, reverse, within)

    async def _one(self, state: ProviderState, ask: Ask, price_ttl_s: float, known: Callable[[Ask], Known]) -> Said:
        provider, exchange = state.provider, Exchange()
        want, route = self.cache.want(state.name, ask, price_ttl_s)
        # A pair is asked for because its price is wanted, so a fresh one does not keep it back.
        along = route if want is not Want.ROUTE and provider.restricts else None
        begun_ns = self._clock()
        answer: Answer | None = None
        bad: BadAnswer | None = None
        try:
            body = await self._fetch.get(provider.request(ask, along), self.terms.timeout_s, exchange)
            if body.status != 200:
                raise provider.refused(body.status, body.data)
            answer = check(provider.read(body.data, ask), ask, self._known(state.name, ask, known), self.terms.bounds)
        except BadAnswer as error:
            bad = error
        except asyncio.CancelledError:
            state.called_off()
            raise
        finally:
            state.bytes_received += exchange.wire_bytes
        latency_ns = self._clock() - begun_ns
        if bad is not None:
            state.failed(bad, latency_ns)
            self.counts.reasons[bad.reason] += 1
            if along is not None and bad.reason is Reason.NO_ROUTE:
                self.cache.drop(state.name, ask)
        elif answer is not None:
            state.answered(latency_ns)
            sent_ns = begun_ns if exchange.sent_ns is None else exchange.sent_ns
            self.cache.put(answer, ask, sent_ns, exchange.wire_bytes, along=along is not None)
        return Said(state.name, ask, exchange.sent_ns, answer, bad, state.reliability)

    def _known(self, provider: str, ask: Ask, known: Callable[[Ask], Known]) -> Known:
        """Return what an answer is held against: what the caller knows, else the provider's own last answer."""
        given = known(ask)
        if given.references:
            return given
        last = self.cache.last_good(provider, ask, LAST_GOOD_S)
        return given if last is None else Known((last,), given.slot)
