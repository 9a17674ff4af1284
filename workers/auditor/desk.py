"""The auditor's desk: takes batches of a stream, books them, and says what is wrong with them.

What is wrong is published before the booking is committed: after a crash in between it is said again under the same id,
and never forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from markets.tokens import load_registry
from pipeline.bus import Bus, Stored
from pipeline.ledger import Booked, Entry, Ledger, PlanEntry, Span, SubmissionEntry, unbookable
from pipeline.messages import (
    Anomaly,
    ExecutionPlan,
    ExecutionResult,
    ExecutionSubmitted,
    InvalidMessage,
    Message,
    Severity,
)
from pipeline.streams import STREAMS
from workers.auditor.findings import PLAN_EXECUTED_TWICE, RESULT_WITHOUT_PLAN, Finding, anomaly, examine, noticed
from workers.auditor.follow import Item
from workers.auditor.snapshot import snapshots
from workers.auditor.valuation import value_of

log = logging.getLogger(__name__)

T = TypeVar("T")
Bookable = TypeVar("Bookable", bound=Message)
PLANS = (ExecutionPlan,)
_PLANNED = next(spec for spec in STREAMS if spec.name == "PLANNED")
_SLACK_S = 600
"""A plan is so much older than its result at most, s."""
EXECUTIONS = (ExecutionResult, ExecutionSubmitted)
_LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.CRITICAL: logging.ERROR}


class Desk:
    """Books what the streams hold; one thread does all work on the database."""

    def __init__(
        self, bus: Bus, ledger: Ledger, *, producer: str, wall_ns: Callable[[], int], quiet: bool = False
    ) -> None:
        """`quiet` books and publishes nothing: a rebuild has nothing new to say."""
        self._bus = bus
        self._ledger = ledger
        self._producer = producer
        self._wall_ns = wall_ns
        self._quiet = quiet
        self.wallets: frozenset[str] = frozenset()
        """Whose histories are read; none where no chain is."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="books")

    async def close(self) -> None:
        """Finish the transaction under way and close the books."""
        await self.do(self._ledger.close)
        self._thread.shutdown()

    async def open(self) -> None:
        """Name the tokens, and publish where the books stand."""
        tokens = [(token.mint, token.symbol, token.decimals) for token in load_registry().tokens]
        await self.do(lambda: self._ledger.name_tokens(tokens))
        self.announce(await self.do(self._ledger.totals))

    async def stored(self, stream: str, created: str) -> int:
        """Return the position of a stream."""
        return await self.do(lambda: self._ledger.position(stream, created))

    async def book_results(self, items: list[Item], span: Span) -> None:
        """Book the results and submissions of one stretch of EXECUTED."""
        started = time.perf_counter_ns()
        found = await self._fit(items, EXECUTIONS, "auditor")
        entries = [Entry(at, message) for at, message in found if isinstance(message, ExecutionResult)]
        submitted = [SubmissionEntry(at, message) for at, message in found if isinstance(message, ExecutionSubmitted)]
        await self._report_findings([entry.result for entry in entries])
        booked = await self.do(lambda: self._ledger.book(entries, span, value_of, submitted))
        if booked.totals or entries:
            self.announce(booked)
        self._count(items, started)

    async def book_plans(self, items: list[Item], span: Span) -> None:
        """Book the plans of one stretch of PLANNED."""
        started = time.perf_counter_ns()
        entries = [
            PlanEntry(at, message)
            for at, message in await self._fit(items, PLANS, "auditor-plans")
            if isinstance(message, ExecutionPlan)
        ]
        await self.do(lambda: self._ledger.book_plans(entries, span))
        self._count(items, started)

    async def check_plans(self, grace_ns: int) -> None:
        """Report results that no plan turned up for; one so old that its plan may have left PLANNED says nothing."""
        now_ns = self._wall_ns()
        before, kept_since = now_ns - grace_ns, now_ns - (_PLANNED.max_age_s - _SLACK_S) * 1_000_000_000
        results = await self.do(lambda: self._ledger.unchecked(booked_before_ns=before))
        for found in results:
            if not found.plan_known and found.created_ns > kept_since:
                detail = f"no plan {found.plan_id} stands in PLANNED"
                finding = Finding(RESULT_WITHOUT_PLAN, Severity.CRITICAL, 0.0, 1.0, detail)
                await self._report([finding], found.result_id, found.opportunity_id)
        await self.do(lambda: self._ledger.mark_checked([found.result_id for found in results]))

    async def publish(self, made: Callable[..., Message]) -> None:
        """Publish the message that is made with `created_ns` and `producer`."""
        await self._bus.publish(made(created_ns=self._wall_ns(), producer=self._producer))

    async def tell_notices(self) -> None:
        """Publish what was found while booking, and note that it was; after a crash in between it is said again."""
        if self._quiet:
            return
        while found := await self.do(self._ledger.notices):
            for row in found:
                await self._raise(noticed(row, created_ns=self._wall_ns(), producer=self._producer))
            await self.do(lambda: self._ledger.mark_told([row["id"] for row in found]))

    async def _fit(
        self, items: Iterable[Item], kinds: tuple[type[Bookable], ...], consumer: str
    ) -> list[tuple[int, Bookable]]:
        """Return what can be booked, with its sequence; the rest is given up as dead letters."""
        fit: list[tuple[int, Bookable]] = []
        for item in items:
            message = item.message
            if isinstance(message, InvalidMessage):
                reason, detail = "invalid_message", str(message)
            elif not isinstance(message, kinds):
                reason, detail = "wrong_type", f"{type(message).__name__} on {item.subject}"
            elif problem := _problem(message):
                reason, detail = "handler_error", f"cannot be booked: {problem}"
            else:
                fit.append((item.sequence, message))
                continue
            if not self._quiet:
                await self._bus.dead_letter(
                    stream="PLANNED" if consumer == "auditor-plans" else "EXECUTED",
                    subject=item.subject,
                    sequence=item.sequence,
                    consumer=consumer,
                    reason=reason,
                    detail=detail,
                    attempts=1,
                    payload=item.payload,
                )
        return fit

    async def _report_findings(self, results: list[ExecutionResult]) -> None:
        if self._quiet:
            return
        by_plan = await self.do(lambda: self._ledger.results_of({result.plan_id for result in results}))
        for result in results:
            found = examine(result, self.wallets)
            ids = by_plan.setdefault(result.plan_id, set())
            ids.add(result.id)
            if len(ids) > 1:
                detail = f"plan {result.plan_id} has {len(ids)} results"
                found.append(Finding(PLAN_EXECUTED_TWICE, Severity.CRITICAL, float(len(ids)), 1.0, detail))
            await self._report(found, result.id, result.correlation_id)

    async def _report(self, findings: list[Finding], about: str, correlation_id: str) -> None:
        if self._quiet:
            return
        for finding in findings:
            await self._raise(
                anomaly(
                    finding,
                    about=about,
                    correlation_id=correlation_id,
                    created_ns=self._wall_ns(),
                    producer=self._producer,
                )
            )

    async def _raise(self, found: Anomaly) -> None:
        """Log and publish."""
        log.log(
            _LEVELS[Severity(found.severity)], "anomaly %s: %s (about %s)", found.rule, found.detail, found.causation_id
        )
        await self._bus.publish(found)

    def announce(self, booked: Booked) -> None:
        """Publish where the books stand; a snapshot that gets lost is followed by the next one."""
        if self._quiet:
            return
        cause = booked.results[-1].id if booked.results else ""
        for message in snapshots(booked, cause=cause, created_ns=self._wall_ns(), producer=self._producer):
            self._bus.publish_soon(message).add_done_callback(_look)

    def _count(self, items: list[Item], started: int) -> None:
        """Count for the health message what a consumer of the bus would count by itself."""
        counters = self._bus.counters
        counters.received += len(items)
        counters.handled += len(items)
        if items:
            counters.latencies_ns.append(time.perf_counter_ns() - started)

    async def do(self, work: Callable[[], T]) -> T:
        """Work on the database, in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _problem(message: Message) -> str | None:
    assert isinstance(message, ExecutionResult | ExecutionSubmitted | ExecutionPlan)
    return unbookable(message)


def _look(future: asyncio.Future[Stored]) -> None:
    """Look at the outcome, so that a lost snapshot is no unhandled error."""
    if not future.cancelled():
        future.exception()
