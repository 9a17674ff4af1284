"""Wiring of the offline market: advances the world in lockstep with the workers, and tells its pools on MARKET_DATA."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from localnet.barrier import Barrier
from localnet.market import Engine, offline_engine
from localnet.oracle import Oracle
from localnet.publication import HeldState, Publication
from localnet.recorded import load_recorded
from localnet.served import ServedChain
from localnet.world import Advance, World, begin, resume
from markets.tokens import load_registry
from pipeline._core import Pool
from pipeline.bus import Stored
from pipeline.bus.errors import PublishFailed
from pipeline.clock import NS_PER_MS
from pipeline.context import WorkerContext
from pipeline.errors import Failure
from pipeline.messages import (
    ExecutionPlan,
    ExecutionResult,
    InvalidMessage,
    Message,
    Opportunity,
    OraclePrice,
    PlanRefusal,
    PoolState,
    ScanReport,
    SlotUpdate,
)

LISTENED = ("opportunity.>", "planned.>", "executed.>", "metrics.scan")
KEPT = ("metrics.scan", "opportunity.>", "planned.>", "executed.>")
"""Subjects on the server's disk that say how far an earlier market came."""
CATCH_UP_S = 0.5
"""A slot that is not settled by then: perhaps a message was missed; read the streams."""
HISTORY = 512
CLOSING_SHARE = 0.8
"""Of the time to drain, so much may pass until everything is settled."""
LAST_WORDS_S = 1.0
"""While stopping, workers that have not settled a slot by then are taken to be gone."""
AGAIN_S = 0.2


async def run(context: WorkerContext) -> None:
    """Run the market until it has closed, by itself or because it was told to stop, and everything is settled."""
    market = Market(context)
    for subject in LISTENED:
        await context.bus.watch(subject, market.on_message)
    await market.open()
    try:
        await market.serve()
        await trade(market)
    finally:
        if market.served is not None:
            await market.served.stop()


async def trade(market: Market) -> None:
    """Go on from slot to slot until the market has closed."""
    context = market.context
    while not market.over:
        await market.settle()
        if not market.finished:
            await market.next_slot()
            continue
        context.log.info("the market has closed and everything is settled", slot=market.world.slot)
        await context.stopping.wait()
        return


