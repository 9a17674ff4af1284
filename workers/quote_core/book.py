"""What is known of every pool and every external provider, and who is best for an amount. Pure: no I/O, no clock.

"Best" is by confidence-weighted output: an offer of a little more that is hardly trusted does not beat a sound one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from markets.oracle.fair import FairValues
from pipeline._core import Pool, QuoteError
from pipeline.messages import Protocol, Quote
from workers.quote_core.parts import LOCAL, PoolGrid
from workers.quote_core.rating import Rating, Reliability, Row, expected_impact, rate, rate_grid

Direction = tuple[str, str]
"""Mints of the token given and the token taken."""


class Offer(NamedTuple):
    """What one source gives for an amount."""

    provider: str
    pool: str
    """Empty for an external quote, which may go through several."""
    protocol: Protocol
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int
    fee_amount: int
    price_impact_bps: float
    slot: int
    quoted_ns: int
    """Market time at which it was last known to hold."""
    rating: Rating
    route: int = 0
    hops: int = 1

    @property
    def score(self) -> float:
        """Return the confidence-weighted output, base units."""
        return self.amount_out * self.rating.confidence


@dataclass(frozen=True, slots=True)
class Answer:
    """The best offers for one direction and amount; None where nobody offers."""

    internal: Offer | None
    external: Offer | None

    @property
    def best(self) -> Offer | None:
        """Return the better of the two."""
        return best_of(offer for offer in (self.internal, self.external) if offer is not None)


@dataclass(slots=True)
class HeldPool:
    """The newest grid of a pool, and how its states have been."""

    held: PoolGrid
    address: str
    tokens: Direction
    protocol: Protocol
    slot: int
    """These three stand here because a native pool writes them out anew each time."""
    reliability: Reliability
    confirmed_ns: int
    rows: list[Row]
    """The grid's rows: each reading of a grid makes them anew."""
    told_ns: int = 0
    """The confirmation that the table names, and with it:"""
    told: list[Rating] = field(default_factory=list)
    """what the table says of each row by market time, whatever the wall clock has made of it since."""


