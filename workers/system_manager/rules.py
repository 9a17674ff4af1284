"""When the system manager halts by itself: pure functions from what was observed to a typed outcome.

Every rule looks at a window, says nothing below a minimum sample, and measures a figure against a limit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Broken",
    "Health",
    "Outcome",
    "Pnl",
    "TooFew",
    "Waiting",
    "Within",
    "drawdown",
    "error_ratio",
    "memory",
    "rpc_failures",
    "silent",
    "unbooked",
]

# Of a worker's own words in a reason, which has its length too.
_WORDS = 300


@dataclass(frozen=True, slots=True)
class Within:
    """The rule looked, and its limit holds."""

    rule: str
    subject: str
    measured: float
    limit: float


@dataclass(frozen=True, slots=True)
class TooFew:
    """The sample is too small to say anything."""

    rule: str
    subject: str
    sample: int
    minimum: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The limit is passed: trading must stop."""

    rule: str
    subject: str
    measured: float
    limit: float
    detail: str
    cause_id: str


Outcome = Within | TooFew | Broken


@dataclass(frozen=True, slots=True)
class Health:
    """What one health message says that the rules need; `at_s` is when it arrived."""

    at_s: float
    id: str
    worker: str
    instance: str
    stopping: bool
    handled: int
    failed: int
    rpc_calls: int
    rpc_failures: int
    memory_ratio: float
    detail: str


@dataclass(frozen=True, slots=True)
class Pnl:
    """What the rules need of one P&L snapshot, or of several that follow each other closely.

    `at_s` and `first_executions` are the first one's, `peak_lamports` the highest net profit among them, the rest is
    the last one's.
    """

    at_s: float
    id: str
    first_executions: int
    executions: int
    peak_lamports: int
    net_profit_lamports: int
    starting_capital_lamports: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A result that the books do not have yet: its place in EXECUTED; `at_s` is when it was first seen there."""

    at_s: float
    id: str
    sequence: int


def error_ratio(worker: str, reports: Sequence[Health], *, limit: float, minimum: int) -> Outcome:
    """Measure handler errors over messages tried, between the first and the last report of the window."""
    failed = _grown(reports, [report.failed for report in reports])
    tried = failed + _grown(reports, [report.handled for report in reports])
    return _ratio(("error_ratio", worker), (failed, tried), "messages failed", reports, limit=limit, minimum=minimum)


def rpc_failures(worker: str, reports: Sequence[Health], *, limit: float, minimum: int) -> Outcome:
    """Measure failed RPC calls over RPC calls, between the first and the last report of the window."""
    failed = _grown(reports, [report.rpc_failures for report in reports])
    calls = _grown(reports, [report.rpc_calls for report in reports])
    return _ratio(("rpc_failures", worker), (failed, calls), "RPC calls failed", reports, limit=limit, minimum=minimum)


def memory(worker: str, reports: Sequence[Health], *, limit: float, minimum: int) -> Outcome:
    """Measure the lowest memory ratio of the window: a peak that passes does not count."""
    present = _same_instance(reports)
    if len(present) < minimum:
        return TooFew("memory", worker, len(present), minimum)
    lowest = min(report.memory_ratio for report in present)
    if lowest > limit:
        detail = f"{worker} held more than {lowest:.0%} of its memory in each of {len(present)} reports"
        return Broken("memory", worker, lowest, limit, detail, present[-1].id)
    return Within("memory", worker, lowest, limit)


def silent(
    worker: str, last: Health, reports: int, *, now_s: float, watching_since_s: float, limit: float, minimum: int
) -> Outcome:
    """Measure the seconds since a worker's last report.

    Time in which nobody was listening (`watching_since_s`) does not count, nor does silence that was announced.
    """
    silence = max(0.0, now_s - max(last.at_s, watching_since_s))
    if last.stopping:
        return Within("worker_silent", worker, 0.0, limit)
    if reports < minimum:
        return TooFew("worker_silent", worker, reports, minimum)
    if silence > limit:
        detail = f"{worker} ({last.instance}) has not reported for {silence:.1f} s"
        return Broken("worker_silent", worker, silence, limit, detail, last.id)
    return Within("worker_silent", worker, silence, limit)


def drawdown(snapshots: Sequence[Pnl], *, limit: float, minimum: int) -> Outcome:
    """Measure how far booked P&L stands below its peak in the window, over the starting capital."""
    if not snapshots:
        return TooFew("drawdown", "pnl", 0, minimum)
    last = snapshots[-1]
    executions = last.executions - snapshots[0].first_executions + 1
    if executions < minimum:
        return TooFew("drawdown", "pnl", executions, minimum)
    peak = max(snapshot.peak_lamports for snapshot in snapshots)
    fall = peak - last.net_profit_lamports
    capital = last.starting_capital_lamports
    # No capital to measure against, and a loss: the strictest reading.
    ratio = fall / capital if capital > 0 else (1.0 if fall > 0 else 0.0)
    if ratio > limit:
        detail = f"booked P&L is {fall} lamports under its peak, of {capital} starting capital"
        return Broken("drawdown", "pnl", ratio, limit, detail, last.id)
    return Within("drawdown", "pnl", ratio, limit)


def unbooked(
    worker: str,
    waiting: Sequence[Waiting],
    reports: Sequence[Health],
    *,
    looked_s: float,
    watching_since_s: float,
    limit: float,
) -> Outcome:
    """Measure the seconds that the oldest result had waited for the books, kept by `worker`, at the last look.

    Time in which nobody was listening (`watching_since_s`) does not count.
    """
    if not waiting:
        return Within("unbooked", worker, 0.0, limit)
    oldest = waiting[0]
    waited = max(0.0, looked_s - max(oldest.at_s, watching_since_s))
    if waited > limit:
        detail = f"results have waited {waited:.1f} s to be booked: {_said(worker, oldest.at_s, reports)}"
        return Broken("unbooked", worker, waited, limit, detail, oldest.id)
    return Within("unbooked", worker, waited, limit)


def _said(worker: str, since_s: float, reports: Sequence[Health]) -> str:
    """Return what a worker missed since then by its own words, however often it took heart in between."""
    since = [report for report in reports if report.at_s >= since_s]
    if not since:
        return f"{worker} has not reported meanwhile"
    missed = next((report.detail for report in reversed(since) if report.detail), "")
    return f"{worker}: {missed[:_WORDS]}" if missed else f"{worker} reports nothing amiss"


def _ratio(
    about: tuple[str, str],
    counts: tuple[int, int],
    words: str,
    reports: Sequence[Health],
    *,
    limit: float,
    minimum: int,
) -> Outcome:
    (rule, worker), (part, whole) = about, counts
    if whole < minimum:
        return TooFew(rule, worker, whole, minimum)
    measured = part / whole
    if measured > limit:
        return Broken(rule, worker, measured, limit, f"{worker}: {part} of {whole} {words}", reports[-1].id)
    return Within(rule, worker, measured, limit)


def _grown(reports: Sequence[Health], counts: Sequence[int]) -> int:
    """Return how much a counter grew over the window; a new process starts its counters at 0."""
    total = 0
    for (earlier, before), (later, after) in itertools.pairwise(zip(reports, counts, strict=True)):
        restarted = earlier.instance != later.instance or after < before
        total += after if restarted else after - before
    return total


def _same_instance(reports: Sequence[Health]) -> list[Health]:
    """Return the reports of the process that reported last."""
    return [report for report in reports if report.instance == reports[-1].instance]
