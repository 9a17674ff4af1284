"""The local part, fed by MARKET_DATA: pool states in, exact grids out, slot by slot.

The pools of a slot gather until the slot's update says that all of them have come; then they are quoted in one call
into the core, without the interpreter's lock, each from one state in both directions.
"""

from __future__ import annotations

import asyncio

from pipeline._core import Pool, PoolRefused, quote_grids
from pipeline.context import WorkerContext
from pipeline.errors import Failure
from pipeline.messages import Message, OraclePrice, PoolState, Protocol, SlotUpdate
from workers.quote_core.feed import Action, Feed
from workers.quote_core.parts import Emit, PoolGrid, PoolVoid, Settled

RELOAD_WAIT_S = 0.2
LOOK_S = 0.25


class StreamSource:
    """The pools as the market's messages tell them."""

    def __init__(self, context: WorkerContext, emit: Emit) -> None:
        """Begin without pools."""
        self.context = context
        self.emit = emit
        self.feed = Feed()
        self.reloads = 0
        self._amounts = context.config.quote_core.amounts
        self._waiting: list[PoolState | SlotUpdate | OraclePrice] = []
        self._reloading: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    async def run(self) -> None:
        """Listen, catch up with what was said before, and stay."""
        bus = self.context.bus
        self._reload()
        subjects = ("market_data.pool.>", "market_data.pool_change.>", "market_data.oracle.>", "market_data.slot")
        for subject in subjects:
            await bus.watch(subject, self._on_message)
        self._listening.set()
        reconnects = bus.counters.reconnects
        try:
            while True:
                if bus.counters.reconnects != reconnects:
                    reconnects = bus.counters.reconnects
                    self._reload()  # what was said while the connection was down was not heard
                await asyncio.sleep(LOOK_S)
        finally:
            if self._reloading is not None:
                self._reloading.cancel()

    def replay(self) -> None:
        """Tell everything again: whoever listens has lost it."""
        for address in self.feed.states.addresses():
            self.feed.mark_changed(address)
        self._reload()

    def _on_message(self, message: Message, _delivery: object) -> None:
        if not isinstance(message, PoolState | SlotUpdate | OraclePrice):
            return
        if self._reloading is not None:
            self._waiting.append(message)
        elif isinstance(message, PoolState):
            self.feed.state(message)
        elif isinstance(message, OraclePrice):
            self.emit(message)
        else:
            self._update(message)

    def _update(self, update: SlotUpdate) -> None:
        match self.feed.update(update):
            case Action.COMMIT:
                self._settle(update)
            case Action.RELOAD:
                self.context.log.warning("a pool state was missed, reading all again", slot=update.slot)
                self._waiting.append(update)
                self._reload()
            case Action.RESET:
                self.context.log.warning("another market has begun, forgetting all pools", slot=update.slot)
                self.feed = Feed()
                self._waiting.append(update)
                self._reload()
            case Action.NOTHING:
                pass

    def _settle(self, update: SlotUpdate) -> None:
        """Quote what changed, and say that this was all."""
        pools: list[tuple[Pool, PoolState]] = []
        told = 0
        for address in self.feed.take_changed():
            state = self.feed.states.newest(address)
            if state is None:
                continue
            told += 1
            try:
                pool = self.feed.states.get(address)
            except PoolRefused as refusal:
                protocol = Protocol(state.protocol)
                self.emit(PoolVoid(address, protocol, state.slot, state.observed_ns, str(refusal), state.id))
            else:
                assert pool is not None
                pools.append((pool, state))
        grids = quote_grids([pool for pool, _ in pools], self._amounts)
        for (pool, state), grid in zip(pools, grids, strict=True):
            self.emit(PoolGrid(pool, grid, state.observed_ns, state.observed_ns, state.id))
        self.emit(Settled(update.slot, update.market_ns, update.causation_id, told, confirms=True))

    def _reload(self) -> None:
        """Read the present state of everything from the stream; what comes meanwhile waits."""
        if self._reloading is None:
            self._reloading = asyncio.create_task(self._read_all(), name="reload")

    async def _read_all(self) -> None:
        bus = self.context.bus
        # What is said between reading and listening would be heard by nobody.
        await self._listening.wait()
        while True:
            try:
                # Changes before keyframes: a keyframe that came in between wins over the change it contains.
                changes = await bus.last("market_data.pool_change.>")
                keyframes = await bus.last("market_data.pool.>")
                prices = await bus.last("market_data.oracle.>")
                slots = await bus.last("market_data.slot")
                break
            except Failure as failure:
                self.context.health.degraded(f"cannot read MARKET_DATA: {failure}", cause="reload")
                await asyncio.sleep(RELOAD_WAIT_S)
        self.context.health.recovered(cause="reload")
        self.reloads += 1
        self._reloading = None
        waiting, self._waiting = self._waiting, []
        read = [message for _subject, message in [*keyframes, *changes, *prices]]
        for message in [*read, *waiting]:
            if isinstance(message, PoolState):
                self.feed.state(message)
            elif isinstance(message, OraclePrice):
                self.emit(message)
        updates = [message for _subject, message in slots if isinstance(message, SlotUpdate)]
        updates += [message for message in waiting if isinstance(message, SlotUpdate)]
        newest = max(updates, key=lambda update: update.slot, default=None)
        if newest is not None:
            # What is still missing now was never stored, or comes with the next slot.
            for address in self.feed.states.drop_broken():
                self.context.log.warning("a change without its keyframe is left out", pool=address, slot=newest.slot)
                reason = "missing_account: its keyframe was never heard"
                self.emit(PoolVoid(address, Protocol.UNKNOWN, newest.slot, newest.market_ns, reason, newest.id))
            self.feed.settle(newest)
            self._settle(newest)
