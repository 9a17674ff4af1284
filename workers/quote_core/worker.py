"""Wiring of the quote core: its parts, each of which may fail alone, in one process or spread over several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from markets.oracle.fair import FairValues, Limits
from markets.tokens import load_registry
from pipeline.context import WorkerContext
from pipeline.errors import Failure, Unreachable
from pipeline.messages import OraclePrice
from pipeline.sections.quoting import OracleSection
from pipeline.tasks import end_tasks
from workers.quote_core.aggregator import NS_PER_S, Aggregator, Changed, Terms
from workers.quote_core.book import Book
from workers.quote_core.external import ExternalPart, open_external
from workers.quote_core.local import StreamSource
from workers.quote_core.metrics import QuoteMetrics
from workers.quote_core.oracle import Account, OraclePart
from workers.quote_core.parts import Value, to_messages
from workers.quote_core.remote import RemoteSource
from workers.quote_core.route_store import RouteStore, open_route_store
from workers.quote_core.rpc_source import RpcSource
from workers.quote_core.served.parts import Served
from workers.quote_core.tables import Tables, open_tables
from workers.quote_core.telling import Teller

ROLES = ("local", "external", "aggregator")
"""Parts that may run in a process of their own, as `quote_core-local` and so on; without a role all of them run."""
HEARTBEAT_S = 0.25
AGE_S = 1.0
REPLAY_S = 60.0
"""A local part alone tells everything again this often: MARKET_DATA forgets after five minutes."""
RESTART_S = 0.2
RESTART_MAX_S = 10.0
STABLE_S = 2.0

Run = Callable[[], Coroutine[Any, Any, None]]


async def run(context: WorkerContext) -> None:
    """Run the parts of this process's role until told to stop."""
    role = context.name.partition("-")[2]
    core = QuoteCore(context, role)
    try:
        await core.run()
    finally:
        core.close()


