"""What a transaction offers: its tip, its price per compute unit, its limit of compute units. Integers only.

Shares from the configuration are taken as whole millionths. What is left of a unit goes against us: fees up, profits
down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from markets.costs import SolPrice, cost_in_token

MAX_COMPUTE_UNITS = 1_400_000
"""The most that one transaction may ask for. Source: https://solana.com/docs/core/fees."""
MICRO_LAMPORTS = 1_000_000
_MILLIONTHS = 1_000_000


class TipSettings(Protocol):
    """What the configuration says about tips."""

    @property
    def profit_ratio(self) -> float:
        """Return the share of the profit before the tip that is offered, 0..1."""

    @property
    def min_lamports(self) -> int:
        """Return the least that is ever offered."""

    @property
    def max_lamports(self) -> int:
        """Return the most that is ever offered."""


def tip_for(profit_before_tip: int, *, floor: int, settings: TipSettings) -> int:
    """Return the tip for a profit before the tip, both lamports.

    The configured share, rounded up, within the configured bounds. A share under `floor`, what others paid lately, is
    raised to it as far as the bounds and the profit bear that: at least one lamport of profit is left.
    """
    share = share_of(max(profit_before_tip, 0), settings.profit_ratio)
    tip = min(max(share, settings.min_lamports), settings.max_lamports)
    return raised_tip(tip, profit_before_tip, floor=floor, most=settings.max_lamports)


def raised_tip(tip: int, profit_before_tip: int, *, floor: int, most: int) -> int:
    """Return a tip raised to what others paid lately, where it is under that and the profit bears it; all lamports."""
    wanted = min(floor, most)
    return wanted if tip < wanted < profit_before_tip else tip


def share_of(amount: int, ratio: float) -> int:
    """Return a share of an amount, rounded up; the ratio is taken as whole millionths."""
    return -(-amount * round(ratio * _MILLIONTHS) // _MILLIONTHS)


def priority_fee(compute_units: int, micro_lamports: int) -> int:
    """Return what the network charges for a limit and a price, lamports, rounded up as it does."""
    return -(-compute_units * micro_lamports // MICRO_LAMPORTS)


def affordable_micro_lamports(budget: int, compute_units: int) -> int:
    """Return the highest price whose fee for a limit stays within a budget of lamports."""
    return budget * MICRO_LAMPORTS // compute_units if compute_units else 0


def micro_lamports_for(samples: Sequence[int], percentile: int, most: int) -> int:
    """Return the price per compute unit at a percentile of recent ones (nearest rank), and never over `most`.

    Nothing was paid lately: nothing is offered.
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"a percentile is 0..100, not {percentile}")
    if not samples:
        return 0
    ordered = sorted(samples)
    rank = max(1, -(-percentile * len(ordered) // 100))
    return max(0, min(ordered[rank - 1], most))


def compute_limit(units: int, margin_ratio: float) -> int:
    """Return the limit to ask for where a simulation used so many units."""
    return min(units + share_of(units, margin_ratio), MAX_COMPUTE_UNITS)


def minimum_for(amount_in: int, lamports: int, price: SolPrice) -> int:
    """Return the least that a cycle must give back: what was put in, and all that is paid in lamports, at a price."""
    return amount_in + cost_in_token(lamports, price)
