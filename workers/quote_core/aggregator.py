"""The aggregator: everything the parts tell goes into the book, and from there, rated, into shared memory.

Local quotes become visible when their slot is settled and wait for nobody; external ones when they come. Everything
that is written for local quotes follows from the market's messages and the market's time alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from markets.oracle.pyth import OracleRefused
from markets.routes import Route, RouteRefused, Step, route_of
from pipeline.messages import OraclePrice, Protocol, Quote
from pipeline.shm import SharedMemoryFull
from workers.quote_core.book import Book, Direction, HeldPool, Offer
from workers.quote_core.parts import Confirmed, PoolGrid, PoolVoid, Settled, Value
from workers.quote_core.rating import Rating, rate
from workers.quote_core.tables import Tables

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What the aggregator goes by, from the configuration."""

    rerate_ns: int
    """Every quote is rated again after so much market time."""
    external_max_age_ns: int
    """An external answer older than this is forgotten."""


@dataclass(slots=True)
class Counts:
    """What happened since the start, for the metrics."""

    settled: int = 0
    rerated: int = 0
    factors: dict[tuple[str, int], int] = field(default_factory=dict)
    """(factor, tenth it falls in) -> quotes rated so."""
    bands: dict[str, int] = field(default_factory=dict)
    oracle_refused: dict[str, int] = field(default_factory=dict)
    routes_refused: int = 0
    external: int = 0
    external_refused: int = 0

    def note(self, rating: Rating) -> None:
        """Count a rating."""
        band = rating.band.name.lower()
        self.bands[band] = self.bands.get(band, 0) + 1
        for name, value in zip(rating.factors._fields, rating.factors, strict=True):
            key = (name, min(9, int(value * 10)))
            self.factors[key] = self.factors.get(key, 0) + 1


@dataclass(frozen=True, slots=True)
class Changed:
    """What a commit changed: told to whoever serves quotes to others."""

    slot: int
    directions: frozenset[Direction]


