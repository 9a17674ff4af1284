"""How far a cycle's quotes can be trusted: a ratio from 0 to 1, and what went into it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trust:
    """What lowers confidence, and how much."""

    full_age_ns: int
    """A quote this old counts half."""
    full_impact_bps: float
    """A leg that moves its price so much counts nothing."""
    unknown_token: float
    """Factor for a cycle through a token that the registry does not know, or could not verify."""


def confidence(trust: Trust, *, oldest_quote_ns: int, worst_impact_bps: float, tokens_known: bool) -> float:
    """Return the product of three factors: age, price impact, and whether the tokens are known."""
    age = 1.0 - 0.5 * min(1.0, max(0, oldest_quote_ns) / trust.full_age_ns)
    impact = 1.0 - min(1.0, max(0.0, worst_impact_bps) / trust.full_impact_bps)
    return age * impact * (1.0 if tokens_known else trust.unknown_token)
