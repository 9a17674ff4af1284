"""The split cache: routes live long, prices short. Pure; the clock is passed in.

What is kept per provider, direction and amount is the last answer that was believed, when its route was looked for, and
when its price was asked for. A route that is fresh with a price that is stale is asked for its price only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from markets.providers.answer import Answer, Ask, Route

NS_PER_S = 1_000_000_000


class Want(Enum):
    """What has to be asked for."""

    NOTHING = "nothing"
    """Route and price are fresh."""
    PRICE = "price"
    """The route is fresh, its price is not."""
    ROUTE = "route"
    """Everything."""


@dataclass(slots=True)
class Kept:
    """The last answer of one provider to one question."""

    answer: Answer
    route_ns: int
    """When its route was looked for."""
    price_ns: int
    """When its price was asked for."""
    route_bytes: int
    """What the last whole answer took on the wire."""


@dataclass(slots=True)
class Saved:
    """What the cache did."""

    hits: int = 0
    prices: int = 0
    """Asked for the price only."""
    routes: int = 0
    """Asked for everything."""
    bytes_by_hits: int = 0
    """What the answers that were not asked for would have taken, by the size of the last ones."""
    bytes_by_prices: int = 0
    """What answers to price-only questions were smaller than whole ones; below 0 where they were larger."""


@dataclass(slots=True)
class SplitCache:
    """Answers by provider and question."""

    clock: Callable[[], int]
    route_ttl_s: float
    saved: Saved = field(default_factory=Saved)
    _kept: dict[tuple[str, Ask], Kept] = field(default_factory=dict)

    def want(self, provider: str, ask: Ask, price_ttl_s: float) -> tuple[Want, Route | None]:
        """Return what has to be asked of a provider, and the route where only its price is missing."""
        kept = self._kept.get((provider, ask))
        now = self.clock()
        if kept is None or now - kept.route_ns >= self.route_ttl_s * NS_PER_S:
            return Want.ROUTE, None
        if now - kept.price_ns >= price_ttl_s * NS_PER_S:
            return Want.PRICE, kept.answer.route
        return Want.NOTHING, kept.answer.route

    def route(self, provider: str, ask: Ask) -> Kept | None:
        """Return what is kept where its route is fresh, else None."""
        kept = self._kept.get((provider, ask))
        return kept if kept is not None and self.clock() - kept.route_ns < self.route_ttl_s * NS_PER_S else None

    def hit(self, provider: str, ask: Ask) -> None:
        """Count a question that was not asked because the cache had the answer."""
        kept = self._kept.get((provider, ask))
        if kept is not None:
            self.saved.hits += 1
            self.saved.bytes_by_hits += kept.route_bytes

    def put(self, answer: Answer, ask: Ask, asked_ns: int, wire_bytes: int, *, along: bool) -> None:
        """Keep an answer; `along` says that it is the price of the route that was known."""
        key = (answer.provider, ask)
        kept = self._kept.get(key)
        if along and kept is not None:
            self.saved.prices += 1
            self.saved.bytes_by_prices += kept.route_bytes - wire_bytes
            # The route is as old as it was, even where the provider found another pool of the same venue.
            kept.answer, kept.price_ns = answer, asked_ns
            return
        self.saved.routes += 1
        self._kept[key] = Kept(answer, asked_ns, asked_ns, wire_bytes)

    def drop(self, provider: str, ask: Ask) -> None:
        """Forget an answer: its price could not be had along its route."""
        self._kept.pop((provider, ask), None)

    def last_good(self, provider: str, ask: Ask, within_s: float) -> int | None:
        """Return the amount out that the provider last told, where that is not too long ago."""
        kept = self._kept.get((provider, ask))
        if kept is None or self.clock() - kept.price_ns > within_s * NS_PER_S:
            return None
        return kept.answer.amount_out
