"""Where routes are kept: hot in this process and in Redis where one is configured, for good in the SQL database.

Whoever quotes calls `remember` and goes on: it never waits, and neither a dead database nor a dead Redis is noticed
there. Each store has a task that writes in batches. What it could not take is tried again with growing waits; what does
not fit the bounded queue meanwhile is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from markets.routes import Route, RouteBook, RouteRefused
from pipeline.context import WorkerContext

MAX_PENDING = 8192
BATCH = 256
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 30.0
LAST_WRITE_S = 1.0


class StoreFailed(Exception):
    """A store did not take or give a route; the message says why, without addresses or passwords."""


class Store(Protocol):
    """A place that keeps routes by id."""

    name: str

    async def write(self, routes: Sequence[Route], now_ns: int) -> list[int]:
        """Keep routes; return the ids that another route already holds there, which were left as they are."""

    async def read(self, route_id: int) -> Route | None:
        """Return the route of an id, or None."""

    async def close(self) -> None:
        """Let go of connections; what is asked later connects again."""


@dataclass(slots=True)
class StoreFigures:
    """What happened to one store since the start."""

    written: int = 0
    failures: int = 0
    dropped: int = 0
    collisions: int = 0
    hits: int = 0
    misses: int = 0
    error: str = ""
    """Why it does not work now; empty while it does."""


class _Writer:
    """One store, its queue, and the task that empties it."""

    def __init__(self, store: Store, timeout_s: float, clock: Callable[[], int], log_error: Callable[[str], None]):
        self.store = store
        self.figures = StoreFigures()
        self.pending: dict[int, Route] = {}
        self.refused: dict[int, bytes] = {}
        self._timeout_s = timeout_s
        self._clock = clock
        self._log_error = log_error
        self._wake = asyncio.Event()

    def put(self, route_id: int, route: Route) -> None:
        if len(self.pending) >= MAX_PENDING:
            self.pending.pop(next(iter(self.pending)))
            self.figures.dropped += 1
        self.pending[route_id] = route
        self._wake.set()

    async def run(self) -> None:
        wait_s = FIRST_WAIT_S
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.pending:
                if await self.write(self._timeout_s):
                    wait_s = FIRST_WAIT_S
                else:
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, MAX_WAIT_S)

    async def write(self, timeout_s: float) -> bool:
        """Write one batch; tell whether the store took it."""
        batch = dict(list(self.pending.items())[:BATCH])
        try:
            async with asyncio.timeout(timeout_s):
                collided = await self.store.write(list(batch.values()), self._clock())
        except (StoreFailed, TimeoutError) as error:
            self.failed(error)
            return False
        self.figures.error = ""
        self.figures.written += len(batch) - len(collided)
        self.figures.collisions += len(collided)
        self.refused |= {route_id: batch[route_id].canonical for route_id in collided}
        for route_id in batch:
            self.pending.pop(route_id, None)
        return True

    async def close(self, within_s: float) -> None:
        deadline = asyncio.get_running_loop().time() + within_s
        while self.pending and (left := deadline - asyncio.get_running_loop().time()) > 0:
            if not await self.write(left):
                break
        await self.store.close()

    def failed(self, error: BaseException) -> None:
        self.figures.failures += 1
        words = str(error) or f"no answer within {self._timeout_s:g} s"
        if not self.figures.error:
            self._log_error(f"{self.store.name}: {words}")
        self.figures.error = words

    async def read(self, route_id: int) -> Route | None:
        if self.figures.error and self.pending:
            return None  # known to be down: the writer's attempts tell when it is back
        try:
            async with asyncio.timeout(self._timeout_s):
                route = await self.store.read(route_id)
        except (StoreFailed, TimeoutError) as error:
            self.failed(error)
            return None
        if not self.pending:
            self.figures.error = ""
        if route is None or route.route_id != route_id:  # the second: somebody wrote there what is not ours
            self.figures.misses += 1
            return None
        self.figures.hits += 1
        return route


class RouteStore:
    """Every route that quotes name, by id."""

    def __init__(
        self,
        stores: Sequence[Store],
        clock: Callable[[], int],
        *,
        capacity: int,
        timeout_s: float = 1.0,
        log_error: Callable[[str], None] = lambda _words: None,
    ) -> None:
        """Keep routes in these stores, asked in this order. `clock` is the wall clock in ns."""
        self.book = RouteBook(capacity)
        self._writers = [_Writer(store, timeout_s, clock, log_error) for store in stores]

    async def run(self) -> None:
        """Write what is remembered until cancelled; then once more, if the stores take it at once. May be run again."""
        try:
            async with asyncio.TaskGroup() as group:
                for writer in self._writers:
                    group.create_task(writer.run(), name=f"routes-{writer.store.name}")
        finally:
            for writer in self._writers:
                await writer.close(LAST_WRITE_S)

    def remember(self, route: Route) -> int:
        """Return the route's id; it is written where it is not yet. Never waits.

        Raises:
            RouteRefused: if the id belongs to another route; it is counted, and the quote goes without a route.
        """
        for writer in self._writers:
            # Empty but once in the life of a universe: a store holds another route under the id.
            if writer.refused and writer.refused.get(route.route_id) == route.canonical:
                self.book.forget(route.route_id)
                raise RouteRefused(f"route id {route.route_id:016x} belongs to another route in {writer.store.name}")
        route_id, new = self.book.add(route)
        if new:
            for writer in self._writers:
                writer.put(route_id, route)
        return route_id

    async def find(self, route_id: int) -> Route | None:
        """Return the route of an id from the first place that knows it; one that is too slow counts as not knowing."""
        route = self.book.get(route_id)
        if route is not None:
            return route
        for writer in self._writers:
            route = await writer.read(route_id)
            if route is not None:
                with contextlib.suppress(RouteRefused):
                    self.book.add(route)
                return route
        return None

    @property
    def collisions(self) -> int:
        """Return how many routes were refused because their id was taken."""
        return self.book.collisions + sum(writer.figures.collisions for writer in self._writers)

    def figures(self) -> Mapping[str, StoreFigures]:
        """Return what happened to each store."""
        return {writer.store.name: writer.figures for writer in self._writers}

    def pending(self) -> Mapping[str, int]:
        """Return how many routes each store has yet to take."""
        return {writer.store.name: len(writer.pending) for writer in self._writers}


def route_metrics(routes: RouteStore) -> Iterator[Metric]:
    """Yield the metrics of a store of routes."""
    book = routes.book
    yield GaugeMetricFamily("pipeline_routes_held", "Routes held in the process", value=len(book))
    yield CounterMetricFamily(
        "pipeline_routes_collisions", "Routes refused: their id is taken", value=routes.collisions
    )
    reads = CounterMetricFamily(
        "pipeline_routes_reads", "Routes looked up, by place and outcome", labels=["place", "found"]
    )
    for found, count in (("yes", book.hits), ("no", book.misses)):
        reads.add_metric(["process", found], count)
    written = CounterMetricFamily("pipeline_routes_written", "Routes written, by place", labels=["place"])
    failures = CounterMetricFamily("pipeline_routes_failures", "Failed calls, by place", labels=["place"])
    dropped = CounterMetricFamily("pipeline_routes_dropped", "Routes that a place never took", labels=["place"])
    pending = GaugeMetricFamily("pipeline_routes_pending", "Routes that a place has yet to take", labels=["place"])
    waiting = routes.pending()
    for place, figures in routes.figures().items():
        reads.add_metric([place, "yes"], figures.hits)
        reads.add_metric([place, "no"], figures.misses)
        written.add_metric([place], figures.written)
        failures.add_metric([place], figures.failures)
        dropped.add_metric([place], figures.dropped)
        pending.add_metric([place], waiting[place])
    yield from (reads, written, failures, dropped, pending)


def open_route_store(context: WorkerContext) -> RouteStore:
    """Return the store of routes that the configuration asks for; nothing is connected yet.

    Raises:
        UsageFailure: if Redis is configured, but its client is not installed or the address is none.
    """
    from workers.quote_core.route_places import open_places  # they are written against this module

    settings = context.config.routes
    store = RouteStore(
        open_places(context.config),
        context.clock,
        capacity=settings.hot,
        timeout_s=settings.timeout_ms / 1000,
        log_error=lambda words: context.log.warning("routes are not stored", error=words),
    )
    context.health.collectors.append(lambda: route_metrics(store))
    return store
