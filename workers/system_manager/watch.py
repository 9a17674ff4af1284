"""What the system manager remembers of METRICS, in bounded windows, for the rules to look at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.messages import PnlSnapshot, WorkerHealth, WorkerState
from workers.system_manager import rules
from workers.system_manager.rules import Broken, Health, Outcome, Pnl, Waiting

if TYPE_CHECKING:
    from pipeline.sections import RulesSection
    from workers.system_manager.books import Books

__all__ = ["Watch"]

# Who keeps the books.
_BOOKS = "auditor"
_MAX_WORKERS = 256
_MAX_REPORTS = 4096
_MAX_WAITING = 4096
# Snapshots closer together than this part of the drawdown's window are kept as one.
_SNAPSHOTS_PER_WINDOW = 4096
# A worker that said it was stopping, or fell silent so long ago, is forgotten.
_FORGET_S = 3600.0


@dataclass(slots=True)
class _Worker:
    reports: deque[Health] = field(default_factory=lambda: deque(maxlen=_MAX_REPORTS))
    last: Health | None = None
    count: int = 0


class Watch:
    """Windows over what was observed. Times are seconds of one clock, given by the caller."""

    def __init__(self, settings: RulesSection, now_s: float) -> None:
        """Start with nothing seen."""
        self._settings = settings
        self._workers: dict[str, _Worker] = {}
        self._pnl: deque[Pnl] = deque()
        self._waiting: deque[Waiting] = deque(maxlen=_MAX_WAITING)
        self._newest: int | None = None
        self._looked_s = now_s
        self._listening_since_s = now_s

    def health(self, message: WorkerHealth, now_s: float) -> None:
        """Take a health message."""
        worker = self._workers.get(message.worker)
        if worker is None:
            if len(self._workers) >= _MAX_WORKERS:
                return
            worker = self._workers[message.worker] = _Worker()
        report = Health(
            at_s=now_s,
            id=message.id,
            worker=message.worker,
            instance=message.instance,
            stopping=message.state in (WorkerState.DRAINING, WorkerState.STOPPED),
            handled=message.handled,
            failed=message.failed,
            rpc_calls=message.rpc_calls,
            rpc_failures=message.rpc_failures,
            memory_ratio=message.memory_ratio,
            detail=message.detail,
        )
        # Two instances under one name (a dying one and its successor) both count as the worker speaking.
        worker.reports.append(report)
        worker.last = report
        worker.count += 1

    def pnl(self, message: PnlSnapshot, at_s: float) -> None:
        """Take a P&L snapshot, in the order they were booked; an older one that comes late is left out."""
        last = self._pnl[-1] if self._pnl else None
        if last is not None and message.executions < last.executions:
            return
        first, peak, first_executions = at_s, message.net_profit_lamports, message.executions
        if last is not None and at_s - last.at_s < self._settings.drawdown_window_s / _SNAPSHOTS_PER_WINDOW:
            self._pnl.pop()
            first, peak, first_executions = last.at_s, max(peak, last.peak_lamports), last.first_executions
        self._pnl.append(
            Pnl(
                at_s=first,
                id=message.id,
                first_executions=first_executions,
                executions=message.executions,
                peak_lamports=peak,
                net_profit_lamports=message.net_profit_lamports,
                starting_capital_lamports=message.starting_capital_lamports,
            )
        )

    def books(self, look: Books, now_s: float) -> None:
        """Take a look at the books."""
        self._looked_s = now_s
        if self._newest is None:
            self._newest = look.newest  # what stood there before is not waited for
        elif 0 < look.newest < self._newest:
            self._waiting.clear()  # another stream, under the same name
            self._newest = look.newest
        elif look.newest > self._newest:
            self._waiting.append(Waiting(now_s, look.result_id, look.newest))
            self._newest = look.newest
        while self._waiting and self._waiting[0].sequence <= look.booked:
            self._waiting.popleft()

    def restart(self, now_s: float) -> None:
        """Begin all windows anew: after a resume, which accepts what was, and after a time of not listening."""
        limit_s = self._settings.silent_s
        for name, worker in list(self._workers.items()):
            worker.reports.clear()
            if worker.last is None or now_s - worker.last.at_s > limit_s:
                del self._workers[name]  # it counts again once it speaks
        if self._pnl:
            last = self._pnl[-1]
            self._pnl.clear()
            present = last.net_profit_lamports
            self._pnl.append(replace(last, first_executions=last.executions, peak_lamports=present))
        self._waiting.clear()
        self._listening_since_s = now_s

    def deaf(self, now_s: float) -> None:
        """Take note that nothing could be heard until now: silence up to here is ours, not the workers'."""
        self._listening_since_s = now_s

    def outcomes(self, now_s: float, wall_s: float) -> Iterator[Outcome]:
        """Yield every rule's outcome for every worker, at `now_s`; P&L ages are measured at `wall_s`."""
        settings = self._settings
        self._forget(now_s, wall_s)
        for name, worker in self._workers.items():
            yield rules.error_ratio(
                name,
                _since(worker.reports, now_s - settings.error_window_s),
                limit=settings.error_ratio,
                minimum=settings.error_min_messages,
            )
            yield rules.rpc_failures(
                name,
                _since(worker.reports, now_s - settings.rpc_window_s),
                limit=settings.rpc_failure_ratio,
                minimum=settings.rpc_min_calls,
            )
            yield rules.memory(
                name,
                _since(worker.reports, now_s - settings.memory_window_s),
                limit=settings.memory_ratio,
                minimum=settings.memory_min_reports,
            )
            if worker.last is not None:
                yield rules.silent(
                    name,
                    worker.last,
                    worker.count,
                    now_s=now_s,
                    watching_since_s=self._listening_since_s,
                    limit=settings.silent_s,
                    minimum=settings.silent_min_reports,
                )
        yield rules.drawdown(self._pnl, limit=settings.drawdown_ratio, minimum=settings.drawdown_min_executions)
        keeper = self._workers.get(_BOOKS)
        yield rules.unbooked(
            _BOOKS,
            self._waiting,
            keeper.reports if keeper is not None else (),
            looked_s=self._looked_s,
            watching_since_s=self._listening_since_s,
            limit=settings.unbooked_s,
        )

    def broken(self, now_s: float, wall_s: float) -> list[Broken]:
        """Return the rules that say halt."""
        return [outcome for outcome in self.outcomes(now_s, wall_s) if isinstance(outcome, Broken)]

    def _forget(self, now_s: float, wall_s: float) -> None:
        settings = self._settings
        longest = max(settings.error_window_s, settings.rpc_window_s, settings.memory_window_s, settings.unbooked_s)
        for name in [name for name, worker in self._workers.items() if _gone(worker, now_s)]:
            del self._workers[name]
        for worker in self._workers.values():
            while worker.reports and worker.reports[0].at_s < now_s - longest:
                worker.reports.popleft()
        # The last snapshot stays: it is where booked P&L stands.
        while len(self._pnl) > 1 and self._pnl[0].at_s < wall_s - settings.drawdown_window_s:
            self._pnl.popleft()


def _since(reports: deque[Health], start_s: float) -> list[Health]:
    return [report for report in reports if report.at_s >= start_s]


def _gone(worker: _Worker, now_s: float) -> bool:
    if worker.last is None:
        return True
    age = now_s - worker.last.at_s
    return age > _FORGET_S or (worker.last.stopping and age > 60.0)