class Aggregator:
    """Takes what the parts tell, in order."""

    def __init__(
        self,
        book: Book,
        tables: Tables,
        terms: Terms,
        *,
        remember: Callable[[Route], int],
        refused: Callable[[str, int, str, str], None],
        accepted: Callable[[str], None],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Begin with an empty book.

        `remember` keeps a route and returns its id; `refused(pool, slot, reason, cause)` and `accepted(pool)` report
        pools that cannot be quoted, and those that can again.
        """
        self.book = book
        self.tables = tables
        self.terms = terms
        self.counts = Counts()
        self.on_changed: list[Callable[[Changed], None]] = []
        self._remember = remember
        self._refused = refused
        self._accepted = accepted
        self._wall_ns = wall_ns
        self._waiting: dict[str, PoolGrid | PoolVoid] = {}
        self._confirmed: dict[str, int] = {}
        self._routes: dict[str, tuple[int, int]] = {}
        self._prices: dict[tuple[str, str], OraclePrice] = {}
        self._market = ""
        self._rerated_ns = 0
        self._settled_wall_ns = 0
        self._aged = False
        """The wall clock has had its say in the tables since the last settled slot."""
        self._handlers: dict[type, Callable[..., None]] = {
            PoolGrid: self._pool,
            PoolVoid: self._void,
            Confirmed: self._confirm,
            Settled: self._settle,
            OraclePrice: self._price,
            Quote: self._external,
        }

    def take(self, value: Value) -> None:
        """Take over what a part tells."""
        self._handlers[type(value)](value)

    def now_ns(self) -> int:
        """Return market time: that of the last settled slot, and when nothing has been heard for a while, more."""
        if not self._settled_wall_ns:
            return self.book.now_ns
        silence = self._wall_ns() - self._settled_wall_ns
        return self.book.now_ns + (silence if silence > 2 * NS_PER_S else 0)

    def age(self) -> None:
        """Rate everything again while the market is silent: else no quote would grow old. Call every second."""
        now_ns = self.now_ns()
        if now_ns > self.book.now_ns:
            self._aged = True
            for known in self.book.pools.values():
                aged = self.book.rate_pool(known, now_ns)
                # The worth stays what it was told to be in market time: cycles are rated by it.
                worths = [told.oracle_amount_out for told in known.told]
                standing = [
                    rating._replace(oracle_amount_out=worth) for rating, worth in zip(aged, worths, strict=True)
                ]
                self.tables.refresh(known.held, known.told_ns, standing)
            self._age_external(now_ns)
        if gone := self.book.expire_external(now_ns - self.terms.external_max_age_ns):
            for offer in gone:
                self.tables.void_external(offer)
            self.tables.commit_external(self.book.slot, self.book.now_ns)
            self._changed({(offer.token_in, offer.token_out) for offer in gone})

    def _pool(self, value: PoolGrid) -> None:
        self._waiting[value.pool.address] = value

    def _void(self, value: PoolVoid) -> None:
        self._waiting[value.pool] = value

    def _confirm(self, value: Confirmed) -> None:
        for pool in value.pools:
            self._confirmed[pool] = max(value.confirmed_ns, self._confirmed.get(pool, 0))

    def _settle(self, settled: Settled) -> None:
        book = self.book
        if self._market and settled.market != self._market:
            self.tables.forget_all(settled.slot, settled.market_ns)
            book.clear()
            self._rerated_ns = 0
        self._market = settled.market
        book.slot, book.now_ns = settled.slot, settled.market_ns
        self._settled_wall_ns = self._wall_ns()
        self._take_prices(settled.market_ns)
        waiting, self._waiting = self._waiting, {}
        confirmed, self._confirmed = self._confirmed, {}
        changed: set[Direction] = set()
        for address, value in waiting.items():
            if isinstance(value, PoolVoid):
                changed |= self._forget(value.pool, value.slot, value.observed_ns, value.reason, value.cause)
            else:
                book.put(value)
                confirmed[address] = max(value.confirmed_ns, confirmed.get(address, 0))
        if settled.confirms:
            confirmed = dict.fromkeys(book.pools, settled.market_ns)
        for address, confirmed_ns in confirmed.items():
            book.confirm(address, confirmed_ns)
        if self._aged:
            self._take_back_age(frozenset(waiting))
        # After all of them are in the book: a stake pool's rate counts for the pools that came before it too.
        for address in waiting:
            known = book.pools.get(address)
            if known is not None:
                changed |= self._write(known)
        if settled.market_ns - self._rerated_ns >= self.terms.rerate_ns:
            self._rerate(settled.market_ns, frozenset(waiting))
        self.tables.commit(settled.slot, settled.market_ns)
        self.counts.settled += 1
        self._changed(changed)

    def _write(self, known: HeldPool) -> set[Direction]:
        pool = known.held.pool
        ratings = self.book.rate_pool(known, self.book.now_ns)
        for rating in ratings:
            self.counts.note(rating)
        routes = self._routes.get(pool.address)
        if routes is None:
            routes = self._routes[pool.address] = self._own_routes(known)
        known.told_ns, known.told = known.confirmed_ns, ratings
        try:
            self.tables.write(known.held, known.told_ns, ratings, routes)
        except SharedMemoryFull as error:
            return self._forget(pool.address, pool.slot, known.held.observed_ns, str(error), known.held.cause)
        self._accepted(pool.address)
        return {known.tokens, known.tokens[::-1]}

    def _rerate(self, now_ns: int, but: frozenset[str]) -> None:
        """Write what time and the oracle have done to every pool's quotes, and time to the external ones."""
        for address, known in self.book.pools.items():
            if address not in but:
                known.told_ns, known.told = known.confirmed_ns, self.book.rate_pool(known, now_ns)
                self.tables.refresh(known.held, known.told_ns, known.told)
        self._age_external(now_ns)
        self._rerated_ns = now_ns
        self.counts.rerated += 1

    def _age_external(self, now_ns: int) -> None:
        for offer in self.book.age_external(now_ns):
            self.tables.refresh_external(offer)

    def _take_back_age(self, but: frozenset[str]) -> None:
        """Write again what market time alone had made of the quotes: how long a slot took to settle has no say."""
        self._aged = False
        for address, known in self.book.pools.items():
            if address not in but:
                self.tables.refresh(known.held, known.told_ns, known.told)

    def _forget(self, address: str, slot: int, observed_ns: int, reason: str, cause: str) -> set[Direction]:
        known = self.book.drop(address)
        self.tables.forget(address, slot, observed_ns)
        self._refused(address, slot, reason, cause)
        return {known.tokens, known.tokens[::-1]} if known is not None else set()

    def _own_routes(self, known: HeldPool) -> tuple[int, int]:
        venue = Protocol(int(known.held.pool.protocol)).name.lower()
        address, (token_a, token_b) = known.held.pool.address, known.tokens
        return (
            self._route(Route((Step(address, venue, token_a, token_b),))),
            self._route(Route((Step(address, venue, token_b, token_a),))),
        )

    def _route(self, route: Route) -> int:
        try:
            return self._remember(route)
        except RouteRefused:
            self.counts.routes_refused += 1
            return 0

    def _price(self, price: OraclePrice) -> None:
        """Keep a price until the slot it belongs to is settled: what is written depends on slots alone."""
        self._prices[(price.token, price.source)] = price

    def _take_prices(self, now_ns: int) -> None:
        prices, self._prices = self._prices, {}
        for price in prices.values():
            try:
                self.book.fair.take(price, now_ns)
            except OracleRefused as refusal:
                reason = refusal.reason
                self.counts.oracle_refused[reason] = self.counts.oracle_refused.get(reason, 0) + 1

    def _external(self, quote: Quote) -> None:
        offer = self._offer(quote)
        if offer is None:
            self.counts.external_refused += 1
            return
        self.counts.external += 1
        self.counts.note(offer.rating)
        self.book.put_external(offer)
        try:
            self.tables.write_external(offer)
        except SharedMemoryFull:
            self.counts.external_refused += 1
            return
        self.tables.commit_external(self.book.slot, self.book.now_ns)
        self._changed({(offer.token_in, offer.token_out)})

    def _offer(self, quote: Quote) -> Offer | None:
        """Return an external quote as an offer, rated here whatever its provider thinks of itself."""
        if quote.amount_in <= 0 or quote.amount_out <= 0 or quote.token_in == quote.token_out:
            return None
        try:
            route = self._route(route_of(quote.steps)) if quote.steps else 0
        except RouteRefused:
            return None
        # Providers stamp their answers by the wall clock; offline the market's clock is another.
        age_ns = max(0, self._wall_ns() - quote.quoted_ns)
        now_ns = self.now_ns()
        oracle = self.book.fair.rate(quote.token_in, quote.token_out, now_ns)
        hops = max(1, quote.hops, len(quote.steps))
        rating = rate(
            age_ns=age_ns,
            hops=hops,
            amount_out=quote.amount_out,
            worth=oracle.of(quote.amount_in) if oracle is not None else 0,
            reliability=quote.provider_factor,
            expected_bps=self.book.expected_bps(quote),
            quoted_bps=quote.price_impact_bps,
        )
        return Offer(
            provider=quote.provider,
            pool="",
            protocol=Protocol(quote.protocol),
            token_in=quote.token_in,
            token_out=quote.token_out,
            amount_in=quote.amount_in,
            amount_out=quote.amount_out,
            fee_amount=0,
            price_impact_bps=quote.price_impact_bps,
            slot=quote.slot,
            quoted_ns=now_ns - age_ns,
            rating=rating,
            route=route,
            hops=hops,
        )

    def _changed(self, directions: set[Direction]) -> None:
        if directions and self.on_changed:
            changed = Changed(self.book.slot, frozenset(directions))
            for listener in self.on_changed:
                listener(changed)
