"""The four-factor risk score: a ratio for judging, never for money."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.sections import RiskSection


@dataclass(frozen=True, slots=True)
class RiskScore:
    """Four factors, each 0 (calm) to 1, and their weighted sum."""

    age: float
    profit: float
    confidence: float
    slippage: float
    total: float


def share(measured: float, full: float) -> float:
    """Return measured over full within 0..1; what is not a number counts as full."""
    if full <= 0:
        return 0.0 if measured <= 0 else 1.0
    ratio = measured / full
    return 1.0 if not ratio <= 1.0 else max(ratio, 0.0)


def risk_score(
    *,
    age_ns: int,
    max_age_ns: int,
    profit_bps: float,
    confidence: float,
    price_impact_bps: float,
    max_price_impact_bps: float,
    settings: RiskSection,
) -> RiskScore:
    """Score a cycle by its age, a profit too good to be true, the doubt in its quotes and its price impact."""
    age = share(age_ns, max_age_ns)
    profit = share(profit_bps, settings.too_good_profit_bps)
    doubt = share(1.0 - confidence, 1.0)
    slippage = share(price_impact_bps, max_price_impact_bps)
    total = (
        settings.age_weight * age
        + settings.profit_weight * profit
        + settings.confidence_weight * doubt
        + settings.slippage_weight * slippage
    )
    # The weights sum to 1 up to rounding; the score is promised to be within 0..1.
    return RiskScore(age, profit, doubt, slippage, min(total, 1.0))