class QuoteCore:
    """The parts of one process."""

    def __init__(self, context: WorkerContext, role: str) -> None:
        """Open what the role needs.

        Raises:
            Failure: if shared memory is written by another process, or cannot be made.
        """
        self.context = context
        self.role = role
        self.teller = Teller(context)
        self.registry = load_registry()
        self.tables: Tables | None = None
        self.routes: RouteStore | None = None
        self.aggregator: Aggregator | None = None
        self.source: StreamSource | RpcSource | RemoteSource | None = None
        self.external: ExternalPart | None = None
        self.oracle: OraclePart | None = None
        settings = context.config.quote_core
        self._parts: dict[str, Run] = {}
        if self._has("aggregator"):
            self.tables = open_tables(context.config, self.registry)
            self.routes = open_route_store(context)
            self.aggregator = self._new_aggregator()
            self._parts["aggregator"] = self._aggregate
            self._parts["routes"] = self.routes.run
        emit = self._take if self.aggregator is not None else self._publish
        if self._has("local"):
            pools = RpcSource if settings.source == "rpc" else StreamSource
            self._parts["local"] = lambda: self._run_source(pools(context, emit))
        elif self._has("aggregator"):
            self._parts["remote"] = lambda: self._run_source(RemoteSource(context, emit))
        if self._has("local"):
            self.oracle = OraclePart(context, emit, self._read_accounts if settings.source == "rpc" else None)
            if self.oracle.asks:
                self._parts["oracle"] = self.oracle.run
        if self._has("external"):
            self.external = open_external(context, emit)
            if self.external is not None:
                self._parts["external"] = self.external.run
        if self._has("aggregator"):
            self._parts |= self._serve()
        self.metrics = QuoteMetrics(self)
        context.health.collectors.append(self.metrics.collect)

    async def _read_accounts(self, addresses: Sequence[str]) -> Sequence[Account | None]:
        """Read accounts through the source's connection to the chain."""
        if not isinstance(self.source, RpcSource):
            raise Unreachable("the local part has not begun", "it is asked again")
        return await self.source.read_accounts(addresses)

    def _serve(self) -> dict[str, Run]:
        """Return the parts that serve quotes to others."""
        served = Served(self.context, lambda: self.aggregator, self.registry, self.routes)
        if self.external is not None:
            served.desk.ask_external = self.external.ask_now
        served.desk.freshen = lambda pool: isinstance(self.source, RpcSource) and self.source.request(pool)
        assert self.aggregator is not None
        self.aggregator.on_changed.append(served.on_changed)
        return dict(served.parts())

    async def run(self) -> None:
        """Run every part, each for itself, until told to stop."""
        tasks = [asyncio.create_task(self._keep(name, part), name=name) for name, part in self._parts.items()]
        try:
            await self.context.stopping.wait()
        finally:
            await end_tasks(tasks)

    def close(self) -> None:
        """Leave shared memory for the next writer."""
        if self.tables is not None:
            self.tables.close()

    def _has(self, part: str) -> bool:
        return self.role in ("", part)

    async def _keep(self, name: str, part: Run) -> None:
        """Run one part, and start it again when it fails; the others do not notice."""
        wait_s = RESTART_S
        health = self.context.health
        while True:
            task = asyncio.create_task(part(), name=name)
            try:
                await asyncio.wait([task], timeout=STABLE_S)
                if not task.done():
                    wait_s = RESTART_S
                    health.recovered(cause=name)
                await task
            except Failure as failure:
                health.degraded(f"{name}: {failure}", cause=name)
            except Exception as error:
                self.context.log.exception("a part failed", part=name)
                health.degraded(f"{name} failed: {error!r}", cause=name)
            finally:
                await end_tasks([task])
            await asyncio.sleep(wait_s)
            wait_s = min(RESTART_MAX_S, wait_s * 2)

    def _new_aggregator(self) -> Aggregator:
        settings = self.context.config.quote_core
        assert self.tables is not None
        assert self.routes is not None
        decimals = {token.mint: token.decimals for token in self.registry.tokens}
        aggregator = Aggregator(
            Book(FairValues(decimals, oracle_limits(self.context.config.oracle))),
            self.tables,
            Terms(
                rerate_ns=settings.rerate_ms * 1_000_000, external_max_age_ns=settings.external_max_age_ms * 1_000_000
            ),
            remember=self.routes.remember,
            refused=self.teller.refuse,
            accepted=self.teller.accept,
            wall_ns=self.context.clock,
        )
        if settings.publish_quotes:
            aggregator.on_changed.append(self._tell_best)
        return aggregator

    def _tell_best(self, changed: Changed) -> None:
        if self.aggregator is not None:
            amounts = self.context.config.quote_core.amounts
            self.teller.best(self.aggregator.book, changed.directions, amounts[len(amounts) // 2])

    def _take(self, value: Value) -> None:
        """Give a value to the aggregator of this process; one that fails is made anew and told everything again."""
        if self.aggregator is None:
            return
        try:
            self.aggregator.take(value)
        except Exception as error:
            self.context.log.exception("the aggregator failed, made anew")
            self.context.health.degraded(f"the aggregator failed: {error!r}", cause="aggregator")
            assert self.tables is not None
            self.tables.forget_external()  # nobody is asked for them again
            listeners = self.aggregator.on_changed
            self.aggregator = self._new_aggregator()
            self.aggregator.on_changed = listeners
            asyncio.get_running_loop().call_later(RESTART_S, self._replay)

    def _publish(self, value: Value) -> None:
        """Tell a value to the aggregator of another process."""
        # What came over the bus is there already.
        if isinstance(value, OraclePrice) and value.producer != self.context.name:
            return
        for message in to_messages(value, producer=self.context.name, now_ns=self.context.clock()):
            self.teller.send(message)

    async def _run_source(self, source: StreamSource | RpcSource | RemoteSource) -> None:
        self.source = source
        replaying = asyncio.create_task(self._replay_again(), name="replay") if self.role == "local" else None
        try:
            await source.run()
        finally:
            if replaying is not None:
                replaying.cancel()

    async def _replay_again(self) -> None:
        while True:
            await asyncio.sleep(REPLAY_S)
            self._replay()

    def _replay(self) -> None:
        if self.source is not None:
            self.source.replay()

    async def _aggregate(self) -> None:
        """Show the readers that the writer lives, and let the quotes grow old."""
        assert self.tables is not None
        loop = asyncio.get_running_loop()
        aged = loop.time()
        while True:
            self.tables.heartbeat()
            if loop.time() - aged >= AGE_S:
                aged = loop.time()
                if self.aggregator is not None:
                    self.aggregator.age()
                    self.context.health.recovered(cause="aggregator")
            await asyncio.sleep(HEARTBEAT_S)


def oracle_limits(settings: OracleSection) -> Limits:
    """Return how old and how uncertain an oracle's price may be."""
    return Limits(
        max_age_ns=int(settings.max_age_s * NS_PER_S),
        max_interval_bps=settings.max_interval_bps,
        rate_max_age_ns=int(settings.rate_max_age_s * NS_PER_S),
    )