class Market:
    """The world, what the workers say about it, and the clock that paces it."""

    def __init__(self, context: WorkerContext) -> None:
        """Prepare the engine; the world is opened later."""
        self.context = context
        settings = context.config.market
        self.settings = settings
        self.engine, self.pools, self.base_slot = _source(context)
        self.world: World = begin(self.engine, self.pools, first_slot=self.base_slot + 1, slot_ms=settings.slot_ms)
        self.publication = Publication(context.name)
        # Recorded pools are of a day whose prices nobody tells.
        self.oracle = Oracle(settings.seed, load_registry(), context.name) if settings.source == "offline" else None
        self.barrier = Barrier(context.config.executor.paper_landing_slots)
        self.served: ServedChain | None = None
        self.publishes = context.config.localnet.publish
        self.differing = 0
        self._heard = asyncio.Event()
        self._reported = False
        self._deserted = False
        self._ends: float | None = None
        self._reconnects = 0
        self._paced_from = 0.0
        # Staggered, so that no slot carries them all.
        self._keyframe_slots = max(1, round(settings.keyframe_s * 1000 / settings.slot_ms))

    @property
    def finished(self) -> bool:
        """Tell whether the market is closed and nothing is under way any more."""
        return self.world.closing and (self.barrier.idle or not self.publishes)

    @property
    def over(self) -> bool:
        """Tell whether a market that was told to stop has no time left to settle, or nobody to settle with."""
        if not self.context.stopping.is_set():
            return False
        now = asyncio.get_running_loop().time()
        if self._ends is None:
            self._ends = now + self.context.config.worker.drain_s * CLOSING_SHARE
        return self._deserted or now >= self._ends

    # What the workers say

    def on_message(self, message: Message, _delivery: object) -> None:
        """Take note of what the lockstep waits for."""
        match message:
            case ScanReport():
                self._reported = True
                self.barrier.report(message.slot, message.opportunities)
            case Opportunity():
                self.barrier.opportunity(message.id, message.slot)
            case PlanRefusal():
                self.barrier.refusal(message.correlation_id)
            case ExecutionPlan():
                self.barrier.plan(message.id, message.correlation_id, message.slot)
            case ExecutionResult():
                self.barrier.result(message.plan_id)
                self.world.result(message)
            case _:
                return
        self._heard.set()

    async def _catch_up(self, *, resuming: bool = False) -> None:
        """Read again what the workers said lately: perhaps a message was missed, or came before this process began."""
        bus, since = self.context.bus, self.world.slot - 1
        for stream, subject, count in (
            ("OPPORTUNITIES", "opportunity.>", HISTORY),
            ("PLANNED", "planned.>", HISTORY),
            ("EXECUTED", "executed.>", HISTORY),
            ("METRICS", "metrics.scan", 4),
        ):
            async for message, delivery in bus.read(stream, subject, last=count):
                if isinstance(message, InvalidMessage) or getattr(message, "slot", -1) < since:
                    continue
                if resuming and isinstance(message, ExecutionResult):
                    self.world.result(message, applied=message.slot < self.world.slot)
                self.on_message(message, delivery)

    # The world

    async def open(self) -> None:
        """Take the market up where it was left, or begin a new one."""
        bus = self.context.bus
        if not self.publishes:
            # What stands on MARKET_DATA is what the quote core read of an earlier chain.
            await self._begin_after([])
            return
        changes = await bus.last("market_data.pool_change.>")
        keyframes = await bus.last("market_data.pool.>")
        slots = [message for _, message in await bus.last("market_data.slot") if isinstance(message, SlotUpdate)]
        states = [message for _, message in [*keyframes, *changes] if isinstance(message, PoolState)]
        resumed = None
        if slots:
            resumed = resume(self.engine, self.pools, states, slots[0], slot_ms=self.settings.slot_ms)
            if resumed is not None:
                # One that was only told to stop trades again.
                resumed.closing = bool(self.settings.slots) and resumed.slot > self.base_slot + self.settings.slots
        if resumed is not None:
            self.world = resumed
            for state in states:
                if state.complete:
                    self.publication.resume(state)
            self.barrier.begin(resumed.slot)
            await self._catch_up(resuming=True)
            self.context.log.info("market resumed", slot=resumed.slot, pools=len(resumed.pools))
            return
        if states or slots:
            await bus.js.purge_stream("MARKET_DATA")
        await self._begin_after(slots)

    async def serve(self) -> None:
        """Serve the world as a chain, where that is wanted."""
        section = self.context.config.localnet
        if section.rpc_nodes:
            self.served = ServedChain(section, load_registry(), self.world)
            self.context.log.info("simulated nodes", addresses=await self.served.start())

    async def _begin_after(self, slots: Sequence[SlotUpdate]) -> None:
        """Begin a new market.

        One that repeats the slots of an earlier one has the same ids, and is taken for a repeat: begin after it.
        """
        bus = self.context.bus
        known = [message for subject in KEPT for _, message in await bus.last(subject)]
        after = max(self.base_slot, *(int(getattr(message, "slot", 0)) for message in [*slots, *known]), 0)
        self.base_slot = after
        self.world = begin(self.engine, self.pools, first_slot=after + 1, slot_ms=self.settings.slot_ms)
        self.context.log.info("market begins", slot=after + 1, pools=len(self.pools), source=self.settings.source)
        await self.next_slot()

    async def next_slot(self) -> None:
        """Advance the world by one slot and publish it."""
        await self._pace()
        # After a new connection the server may be another one, whose memory holds no keyframes.
        reconnects = self.context.bus.counters.reconnects
        everything = not self.publication.begun or reconnects != self._reconnects
        self._reconnects = reconnects
        slots = self.settings.slots
        traded_enough = bool(slots) and self.world.slot >= self.base_slot + slots
        advance = self.world.advance(last=traded_enough or self.context.stopping.is_set())
        if advance.differing:
            self.differing += len(advance.differing)
            self.context.log.warning(
                "fills came out otherwise than reported", slot=advance.slot, fills=len(advance.differing)
            )
        self.barrier.begin(advance.slot)
        if self.served is not None:
            self.served.tell(self.world, advance.changed)
        if self.publishes:
            await self._publish(advance, everything=everything)
        elif Oracle.changes(advance.slot):
            # The chain has no oracle's accounts.
            await self._store([*self._prices(self.context.clock())])

    async def _publish(self, advance: Advance, *, everything: bool) -> None:
        now = self.context.clock()
        changed = {held.pool.address for held in advance.changed}
        states: list[PoolState] = []
        for position, (address, held) in enumerate(sorted(self.world.pools.items())):
            if everything or (advance.slot + position) % self._keyframe_slots == 0:
                states.append(self.publication.keyframe(held, now))
            elif address in changed:
                states.append(self.publication.change(held, now))
        count = sum(state.slot == advance.slot for state in states)
        prices = self._prices(now) if everything or Oracle.changes(advance.slot) else []
        await self._store([*states, *prices, self._update(now, count)])

    async def _store(self, messages: list[PoolState | OraclePrice | SlotUpdate]) -> None:
        """Publish in order until all is stored: a slot is never left out."""
        bus = self.context.bus
        while not self.over:
            futures: list[asyncio.Future[Stored]] = []
            try:
                for message in messages:
                    if bus.pending_publishes >= self.context.config.nats.max_pending:
                        await futures[-1]
                    futures.append(bus.publish_soon(message))
                await asyncio.gather(*futures)
            except PublishFailed as error:
                await asyncio.gather(*futures, return_exceptions=True)
                self.context.health.degraded(f"pool states are not stored: {error}", cause="publish")
                await asyncio.sleep(AGAIN_S)
            else:
                self.context.health.recovered(cause="publish")
                return

    async def _tell_again(self) -> None:
        """Publish the present state anew where the server has lost it: MARKET_DATA lives in its memory."""
        bus = self.context.bus
        slots = await bus.last("market_data.slot")
        if any(isinstance(message, SlotUpdate) and message.slot == self.world.slot for _, message in slots):
            return
        self.context.log.warning("the server has lost MARKET_DATA, telling all pools again", slot=self.world.slot)
        now = self.context.clock()
        states: list[HeldState] = [held for _, held in sorted(self.world.pools.items())]
        keyframes = [self.publication.keyframe(held, now) for held in states]
        count = sum(held.slot == self.world.slot for held in states)
        await self._store([*keyframes, *self._prices(now), self._update(now, count)])

    def _prices(self, now: int) -> list[OraclePrice]:
        world = self.world
        if self.oracle is None:
            return []
        return self.oracle.prices(world.id, world.slot, world.market_ns, world.slot_ns, now)

    def _update(self, now: int, count: int) -> SlotUpdate:
        world = self.world
        return self.publication.slot(
            world.slot, world.market_ns, now, market=world.id, pools_changed=count, closing=world.closing
        )

    # The lockstep

    async def settle(self) -> None:
        """Wait until the workers have settled the slot, or the wait has been long enough.

        A chain waits for nobody: where only its nodes tell of it, neither does this.
        """
        if not self.publishes:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        begun = loop.time()
        looked = begun
        while (waiting := self.barrier.waiting()) and not self.over:
            stopping = self.context.stopping.is_set()
            patience_s = LAST_WORDS_S if stopping else self.settings.barrier_timeout_s
            if (self._reported or stopping) and loop.time() - begun > patience_s:
                self._deserted = stopping
                given_up = self.barrier.give_up()
                self.context.log.warning("slot not settled in time, going on", waiting=str(given_up))
                break
            if loop.time() - looked > CATCH_UP_S:
                looked = loop.time()
                self.context.health.degraded(str(waiting), cause="barrier")
                await self._look_again()
                continue
            self._heard.clear()
            try:
                async with asyncio.timeout(CATCH_UP_S):
                    await self._heard.wait()
            except TimeoutError:
                pass
        self.context.health.recovered(cause="barrier")

    async def _look_again(self) -> None:
        try:
            if self.context.bus.counters.reconnects != self._reconnects:
                await self._tell_again()
            await self._catch_up()
        except Failure as failure:
            self.context.log.warning("cannot read the streams", error=str(failure))

    async def _pace(self) -> None:
        """Wait until the slot's wall-clock time has passed, where slots are paced."""
        if not self.settings.paced:
            return
        loop = asyncio.get_running_loop()
        due = self._paced_from + self.settings.slot_ms * NS_PER_MS / 1e9
        if due > loop.time():
            try:
                async with asyncio.timeout(due - loop.time()):
                    await self.context.stopping.wait()
            except TimeoutError:
                pass
        self._paced_from = max(due, loop.time())


def _source(context: WorkerContext) -> tuple[Engine, Mapping[str, Pool], int]:
    """Return the traders, the pools as they begin, and the slot before the first."""
    settings = context.config.market
    if settings.source == "offline":
        engine, pools = offline_engine(load_registry(), settings.seed)
        return engine, pools, 0
    recorded = load_recorded(settings.recorded_path)
    for address, reason in recorded.refused.items():
        context.log.warning("recorded pool left out", pool=address, reason=reason)
    return recorded.engine, recorded.pools, recorded.slot
