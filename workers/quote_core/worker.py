"""Wiring of the quote core: MARKET_DATA in; shared memory, best quotes and anomalies out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from markets.tokens import load_registry
from pipeline._core import PoolRefused
from pipeline.bus import Stored
from pipeline.bus.errors import PublishFailed
from pipeline.config import Config
from pipeline.context import WorkerContext
from pipeline.errors import BadData, Failure, Refused
from pipeline.ids import deterministic_id
from pipeline.messages import Anomaly, Message, PoolState, Quote, Severity, SlotUpdate
from pipeline.shm import SharedMemoryError, SharedMemoryFull, SharedMemoryOwned
from workers.quote_core.best import BestOffers, Offer
from workers.quote_core.feed import Action, Feed
from workers.quote_core.tables import LOCAL, QuotedAmount, Tables

HEARTBEAT_S = 0.25
RELOAD_WAIT_S = 0.2
# Best quotes are for people and for other hosts: they give way before the publishes of the pipeline do.
MAX_PENDING_QUOTES = 256


async def run(context: WorkerContext) -> None:
    """Keep shared memory at the market's newest slot until told to stop."""
    core = QuoteCore(context)
    try:
        await core.run()
    finally:
        core.tables.close()


class QuoteCore:
    """The pools as the market tells them, and the files they are quoted into."""

    def __init__(self, context: WorkerContext) -> None:
        """Open the shared-memory files."""
        settings = context.config.quote_core
        self.context = context
        self.feed = Feed()
        self.best = BestOffers()
        self.tables = open_tables(context.config)
        self.reference = len(settings.amounts) // 2
        self.refused: dict[str, str] = {}
        self.reloads = 0
        self._waiting: list[PoolState | SlotUpdate] = []
        self._reloading: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Listen, catch up with what was said before, and stay until told to stop."""
        bus = self.context.bus
        self._reload()
        for subject in ("market_data.pool.>", "market_data.pool_change.>", "market_data.slot"):
            await bus.watch(subject, self._on_message)
        beat = asyncio.create_task(self._beat(), name="heartbeat")
        try:
            await self.context.stopping.wait()
        finally:
            beat.cancel()
            if self._reloading is not None:
                self._reloading.cancel()

    async def _beat(self) -> None:
        reconnects = 0
        while True:
            self.tables.heartbeat()
            if self.context.bus.counters.reconnects != reconnects:
                reconnects = self.context.bus.counters.reconnects
                self._reload()  # what was said while the connection was down was not heard
            await asyncio.sleep(HEARTBEAT_S)

    def _on_message(self, message: Message, _delivery: object) -> None:
        if not isinstance(message, PoolState | SlotUpdate):
            return
        if self._reloading is not None:
            self._waiting.append(message)
        elif isinstance(message, PoolState):
            self.feed.state(message)
        else:
            self._update(message)

    def _update(self, update: SlotUpdate) -> None:
        match self.feed.update(update):
            case Action.COMMIT:
                self._commit(update.slot, update.market_ns)
            case Action.RELOAD:
                self.context.log.warning("a pool state was missed, reading all again", slot=update.slot)
                self._waiting.append(update)
                self._reload()
            case Action.RESET:
                self.context.log.warning("another market has begun, forgetting all pools", slot=update.slot)
                self.tables.forget_all(update.slot, update.market_ns)
                self.feed, self.best = Feed(), BestOffers()
                self._waiting.append(update)
                self._reload()
            case Action.NOTHING:
                pass

    def _commit(self, slot: int, market_ns: int) -> None:
        """Quote what changed and make it visible at once."""
        offers: list[Offer] = []
        causes: dict[str, PoolState] = {}
        for address in self.feed.take_changed():
            state = self.feed.states.newest(address)
            if state is None:
                continue
            try:
                pool = self.feed.states.get(address)
                assert pool is not None
                quotes = self.tables.write(pool, state.observed_ns)
            except PoolRefused as refusal:
                self.tables.forget(address, state.slot, state.observed_ns)
                self._refuse(state, str(refusal))
                continue
            except SharedMemoryFull as error:
                self._refuse(state, str(error))
                continue
            self._accept(address)
            causes[address] = state
            offers += self._offers(pool.address, (pool.token_a, pool.token_b), quotes)
        self.tables.commit(slot, market_ns)
        if self.context.config.quote_core.publish_quotes:
            self._tell([(offer, causes[offer.pool]) for offer in self.best.update(offers) if offer.pool in causes])

    def _offers(self, address: str, tokens: tuple[str, str], quotes: Sequence[QuotedAmount]) -> list[Offer]:
        """Return what a pool offers for the reference amount."""
        offers = []
        for quoted in quotes:
            if quoted.index != self.reference:
                continue
            token_in, token_out = tokens if quoted.a_to_b else tokens[::-1]
            out, impact = (
                (quoted.quote.amount_out, quoted.quote.price_impact_bps) if quoted.quote is not None else (0, 0.0)
            )
            offers.append(Offer(address, token_in, token_out, quoted.amount_in, out, impact))
        return offers

    def _tell(self, news: list[tuple[Offer, PoolState]]) -> None:
        """Publish best quotes; while the server is behind they are left out, the next change says more."""
        bus = self.context.bus
        for offer, state in news:
            if bus.pending_publishes >= MAX_PENDING_QUOTES or not bus.connected:
                return
            self._send(
                Quote(
                    id=deterministic_id("quote", state.id, offer.token_in, offer.amount_in),
                    causation_id=state.id,
                    created_ns=self.context.clock(),
                    producer=self.context.name,
                    pool=offer.pool,
                    protocol=state.protocol,
                    provider=LOCAL,
                    token_in=offer.token_in,
                    token_out=offer.token_out,
                    amount_in=offer.amount_in,
                    amount_out=offer.amount_out,
                    price_impact_bps=offer.price_impact_bps,
                    slot=state.slot,
                    quoted_ns=state.observed_ns,
                )
            )

    def _refuse(self, state: PoolState, reason: str) -> None:
        """Report a pool that cannot be quoted, once per reason; the others go on."""
        if self.refused.get(state.pool) == reason:
            return
        self.refused[state.pool] = reason
        self.context.log.warning("pool refused", pool=state.pool, slot=state.slot, reason=reason)
        self._send(
            Anomaly(
                id=deterministic_id("pool-refused", state.pool, reason, state.slot),
                causation_id=state.id,
                created_ns=self.context.clock(),
                producer=self.context.name,
                severity=Severity.WARNING,
                rule="pool_refused",
                measured=float(len(self.refused)),
                limit=0.0,
                detail=f"{state.pool}: {reason}",
            )
        )

    def _accept(self, address: str) -> None:
        if self.refused.pop(address, None) is not None:
            self.context.log.info("pool quoted again", pool=address)

    def _send(self, message: Message) -> None:
        try:
            self.context.bus.publish_soon(message).add_done_callback(_seen)
        except PublishFailed as error:
            self.context.log.warning("not published", error=str(error))

    def _reload(self) -> None:
        """Read the present state of everything from the stream; what comes meanwhile waits."""
        if self._reloading is None:
            self._reloading = asyncio.create_task(self._read_all(), name="reload")

    async def _read_all(self) -> None:
        bus = self.context.bus
        while True:
            try:
                # Changes before keyframes: a keyframe that came in between wins over the change it contains.
                changes = await bus.last("market_data.pool_change.>")
                keyframes = await bus.last("market_data.pool.>")
                slots = await bus.last("market_data.slot")
                break
            except Failure as failure:
                self.context.health.degraded(f"cannot read MARKET_DATA: {failure}", cause="reload")
                await asyncio.sleep(RELOAD_WAIT_S)
        self.context.health.recovered(cause="reload")
        self.reloads += 1
        for _subject, message in [*keyframes, *changes]:
            if isinstance(message, PoolState):
                self.feed.state(message)
        self._reloading = None
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            if isinstance(message, PoolState):
                self.feed.state(message)
        updates = [message for _subject, message in slots if isinstance(message, SlotUpdate)]
        updates += [message for message in waiting if isinstance(message, SlotUpdate)]
        newest = max(updates, key=lambda update: update.slot, default=None)
        if newest is not None:
            # What is still missing now was never stored, or comes with the next slot.
            for address in self.feed.states.drop_broken():
                self.context.log.warning("a change without its keyframe is left out", pool=address, slot=newest.slot)
                self.tables.forget(address, newest.slot, newest.market_ns)
            self.feed.settle(newest)
            self._commit(newest.slot, newest.market_ns)


def open_tables(config: Config) -> Tables:
    """Open the shared-memory files.

    Raises:
        Failure: if another process writes them, or they cannot be made.
    """
    settings = config.quote_core
    try:
        return Tables(
            config.shm_directory, load_registry(), settings.amounts, capacity=settings.capacity, ring=settings.ring
        )
    except SharedMemoryOwned as error:
        raise Refused(str(error), "stop the other quote core, or give this one its own shm.namespace") from error
    except (SharedMemoryError, OSError) as error:
        raise BadData(f"shared memory cannot be written: {error}", "see shm.directory and its free space") from error


def _seen(future: asyncio.Future[Stored]) -> None:
    """Look at the outcome of a publish that nothing waits for, so that a lost one is no unhandled error."""
    if not future.cancelled():
        future.exception()
