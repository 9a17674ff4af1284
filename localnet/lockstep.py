"""The offline market beside the bus: advances a world in lockstep with the workers, tells its pools on MARKET_DATA."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from localnet.barrier import Barrier
from localnet.oracle import Oracle
from localnet.publication import HeldState, Publication
from localnet.world import Advance
from markets.tokens import load_registry
from pipeline.bus import Stored
from pipeline.bus.errors import PublishFailed
from pipeline.clock import NS_PER_MS
from pipeline.context import WorkerContext
from pipeline.errors import Failure
from pipeline.messages import (
    Command,
    CommandKind,
    ExecutionPlan,
    ExecutionResult,
    ExecutionSubmitted,
    InvalidMessage,
    Message,
    Opportunity,
    OraclePrice,
    PlanRefusal,
    PoolState,
    ScanReport,
    SlotUpdate,
)

LISTENED = ("opportunity.>", "planned.>", "executed.>", "metrics.scan", "system.command.market")
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


class OfflineWorld(Protocol):
    """What a market advances: pools that are only computed, or a chain."""

    closing: bool
    pools: dict[str, HeldState]

    @property
    def id(self) -> str:
        """Return what names this world: another beginning is another one."""

    @property
    def slot(self) -> int:
        """Return the last slot that is complete."""

    @property
    def market_ns(self) -> int:
        """Return its market time, ns."""

    @property
    def slot_ns(self) -> int:
        """Return the market time that a slot takes, ns."""

    def result(self, result: ExecutionResult, *, applied: bool = False) -> None:
        """Take note of an execution."""

    def advance(self, *, last: bool = False) -> Advance:
        """Go on by one slot; `last` begins the closing."""


class Market(ABC):
    """A world, what the workers say about it, and the clock that paces it."""

    world: OfflineWorld
    looks_back_slots = 1
    """Messages of so many slots before the present one still matter when the streams are read again."""

    def __init__(self, context: WorkerContext, barrier: Barrier) -> None:
        """Prepare all but the world, which `open` makes."""
        self.context = context
        settings = context.config.market
        self.settings = settings
        self.registry = load_registry()
        self.base_slot = 0
        """The slot before the first of all."""
        self.publication = Publication(context.name)
        self.oracle: Oracle | None = None
        self.barrier = barrier
        self.publishes = context.config.localnet.publish
        self._told_to_close = False
        self._heard = asyncio.Event()
        self._reported = False
        self._deserted = False
        self._ends: float | None = None
        self._reconnects = 0
        self._paced_from = 0.0
        # Staggered, so that no slot carries them all.
        self._keyframe_slots = max(1, round(settings.keyframe_s * 1000 / settings.slot_ms))

    # What a kind of market does in its own way

    @abstractmethod
    async def open(self) -> None:
        """Take the market up where it was left or begin a new one, and have it answer where it has nodes."""

    @abstractmethod
    async def stop(self) -> None:
        """Close whatever answers."""

    @abstractmethod
    async def _happened(self, advance: Advance) -> None:
        """Do what must be done between a slot and the word of it on the bus: tell nodes and logs, wait."""

    @property
    def finished(self) -> bool:
        """Tell whether the market is closed and nothing is under way any more."""
        return self.world.closing and (self.barrier.idle or not self.publishes)

    @property
    def waits(self) -> bool:
        """Tell whether slots wait for the workers."""
        return self.publishes and self.settings.lockstep

    @property
    def hurries(self) -> bool:
        """Tell whether slots need not take their time."""
        return False

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
            case ExecutionSubmitted():
                self.barrier.submitted(message.plan_id, message.signature, message.last_valid_block_height)
            case ExecutionResult():
                self.barrier.result(message.plan_id)
                self.world.result(message)
            case Command():
                if message.kind == CommandKind.CLOSE and not self._told_to_close:
                    self._told_to_close = True
                    self.context.log.info("told to close", actor=message.actor, reason=message.reason)
            case _:
                return
        self._heard.set()

    async def _catch_up(self, *, resuming: bool = False) -> None:
        """Read again what the workers said lately: perhaps a message was missed, or came before this process began."""
        bus, since = self.context.bus, self.world.slot - self.looks_back_slots
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

    async def _after(self, slots: Sequence[SlotUpdate]) -> int:
        """Return the slot after which a new market begins.

        One that repeats the slots of an earlier one has the same ids, and is taken for a repeat.
        """
        known = [message for subject in KEPT for _, message in await self.context.bus.last(subject)]
        return max(self.base_slot, *(int(getattr(message, "slot", 0)) for message in [*slots, *known]), 0)

    async def next_slot(self) -> None:
        """Advance the world by one slot and publish it."""
        await self._pace()
        # After a new connection the server may be another one, whose memory holds no keyframes.
        reconnects = self.context.bus.counters.reconnects
        everything = not self.publication.begun or reconnects != self._reconnects
        self._reconnects = reconnects
        slots = self.settings.slots
        traded_enough = bool(slots) and self.world.slot >= self.base_slot + slots
        last = traded_enough or self._told_to_close or self.context.stopping.is_set()
        advance = self.world.advance(last=last)
        self.barrier.begin(advance.slot)
        await self._happened(advance)
        if self.publishes:
            await self._publish(advance, everything=everything)
        elif Oracle.changes(advance.slot):
            # No account of the chain tells them.
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

        A chain waits for nobody: without lockstep, or where only nodes tell of the market, neither does this.
        """
        if not self.waits:
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
            await self._listen()
        self.context.health.recovered(cause="barrier")

    async def _listen(self) -> bool:
        """Wait for the next word of a worker, and not for long; tell whether one came."""
        self._heard.clear()
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await self._heard.wait()
        except TimeoutError:
            return False
        return True

    async def _look_again(self) -> None:
        try:
            if self.context.bus.counters.reconnects != self._reconnects:
                await self._tell_again()
            await self._catch_up()
        except Failure as failure:
            self.context.log.warning("cannot read the streams", error=str(failure))

    async def _pace(self) -> None:
        """Wait until the slot's wall-clock time has passed, where slots are paced."""
        if not self.settings.paced or self.hurries:
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
