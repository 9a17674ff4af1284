"""Wiring of the scanner: changes in shared memory in; opportunities and scan reports out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from markets.confidence import Factors, of_cycle
from markets.costs import Costs, transaction_costs
from markets.tokens import load_registry
from pipeline._core import Pool, PoolRefused
from pipeline.bus import Stored
from pipeline.bus.errors import PublishFailed
from pipeline.clock import NS_PER_MS
from pipeline.config import Config
from pipeline.context import WorkerContext
from pipeline.ids import deterministic_id
from pipeline.messages import ConfidenceBand, Opportunity, ScanReport
from pipeline.sections import ScannerSection
from pipeline.shm import SharedMemoryError, SharedMemoryMissing, Watch
from workers.scanner.confidence import Swapped, leg_factors
from workers.scanner.finder import Finder, Found
from workers.scanner.metrics import scanner_metrics
from workers.scanner.opportunity import Describer, Moment, slot_id
from workers.scanner.shared import SharedQuotes

if TYPE_CHECKING:
    from prometheus_client.core import Metric

REPORTS_WAITING = 256
"""Scans whose opportunities are on their way to the stream; beyond that the search waits for the server."""
REPORT_GATHER_S = 0.004
"""Scans of one slot that come within this share a report, and its sync on the server's disk."""
LOOK_S = 0.2
"""How often a scanner that nothing wakes looks whether the quote core still lives, and whether to stop."""
OPEN_AGAIN_S = 0.05
SETTLED_S = 2.0
"""A table that is opened while a slot is being written is not read before its commit, or before so long."""
PUBLISH_AGAIN_S = 0.2


async def run(context: WorkerContext) -> None:
    """Search after every commit of the quote core until told to stop."""
    scanner = Scanner(context)
    reporting = asyncio.create_task(scanner.report())
    try:
        while not context.stopping.is_set():
            shared = await scanner.open()
            if shared is not None:
                await scanner.scan_until_replaced(shared)
    finally:
        reporting.cancel()


