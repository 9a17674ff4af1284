"""Confidence in a quote: five factors, each 0..1, weighed to one number, and what that number allows.

A factor without data is 0, never 1: what is not known gives no confidence. The same input gives the same output.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from pipeline.messages import ConfidenceBand, Staleness

FULL_AGE_NS = 60_000_000_000
"""A state this old gives no confidence."""
HOP_TENTHS = 2
"""Tenths of the factor that every hop takes."""
FULL_DEVIATION_SHARE = 10
"""A deviation from the oracle of one part in this gives no confidence: 10 %."""
FULL_SLIPPAGE_BPS = 100.0
"""A quote whose slippage is this far from the expected one gives no confidence."""

EXECUTE_FROM = 0.9
VERIFY_FROM = 0.7
CAUTIOUS_FROM = 0.5

STALE_FROM_NS = 30_000_000_000
"""Until this age a state is fresh."""
VERY_STALE_FROM_NS = FULL_AGE_NS
"""Until this age a state is stale, from it very stale: the factor of the age is 0 then."""


class Factors(NamedTuple):
    """What a confidence is made of. What is left out was not known, and counts as 0."""

    age: float = 0.0
    hops: float = 0.0
    oracle: float = 0.0
    provider: float = 0.0
    slippage: float = 0.0


WEIGHTS = Factors(age=30, hops=20, oracle=30, provider=10, slippage=10)
"""Percent; together 100."""


def confidence(factors: Factors) -> float:
    """Return the weighted sum of the factors, always within 0..1."""
    age, hops, oracle, provider, slippage = factors
    if None in factors or not (
        0 <= age <= 1 and 0 <= hops <= 1 and 0 <= oracle <= 1 and 0 <= provider <= 1 and 0 <= slippage <= 1
    ):
        age, hops, oracle, provider, slippage = map(known, factors)
    total = (
        WEIGHTS.age * age
        + WEIGHTS.hops * hops
        + WEIGHTS.oracle * oracle
        + WEIGHTS.provider * provider
        + WEIGHTS.slippage * slippage
    )
    # Each product and sum is rounded, so five ones could otherwise come to a little more than one.
    return min(total / 100, 1.0)


def known(value: float | None) -> float:
    """Return a factor within 0..1; what is missing, negative or no finite number is 0."""
    if value is None or not value > 0:
        return 0.0
    if value <= 1:
        return float(value)
    return 1.0 if math.isfinite(value) else 0.0


def age_factor(age_ns: int | None) -> float:
    """Return the factor of a state's age: 1 when new, falling linearly to 0 at 60 s.

    A negative age, a state from the future, says that the clocks disagree: then the age is not known.
    """
    if age_ns is None or not 0 <= age_ns < FULL_AGE_NS:
        return 0.0
    return (FULL_AGE_NS - age_ns) / FULL_AGE_NS


def hops_factor(hops: int | None) -> float:
    """Return the factor of the number of swaps: 0.2 less for each, the first included."""
    if hops is None or hops <= 0:
        return 0.0
    return max(0, 10 - HOP_TENTHS * hops) / 10


def oracle_factor(amount_out: int | None, worth: int | None) -> float:
    """Return the factor of the deviation of an output from what the oracle says the input is worth.

    Both are base units of the same token. A quote that gives more than the worth deviates as one that gives less.
    """
    if not amount_out or not worth or amount_out < 0 or worth < 0:
        return 0.0
    return max(0, worth - FULL_DEVIATION_SHARE * abs(amount_out - worth)) / worth


def slippage_factor(expected_bps: float | None, quoted_bps: float | None) -> float:
    """Return the factor of the expected against the quoted slippage: 1 where they agree, 0 where 100 bps lie between.

    Both directions count: a quote with less slippage than the amount should have is as doubtful as one with more.
    """
    if expected_bps is None or quoted_bps is None:
        return 0.0
    # A NaN fails the comparisons.
    if not (0 <= expected_bps < math.inf and 0 <= quoted_bps < math.inf):
        return 0.0
    return max(0.0, 1.0 - abs(quoted_bps - expected_bps) / FULL_SLIPPAGE_BPS)


def of_cycle(legs: Iterable[Factors]) -> Factors:
    """Return the factors of swaps made one after the other: the worst of each, and as many hops as swaps."""
    factors = list(legs)
    if not factors:
        return Factors()
    return Factors(
        age=min(known(leg.age) for leg in factors),
        hops=hops_factor(len(factors)),
        oracle=min(known(leg.oracle) for leg in factors),
        provider=min(known(leg.provider) for leg in factors),
        slippage=min(known(leg.slippage) for leg in factors),
    )


def band_of(value: float | None) -> ConfidenceBand:
    """Return what a confidence allows."""
    share = known(value)
    if share >= EXECUTE_FROM:
        return ConfidenceBand.EXECUTE
    if share >= VERIFY_FROM:
        return ConfidenceBand.VERIFY
    if share >= CAUTIOUS_FROM:
        return ConfidenceBand.CAUTIOUS
    return ConfidenceBand.SKIP


def staleness_of(age_ns: int | None) -> Staleness:
    """Return the band of a state's age: fresh under 30 s, stale under 60 s, else, or when not known, very stale."""
    if age_ns is None or not 0 <= age_ns < VERY_STALE_FROM_NS:
        return Staleness.VERY_STALE
    return Staleness.STALE if age_ns >= STALE_FROM_NS else Staleness.FRESH
