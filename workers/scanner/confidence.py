"""How far a cycle's quotes can be trusted: what the quote core wrote about each leg, at the leg's own amounts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markets.confidence import Factors, age_factor, hops_factor, oracle_factor, slippage_factor
from pipeline.shm import QuoteEntry

PROVIDER = Factors._fields.index("provider")


@dataclass(frozen=True, slots=True)
class Swapped:
    """What a leg of a cycle moves."""

    amount_in: int
    amount_out: int
    price_impact_bps: float


def leg_factors(swapped: Swapped, entries: Sequence[QuoteEntry], market_ns: int) -> Factors:
    """Return the factors of one leg; `entries` are the quotes of its pool in its direction, of any amounts.

    Where the pool gives none of the quoted amounts, only its age and its reliability are known; without entries nothing
    is, and every factor is 0.
    """
    known = [entry for entry in entries if entry.amount_in]
    if not known:
        return Factors()
    quotes = [entry for entry in known if not entry.void]
    if not quotes:
        newest = max(known, key=lambda entry: entry.quoted_ns)
        return Factors(
            age=age_factor(market_ns - newest.quoted_ns), hops=hops_factor(1), provider=newest.factors[PROVIDER]
        )
    # The quote nearest in size tells most about this size.
    nearest = min(quotes, key=lambda entry: (abs(entry.amount_in - swapped.amount_in), entry.amount_in))
    worth = nearest.oracle_amount_out * swapped.amount_in // nearest.amount_in
    expected_bps = nearest.price_impact_bps * swapped.amount_in / nearest.amount_in
    return Factors(
        age=age_factor(market_ns - nearest.quoted_ns),
        hops=hops_factor(1),
        oracle=oracle_factor(swapped.amount_out, worth),
        provider=nearest.factors[PROVIDER],
        slippage=slippage_factor(expected_bps, swapped.price_impact_bps),
    )