@dataclass(slots=True)
class Book:
    """Every pool and every external quote that counts now."""

    fair: FairValues
    pools: dict[str, HeldPool] = field(default_factory=dict)
    now_ns: int = 0
    """Market time."""
    slot: int = 0
    _by_tokens: dict[frozenset[str], dict[str, None]] = field(default_factory=dict)
    _reliability: dict[str, Reliability] = field(default_factory=dict)
    _external: dict[tuple[str, str, int], dict[str, Offer]] = field(default_factory=dict)
    _generations: dict[frozenset[str], int] = field(default_factory=dict)

    def put(self, value: PoolGrid) -> None:
        """Take over a pool's newest state and grid; an older state than the one held changes nothing."""
        pool = value.pool
        known = self.pools.get(pool.address)
        if known is not None and _order(pool) < _order(known.held.pool):
            return
        address, tokens = pool.address, (pool.token_a, pool.token_b)
        reliability = self._reliability.setdefault(address, Reliability())
        reliability.note(True)
        self.pools[address] = HeldPool(
            held=value,
            address=address,
            tokens=tokens,
            protocol=Protocol(int(pool.protocol)),
            slot=pool.slot,
            reliability=reliability,
            confirmed_ns=value.confirmed_ns,
            rows=list(value.grid),
        )
        self._by_tokens.setdefault(frozenset(tokens), {})[address] = None
        self._touch(tokens)
        self._note_rate(value, value.confirmed_ns)

    def drop(self, address: str) -> HeldPool | None:
        """Forget a pool that cannot be quoted any more; return what was known of it."""
        self._reliability.setdefault(address, Reliability()).note(False)
        known = self.pools.pop(address, None)
        if known is not None:
            self._by_tokens[frozenset(known.tokens)].pop(address, None)
            self._touch(known.tokens)
        return known

    def clear(self) -> None:
        """Forget every pool, quote and price: another market has begun."""
        self.pools.clear()
        self._by_tokens.clear()
        self._reliability.clear()
        self._external.clear()
        self.fair.clear()
        for tokens in self._generations:
            self._generations[tokens] += 1

    def confirm(self, address: str, confirmed_ns: int) -> None:
        """Note that a pool was seen to be as it was."""
        known = self.pools.get(address)
        if known is not None and confirmed_ns > known.confirmed_ns:
            known.confirmed_ns = confirmed_ns
            self._note_rate(known.held, confirmed_ns)

    def put_external(self, offer: Offer) -> None:
        """Take over what an external provider gives; its earlier answer for the same amount is gone."""
        key = (offer.token_in, offer.token_out, offer.amount_in)
        self._external.setdefault(key, {})[offer.provider] = offer
        self._touch((offer.token_in, offer.token_out))

    def age_external(self, now_ns: int) -> list[Offer]:
        """Rate every external answer again for its age, and return them as they are now."""
        aged = []
        for offers in self._external.values():
            for provider, offer in offers.items():
                rating = offer.rating.aged(now_ns - offer.quoted_ns)
                aged.append(offer._replace(rating=rating))
                offers[provider] = aged[-1]
        return aged

    def expire_external(self, before_ns: int) -> list[Offer]:
        """Forget external answers from before a moment, and return them."""
        gone = []
        for key, offers in list(self._external.items()):
            for provider, offer in list(offers.items()):
                if offer.quoted_ns < before_ns:
                    gone.append(offers.pop(provider))
                    self._touch((offer.token_in, offer.token_out))
            if not offers:
                del self._external[key]
        return gone

    def generation(self, token_in: str, token_out: str) -> int:
        """Return a number that changes whenever anything about a pair changes."""
        return self._generations.get(frozenset((token_in, token_out)), 0)

    def directions(self) -> Iterator[Direction]:
        """Yield every direction that some pool trades, in a fixed order."""
        for tokens in sorted(tuple(sorted(tokens)) for tokens, pools in self._by_tokens.items() if pools):
            yield tokens[0], tokens[1]
            yield tokens[1], tokens[0]

    def pools_of(self, token_in: str, token_out: str) -> list[str]:
        """Return the addresses of the pools between two tokens."""
        return list(self._by_tokens.get(frozenset((token_in, token_out)), ()))

    def rate_pool(self, known: HeldPool, now_ns: int) -> list[Rating]:
        """Return the ratings of a pool's grid, row by row."""
        token_a, token_b = known.tokens
        return rate_grid(
            known.held.grid,
            age_ns=now_ns - known.confirmed_ns,
            reliability=known.reliability.share,
            forward=self.fair.rate(token_a, token_b, now_ns),
            reverse=self.fair.rate(token_b, token_a, now_ns),
        )

    def offer(self, address: str, token_in: str, amount_in: int, now_ns: int) -> Offer | None:
        """Return what a pool gives for any amount, exactly; None where it cannot."""
        known = self.pools.get(address)
        if known is None or token_in not in known.tokens:
            return None
        a_to_b = token_in == known.tokens[0]
        token_out = known.tokens[1] if a_to_b else known.tokens[0]
        try:
            quote = known.held.pool.quote_in(a_to_b, amount_in)
        except QuoteError:
            return None
        if quote.amount_in != amount_in:
            return None
        oracle = self.fair.rate(token_in, token_out, now_ns)
        rating = rate(
            age_ns=now_ns - known.confirmed_ns,
            hops=1,
            amount_out=quote.amount_out,
            worth=oracle.of(amount_in) if oracle is not None else 0,
            reliability=known.reliability.share,
            expected_bps=expected_impact(known.rows, a_to_b, amount_in),
            quoted_bps=quote.price_impact_bps,
        )
        return Offer(
            provider=LOCAL,
            pool=address,
            protocol=known.protocol,
            token_in=token_in,
            token_out=token_out,
            amount_in=amount_in,
            amount_out=quote.amount_out,
            fee_amount=quote.fee_amount,
            price_impact_bps=quote.price_impact_bps,
            slot=known.slot,
            quoted_ns=known.confirmed_ns,
            rating=rating,
        )

    def internal(self, token_in: str, token_out: str, amount_in: int, now_ns: int) -> Offer | None:
        """Return the best pool's offer for an amount."""
        offers = (self.offer(pool, token_in, amount_in, now_ns) for pool in self.pools_of(token_in, token_out))
        return best_of(offer for offer in offers if offer is not None)

    def external(self, token_in: str, token_out: str, amount_in: int) -> Offer | None:
        """Return the best external provider's offer for exactly this amount."""
        return best_of(self._external.get((token_in, token_out, amount_in), {}).values())

    def answer(self, token_in: str, token_out: str, amount_in: int, now_ns: int) -> Answer:
        """Return the best offers for a direction and amount."""
        return Answer(
            self.internal(token_in, token_out, amount_in, now_ns), self.external(token_in, token_out, amount_in)
        )

    def expected_bps(self, quote: Quote) -> float | None:
        """Return the slippage an external quote should have: that of the best pool here for the same amount."""
        ours = self.internal(quote.token_in, quote.token_out, quote.amount_in, self.now_ns)
        return ours.price_impact_bps if ours is not None else None

    def _touch(self, tokens: Iterable[str]) -> None:
        key = frozenset(tokens)
        self._generations[key] = self._generations.get(key, 0) + 1

    def _note_rate(self, value: PoolGrid, observed_ns: int) -> None:
        """Take over what a stake pool says its token is worth."""
        fair = value.pool.fair_rate()
        if fair is not None:
            self.fair.set_rate(value.pool.token_a, fair[0], fair[1], observed_ns)


def best_of(offers: Iterable[Offer]) -> Offer | None:
    """Return the offer of the highest confidence-weighted output; the name settles a tie, always the same way."""
    return max(offers, key=lambda offer: (offer.score, offer.amount_out, offer.provider, offer.pool), default=None)


def _order(pool: Pool) -> tuple[int, int]:
    return pool.slot, pool.write_version