@dataclass(frozen=True, slots=True)
class Scan:
    """What one search found, before it is published."""

    moment: Moment
    found: list[Found]
    pools_changed: int
    examined: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A scan whose opportunities are on their way to the stream."""

    scan: Scan
    publishes: list[tuple[Opportunity, asyncio.Future[Stored]]]
    laps: int
    skipped: int


class Scanner:
    """The search and everything it needs from outside."""

    def __init__(self, context: WorkerContext) -> None:
        """Read the settings; shared memory is opened later."""
        settings = context.config.scanner
        self.context = context
        self._limits = cycle_limits(context.config)
        self._costs = partial(cycle_costs, settings, context.config.tip.min_lamports)
        self.finder = Finder(self._costs, self._limits)
        self.describer = Describer(settings.expires_ms * NS_PER_MS)
        self.laps = 0
        self.left_out = 0
        self.unsized = 0
        self.bands = dict.fromkeys(ConfidenceBand, 0)
        self.shared: SharedQuotes | None = None
        context.health.collectors.append(self.collect)
        self._sent: asyncio.Queue[Sent] = asyncio.Queue(REPORTS_WAITING)

    async def open(self) -> SharedQuotes | None:
        """Open shared memory as soon as it is there; None when told to stop before."""
        while not self.context.stopping.is_set():
            try:
                shared = SharedQuotes(self.context.config.shm_directory)
            except SharedMemoryMissing as error:
                self.context.health.degraded(f"no quotes yet: {error}", cause="quotes")
            except SharedMemoryError as error:
                self.context.health.degraded(f"quotes cannot be read: {error}", cause="quotes")
            else:
                self.finder = Finder(self._costs, self._limits)
                self.shared = shared
                return shared
            await asyncio.sleep(OPEN_AGAIN_S)
        return None

    async def scan_until_replaced(self, shared: SharedQuotes) -> None:
        """Scan whenever the quote core has committed, until told to stop or its files are others."""
        loop = asyncio.get_running_loop()
        opened = loop.time()
        watch = Watch(shared.table)
        try:
            due = True  # what stands there already has not been looked at
            first = True
            while not self.context.stopping.is_set() and not shared.replaced:
                if not shared.alive:
                    self.context.health.degraded("the quote core is silent: nothing is emitted", cause="quotes")
                elif first and not shared.settled and loop.time() - opened < SETTLED_S:
                    pass  # half a slot is not searched; its commit wakes this loop
                else:
                    self.context.health.recovered(cause="quotes")
                    if due:
                        first = due = False
                        await self._handle(shared)
                # A commit that a silent quote core kept from being handled is still due when it speaks again.
                due = await watch.wait(LOOK_S) or due
        finally:
            watch.close()

    async def _handle(self, shared: SharedQuotes) -> None:
        """Search and publish; for the health message a commit counts as the message that it is."""
        counters = self.context.bus.counters
        counters.received += 1
        scan = self.scan(shared)
        counters.latencies_ns.append(scan.duration_ns)
        await self._sent.put(self._send(scan, shared))
        counters.handled += 1

    def scan(self, shared: SharedQuotes) -> Scan:
        """Read what changed and search the cycles through it."""
        started = time.perf_counter_ns()
        slot, market_ns = shared.table.slot, shared.table.market_ns
        changed = shared.changed()
        wanted = shared.all_pools() if changed is None else changed
        for pool_id in wanted:
            self._refresh(shared, pool_id)
        found = self.finder.search(changed)
        self.unsized += self.finder.left_out
        moment = Moment(slot, market_ns, self.context.clock(), self.context.name)
        return Scan(moment, found, len(wanted), self.finder.examined, time.perf_counter_ns() - started)

    def collect(self) -> Iterator[Metric]:
        """Yield the scanner's Prometheus metrics."""
        return scanner_metrics(self.bands, self.left_out, self.unsized, self.laps, self.shared)

    def _refresh(self, shared: SharedQuotes, pool_id: int) -> None:
        blob = shared.snapshot(pool_id)
        if blob is None:
            self.finder.drop(pool_id)
            return
        try:
            pool = Pool.from_snapshot(blob.data)
        except PoolRefused as refusal:
            self.context.log.warning("snapshot refused", pool_id=pool_id, reason=str(refusal))
            self.finder.drop(pool_id)
        else:
            self.finder.put(pool_id, pool, blob.observed_ns)

    def _send(self, scan: Scan, shared: SharedQuotes) -> Sent:
        """Send what was found, the best first; the next change does not wait for the server."""
        settings = self.context.config.scanner
        chosen, skipped = self._choose(scan, shared) if settings.enabled else ([], 0)
        if shared.laps != self.laps:
            self.laps = shared.laps
            self.context.log.warning("lapped by the quote core, scanned everything", laps=self.laps)
        publishes = [(opportunity, self._publish_soon(opportunity)) for opportunity in chosen]
        return Sent(scan, publishes, self.laps, skipped)

    def _choose(self, scan: Scan, shared: SharedQuotes) -> tuple[list[Opportunity], int]:
        """Return what is worth publishing, the best first, and how many were skipped for want of confidence."""
        most = self.context.config.scanner.max_opportunities
        chosen: list[Opportunity] = []
        skipped = 0
        for place, found in enumerate(scan.found):
            if len(chosen) == most:
                self.left_out += len(scan.found) - place
                self.context.log.warning(
                    "more found than is published for one slot", slot=scan.moment.slot, left_out=self.left_out
                )
                break
            opportunity = self.describer.opportunity(found, cycle_factors(found, shared, scan.moment), scan.moment)
            self.bands[ConfidenceBand(opportunity.band)] += 1
            if opportunity.band == ConfidenceBand.SKIP:
                skipped += 1
            else:
                chosen.append(opportunity)
        return chosen, skipped

    async def report(self) -> None:
        """Publish, scan after scan, how many opportunities are in the stream; scans of one slot share a report."""
        following: Sent | None = None
        while True:
            batch = [following or await self._sent.get()]
            following = None
            await asyncio.sleep(REPORT_GATHER_S)
            while not self._sent.empty():
                following = self._sent.get_nowait()
                if following.scan.moment.slot != batch[0].scan.moment.slot:
                    break
                batch.append(following)
                following = None
            await self._report(batch)

    async def _report(self, batch: list[Sent]) -> None:
        stored = 0
        for sent in batch:
            stored += await self._stored(sent)
        moment = batch[-1].scan.moment
        report = ScanReport(
            id=deterministic_id("scan", moment.slot, moment.market_ns, stored),
            correlation_id="",
            causation_id=slot_id(moment.slot, moment.market_ns),
            created_ns=self.context.clock(),
            producer=self.context.name,
            slot=moment.slot,
            pools_changed=sum(sent.scan.pools_changed for sent in batch),
            cycles_examined=sum(sent.scan.examined for sent in batch),
            opportunities=stored,
            duration_ns=max(sent.scan.duration_ns for sent in batch),
            laps=batch[-1].laps,
            skipped=sum(sent.skipped for sent in batch),
        )
        await self._until_stored(report)

    async def _stored(self, sent: Sent) -> int:
        """Return how many opportunities of a scan are new to the stream, once all are in it.

        One that the stream already has (found again after a restart) is not counted: nobody answers it twice.
        """
        stored = 0
        for opportunity, future in sent.publishes:
            try:
                stored += not (await future).duplicate
            except PublishFailed:
                stored += await self._until_stored(opportunity)
        return stored

    def _publish_soon(self, opportunity: Opportunity) -> asyncio.Future[Stored]:
        """Publish now; where that is not possible the returned future says why."""
        try:
            return self.context.bus.publish_soon(opportunity)
        except PublishFailed as error:
            refused: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return refused

    async def _until_stored(self, message: Opportunity | ScanReport) -> bool:
        """Publish until it is stored, or this worker is to stop; tell whether it is new to the stream."""
        while not self.context.stopping.is_set():
            try:
                stored = await self.context.bus.publish(message)
            except PublishFailed as error:
                self.context.health.degraded(f"not stored: {error}", cause="publish")
                await asyncio.sleep(PUBLISH_AGAIN_S)
            else:
                self.context.health.recovered(cause="publish")
                return not stored.duplicate
        return False


