"""Wire the executor: plans and market data in, results out.

Market data is watched, not consumed: only the present state matters, and a restart reads it back from the stream.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Protocol, cast

from markets.paper import PaperVenue
from markets.venue import Venue
from pipeline.bus import Bus, Delivery, Stored
from pipeline.claims import Claims
from pipeline.context import WorkerContext
from pipeline.messages import ExecutionPlan, ExecutionResult, ExecutionSubmitted, Opportunity, PoolState, SlotUpdate
from pipeline.sections.trading import ExecutorSection
from workers.executor.chain import chain_venue
from workers.executor.execution import Execution, Ports

DURABLE = "executor"
_TICK_S = 1.0
# Inside this the server drops a repeat by its id; the stream's duplicate window is twice as long.
_SURELY_DEDUPLICATED_NS = 60_000_000_000


async def run(context: WorkerContext) -> None:
    """Execute plans until told to stop, then let what was begun land."""
    if context.config.executor.mode == "paper":
        venue = paper_venue(context.config.executor)
        await _serve(context, venue, venue)
        return
    async with chain_venue(context) as chain:

        def on_opportunity(opportunity: Opportunity, _delivery: Delivery) -> None:
            chain.expect(list(dict.fromkeys(leg.pool for leg in opportunity.legs)), opportunity.slot)

        # Its plan is a few milliseconds behind it, time enough to ask what its pools cost.
        await context.bus.watch("opportunity.found", on_opportunity)
        await _serve(context, chain, chain)


async def _serve(context: WorkerContext, venue: Venue, market: FollowsMarket) -> None:
    feed = MarketFeed(context.bus, market, context.log.warning)
    await feed.start()
    claims = await Claims.open(context.bus)

    async def stored(result: ExecutionResult, settled_ns: int) -> bool:
        if context.clock() - settled_ns < _SURELY_DEDUPLICATED_NS:
            return False  # not known, and harmless: the server drops a repeat
        return await in_stream(context.bus, result)

    def submitted(message: ExecutionSubmitted) -> None:
        # The result will name the transaction too; nobody waits for this one.
        told = asyncio.ensure_future(context.bus.publish(message))
        telling.add(told)
        told.add_done_callback(lambda done: _told(context, telling, done))

    telling: set[asyncio.Future[Stored]] = set()
    ports = Ports(
        claims=claims,
        gate=context.gate.check,
        publish=context.bus.publish,
        submitted=submitted,
        stored=stored,
        wall_ns=context.clock,
    )
    execution = Execution(venue, ports, producer=context.name, owner=owner(context.clock))

    def on_plan(plan: ExecutionPlan, delivery: Delivery) -> asyncio.Future[None]:
        return execution.take(plan, delivery.received_ns, again=delivery.attempt > 1)

    consumer = await context.bus.consume(
        "PLANNED",
        "planned.plan",
        durable=DURABLE,
        handler=on_plan,
        description="executor: claims each plan and executes it once",
        max_in_flight=context.config.executor.max_in_flight,
    )
    ticker = asyncio.create_task(_tick(market, feed))
    try:
        await context.stopping.wait()
        # Nothing new is begun; what is on its way may land.
        await consumer.stop(context.config.worker.drain_s)
    finally:
        ticker.cancel()


def paper_venue(settings: ExecutorSection) -> PaperVenue:
    """Return the venue of the mode "paper"."""
    return PaperVenue(
        landing_slots=settings.paper_landing_slots,
        seed=settings.paper_seed,
        drop_ratio=settings.paper_drop_ratio,
        landing_timeout_s=settings.landing_timeout_s,
    )


def _told(context: WorkerContext, telling: set[asyncio.Future[Stored]], told: asyncio.Future[Stored]) -> None:
    telling.discard(told)
    if not told.cancelled() and (error := told.exception()) is not None:
        context.log.warning("a submission could not be told", error=str(error))


def owner(clock: Callable[[], int]) -> str:
    """Return a name that no other process had or will have."""
    return f"{socket.gethostname()}:{os.getpid()}:{clock()}"


async def in_stream(bus: Bus, result: ExecutionResult) -> bool:
    """Tell whether a result stands in EXECUTED; asked only about a crash longer ago than the duplicate window."""
    async for message, _ in bus.read("EXECUTED", "executed.result"):
        if isinstance(message, ExecutionResult) and message.id == result.id:
            return True
    return False


class FollowsMarket(Protocol):
    """What of a venue follows the market."""

    def take_pool(self, state: PoolState) -> None:
        """Keep a pool's state until its slot is whole."""

    def take_slot(self, update: SlotUpdate) -> bool:
        """Go on to a slot; return False where a pool's state was missed."""

    def load(self, states: list[PoolState], update: SlotUpdate | None) -> None:
        """Take over states read from the stream."""

    def give_up(self) -> int:
        """Give up what no slot came for; return how many."""


class MarketFeed:
    """Keeps a venue's pools: what the stream holds first, then what is published."""

    def __init__(self, bus: Bus, venue: FollowsMarket, warn: Callable[..., object]) -> None:
        """Prepare; `start` subscribes."""
        self._bus = bus
        self._venue = venue
        self._warn = warn
        self._lacking = False
        self._loading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Watch first and read then, so that nothing falls in between."""
        await self._bus.watch("market_data.pool.*", self._on_pool)
        await self._bus.watch("market_data.pool_change.*", self._on_pool)
        await self._bus.watch("market_data.slot", self._on_slot)
        await self._load()

    def look(self) -> None:
        """Read the stream again if a state was missed, unless that is under way."""
        if self._lacking and (self._loading is None or self._loading.done()):
            self._warn("a pool state was missed; reading the stream again")
            self._loading = asyncio.create_task(self._load_again())

    async def _load_again(self) -> None:
        self._lacking = False
        try:
            await self._load()
        except Exception as error:
            self._lacking = True  # the next tick tries again
            self._warn("the market could not be read again", error=str(error))

    async def _load(self) -> None:
        # Changes before keyframes: a keyframe that comes in between then builds on nothing that we lack.
        states = [cast(PoolState, message) for _, message in await self._bus.last("market_data.pool_change.*")]
        states += [cast(PoolState, message) for _, message in await self._bus.last("market_data.pool.*")]
        slots = [cast(SlotUpdate, message) for _, message in await self._bus.last("market_data.slot")]
        self._venue.load(states, slots[-1] if slots else None)

    def _on_pool(self, state: PoolState, _delivery: Delivery) -> None:
        self._venue.take_pool(state)

    def _on_slot(self, update: SlotUpdate, _delivery: Delivery) -> None:
        if not self._venue.take_slot(update):
            self._lacking = True
            self.look()


async def _tick(venue: FollowsMarket, feed: MarketFeed) -> None:
    """Give up what no slot came for, and mend the pools where a state was missed."""
    while True:
        await asyncio.sleep(_TICK_S)
        venue.give_up()
        feed.look()
