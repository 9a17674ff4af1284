"""How far quotes are trusted: the five factors of a quote from its pool's age, its source, and the oracle. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from markets.confidence import (
    Factors,
    age_factor,
    band_of,
    confidence,
    hops_factor,
    oracle_factor,
    slippage_factor,
    staleness_of,
)
from markets.oracle.fair import Rate
from pipeline._core import Grid
from pipeline.messages import ConfidenceBand, Staleness

WINDOW = 20
"""Newest states of a pool that its reliability is counted over."""

Row = tuple[bool, int, int, int, int, float]
"""A row of a grid: a_to_b, index, amount_in, amount_out, fee_amount, price_impact_bps."""


class Rating(NamedTuple):
    """What is thought of one quote."""

    factors: Factors
    confidence: float
    staleness: Staleness
    oracle_amount_out: int = 0
    """What the amount given is worth by the oracle, base units of the token taken; 0 where no oracle tells."""

    @property
    def band(self) -> ConfidenceBand:
        """Return what the confidence allows."""
        return band_of(self.confidence)

    def aged(self, age_ns: int) -> Rating:
        """Return the same quote's rating at another age."""
        factors = self.factors._replace(age=age_factor(age_ns))
        return Rating(factors, confidence(factors), staleness_of(age_ns), self.oracle_amount_out)


@dataclass(slots=True)
class Reliability:
    """The share of good answers among the newest ones of a source."""

    share: float | None = None
    """Good answers over all, 0..1; None before the first."""
    _answers: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def note(self, good: bool) -> None:
        """Count one answer."""
        self._answers.append(good)
        self.share = sum(self._answers) / len(self._answers)


def rate(
    *,
    age_ns: int,
    hops: int,
    amount_out: int,
    worth: int,
    reliability: float | None,
    expected_bps: float | None,
    quoted_bps: float,
) -> Rating:
    """Return the rating of one quote; `worth` is 0 where no oracle tells."""
    factors = Factors(
        age=age_factor(age_ns),
        hops=hops_factor(hops),
        oracle=oracle_factor(amount_out, worth),
        provider=reliability or 0.0,
        slippage=slippage_factor(expected_bps, quoted_bps),
    )
    return Rating(factors, confidence(factors), staleness_of(age_ns), worth)


def rate_grid(
    grid: Grid, *, age_ns: int, reliability: float | None, forward: Rate | None, reverse: Rate | None
) -> list[Rating]:
    """Return the ratings of a pool's grid, row by row; the oracle's rates are those of a to b and of b to a."""
    rows: list[Row] = list(grid)
    # One for the whole pool; a grid is rated again and again.
    age, hops, provider, staleness = age_factor(age_ns), hops_factor(1), reliability or 0.0, staleness_of(age_ns)
    ratings = []
    for a_to_b, index, amount_in, amount_out, _fee, impact in rows:
        oracle = forward if a_to_b else reverse
        worth = oracle.of(amount_in) if oracle is not None else 0
        expected_bps = expected_impact(rows, a_to_b, amount_in, skip=index)
        slippage = slippage_factor(expected_bps, impact)
        factors = Factors(age, hops, oracle_factor(amount_out, worth), provider, slippage)
        ratings.append(Rating(factors, confidence(factors), staleness, worth))
    return ratings


def expected_impact(rows: Sequence[Row], a_to_b: bool, amount_in: int, *, skip: int | None = None) -> float | None:
    """Return the price impact that an amount should have, basis points; None where the grid does not tell.

    Impact grows in proportion to the amount while the liquidity stays the same: what the smallest other amount of the
    grid moves tells it. A quote far from that stands at an edge of the liquidity.
    """
    for row_a_to_b, index, row_in, row_out, _fee, impact in rows:
        if row_a_to_b == a_to_b and index != skip and row_out:
            return impact * amount_in / row_in
    return None