def cycle_factors(found: Found, shared: SharedQuotes, moment: Moment) -> Factors:
    """Return the confidence factors of a cycle: the worst of its legs."""
    legs = []
    for leg, held in zip(found.candidate.legs, found.pools, strict=True):
        token_in = held.pool.token_a if leg.a_to_b else held.pool.token_b
        swapped = Swapped(leg.amount_in, leg.amount_out, leg.price_impact_bps)
        legs.append(leg_factors(swapped, shared.quotes(leg.pool_id, token_in), moment.market_ns))
    return of_cycle(legs)


def cycle_costs(settings: ScannerSection, tip_lamports: int, legs: int) -> Costs:
    """Return what the transaction of a cycle of so many swaps costs, with the least tip: the planner sizes it."""
    return transaction_costs(
        lamports_per_signature=settings.lamports_per_signature,
        signatures=settings.signatures,
        compute_units=settings.compute_units + legs * settings.compute_units_per_swap,
        micro_lamports_per_unit=settings.micro_lamports_per_unit,
        tip_lamports=tip_lamports,
    )


def cycle_limits(config: Config) -> dict[str, int]:
    """Return the tokens that cycles start and end in, with the largest amount the planner would take of each."""
    registry = load_registry()
    limits = {"SOL": config.planner.sol.max_amount_in, "USDC": config.planner.usdc.max_amount_in}
    return {registry.by_symbol[symbol].mint: limits[symbol] for symbol in config.scanner.settlement}
