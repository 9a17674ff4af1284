"""Figures over trades: expected against realised, ratios of return and risk, and breakdowns. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.ledger.trades import Trade

By = Literal["pair", "venue", "hour"]
MIN_TRADES = 30
"""Fewer landed trades have no ratio per trade."""
MIN_HOURS = 24
"""Fewer hours have no ratio per hour."""
HOURS_A_YEAR = 24 * 365
_HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Ratios:
    """Return over risk; None below the minimum sample, or where nothing varies (Sharpe) or falls (Sortino)."""

    trades: int
    sharpe_per_trade: float | None
    sortino_per_trade: float | None
    hours: int
    sharpe_per_hour: float | None
    """Annualised: times the square root of 8,760."""
    sortino_per_hour: float | None


def ratios(trades: Iterable[Trade]) -> Ratios:
    """Return the ratios over the landed trades that could be valued, in lamports at their own price.

    Sharpe: mean over sample standard deviation. Sortino: mean over the root of the mean square of the losses, over all
    periods. The return without risk is 0. Per hour: sums of the hours (UTC) from the first trade to the last,
    empty ones included.
    """
    return _ratios(
        [(one.row["finished_ns"], one.net_lamports) for one in trades if one.landed and one.net_lamports is not None]
    )


def _ratios(returns: Sequence[tuple[int, int]]) -> Ratios:
    """Return the ratios over (wall-clock ns, amount)."""
    single = [float(amount) for _, amount in returns]
    hourly = _by_hour(returns)
    year = math.sqrt(HOURS_A_YEAR)
    return Ratios(
        len(single),
        sharpe(single, MIN_TRADES),
        sortino(single, MIN_TRADES),
        len(hourly),
        _times(sharpe(hourly, MIN_HOURS), year),
        _times(sortino(hourly, MIN_HOURS), year),
    )


def sharpe(returns: Sequence[float], least: int) -> float | None:
    """Return mean over sample standard deviation; None for fewer than `least`, or where all are the same."""
    if len(returns) < max(2, least):
        return None
    deviation = statistics.stdev(returns)
    return statistics.fmean(returns) / deviation if deviation else None


def sortino(returns: Sequence[float], least: int) -> float | None:
    """Return mean over downside deviation from 0; None for fewer than `least`, or where nothing was lost."""
    if len(returns) < max(1, least):
        return None
    downside = math.sqrt(math.fsum(min(0.0, one) ** 2 for one in returns) / len(returns))
    return statistics.fmean(returns) / downside if downside else None


def max_drawdown(profits: Iterable[int]) -> int:
    """Return the largest fall of the running sum from its highest point so far, which is at least 0."""
    total = peak = fall = 0
    for profit in profits:
        total += profit
        peak = max(peak, total)
        fall = max(fall, peak - total)
    return fall


def causes(trades: Iterable[Trade]) -> list[dict[str, Any]]:
    """Return, per token and cause, how many trades came to something else than expected, and by how much."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for trade in trades:
        for cause, amount in trade.causes().items():
            key = trade.row["token"], cause
            entry = found.setdefault(key, {"token": key[0], "cause": cause, "trades": 0, "difference": 0})
            entry["trades"] += 1
            entry["difference"] += amount
    return [found[key] for key in sorted(found)]


def breakdown(trades: Iterable[Trade], by: By, pair: Callable[[Trade], str]) -> list[dict[str, Any]]:
    """Return sums and risk per pair, per way through venues, or per hour, each with its token: two never mix.

    `ratios` and `max_drawdown` are of the net profits in that token, in the order of the stream; `causes` are those of
    the row.
    """
    groups: dict[tuple[str, str], list[Trade]] = {}
    for trade in trades:
        name = pair(trade) if by == "pair" else trade.venues if by == "venue" else hour_of(trade.row["finished_ns"])
        groups.setdefault((name, trade.row["token"]), []).append(trade)
    return [{by: name, "token": token} | _summed(groups[name, token]) for name, token in sorted(groups)]


def _summed(trades: Sequence[Trade]) -> dict[str, Any]:
    """Return what stands in a row of a breakdown: trades of one token, in the order of the stream."""
    amounts = [_amounts(trade, trade.figures) for trade in trades]
    net = [(trade.row["finished_ns"], trade.figures["net_profit"]) for trade in trades if trade.landed]
    return (
        {"executions": len(trades)}
        | {name: sum(one[name] for one in amounts) for name in amounts[0]}
        | {
            "ratios": asdict(_ratios(net)),
            "max_drawdown": max_drawdown(one["net_profit"] for one in amounts),
            "causes": [{name: row[name] for name in ("cause", "trades", "difference")} for row in causes(trades)],
        }
    )


def _amounts(trade: Trade, figures: dict[str, int]) -> dict[str, int]:
    same = ("filled", "wins", "gross_profit", "cost", "net_profit", "expected_of_filled")
    return {name: figures[name] for name in same} | {
        "fees_lamports": figures["base_fee"] + figures["priority_fee"],
        "tips_lamports": figures["tip"],
        "expected_profit": trade.row["expected_profit"],
        "net_lamports": trade.net_lamports or 0,
        "net_usd_e6": trade.net_usd_e6 or 0,
    }


def hour_of(ns: int) -> str:
    """Return the hour of a wall-clock time, UTC, as 2026-01-31 13:00; empty where it cannot be a time."""
    try:
        return f"{datetime.fromtimestamp(ns // 1_000_000_000, UTC):%Y-%m-%d %H}:00"
    except (OverflowError, ValueError, OSError):
        return ""


def _by_hour(valued: Sequence[tuple[int, int]]) -> list[float]:
    if not valued:
        return []
    hours = [ns // _HOUR_NS for ns, _ in valued]
    first, last = min(hours), max(hours)
    if last - first > 100 * HOURS_A_YEAR:
        return []  # clocks that cannot be right
    sums = [0.0] * (last - first + 1)
    for hour, (_, amount) in zip(hours, valued, strict=True):
        sums[hour - first] += amount
    return sums


def _times(ratio: float | None, factor: float) -> float | None:
    return None if ratio is None else ratio * factor
