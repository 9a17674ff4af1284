"""Which pool gives most: one Quote message per pair and direction, when that changes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Offer:
    """What one pool gives for the reference amount in one direction."""

    pool: str
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int
    """0 where the pool gives nothing."""
    price_impact_bps: float = 0.0


@dataclass(slots=True)
class BestOffers:
    """The offers of all pools by direction, and the best of each as it was last told."""

    _offers: dict[tuple[str, str], dict[str, Offer]] = field(default_factory=dict)
    _told: dict[tuple[str, str], Offer] = field(default_factory=dict)

    def update(self, offers: Iterable[Offer]) -> list[Offer]:
        """Take changed offers over; return the best of each direction where that is another one than was told."""
        touched: dict[tuple[str, str], None] = {}
        for offer in offers:
            direction = (offer.token_in, offer.token_out)
            self._offers.setdefault(direction, {})[offer.pool] = offer
            touched[direction] = None
        news = []
        for direction in touched:
            # The address settles a tie, so that the same offers always have the same best.
            best = max(self._offers[direction].values(), key=lambda offer: (offer.amount_out, offer.pool))
            if best.amount_out and best != self._told.get(direction):
                self._told[direction] = best
                news.append(best)
        return news
