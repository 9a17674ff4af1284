"""The offline market whose pools are only computed: the executor's fills move them, and no transaction exists."""

from __future__ import annotations

from collections.abc import Mapping

from localnet.barrier import Barrier
from localnet.lockstep import Market
from localnet.market import Engine, offline_engine
from localnet.oracle import Oracle
from localnet.recorded import load_recorded
from localnet.served import ServedChain
from localnet.world import Advance, World, begin, resume
from markets.tokens import Registry
from pipeline._core import Pool
from pipeline.context import WorkerContext
from pipeline.messages import PoolState, SlotUpdate


class PaperMarket(Market):
    """A world of computed pools. One whose process died is taken up from what MARKET_DATA says of it."""

    world: World

    def __init__(self, context: WorkerContext) -> None:
        """Prepare the engine; the world is opened later."""
        super().__init__(context, Barrier(context.config.executor.paper_landing_slots))
        self.engine, self.pools, self.base_slot = _source(context, self.registry)
        # Recorded pools are of a day whose prices nobody tells.
        if self.settings.source == "offline":
            self.oracle = Oracle(self.settings.seed, self.registry, context.name)
        self.served: ServedChain | None = None

    async def open(self) -> None:
        """Take the market up where it was left, or begin a new one; serve it as a chain, where that is wanted."""
        bus = self.context.bus
        if not self.publishes:
            # What stands on MARKET_DATA is what the quote core read of an earlier chain.
            await self._begin(await self._after([]))
        else:
            changes = await bus.last("market_data.pool_change.>")
            keyframes = await bus.last("market_data.pool.>")
            slots = [message for _, message in await bus.last("market_data.slot") if isinstance(message, SlotUpdate)]
            states = [message for _, message in [*keyframes, *changes] if isinstance(message, PoolState)]
            if not slots or not await self._resume(states, slots[0]):
                if states or slots:
                    await bus.js.purge_stream("MARKET_DATA")
                await self._begin(await self._after(slots))
        section = self.context.config.localnet
        if section.rpc_nodes:
            self.served = ServedChain(section, self.registry, self.world)
            self.context.log.info("simulated nodes", addresses=await self.served.start())

    async def stop(self) -> None:
        """Close the nodes."""
        if self.served is not None:
            await self.served.stop()

    async def _happened(self, advance: Advance) -> None:
        if advance.differing:
            self.context.log.warning(
                "fills came out otherwise than reported", slot=advance.slot, fills=len(advance.differing)
            )
        if self.served is not None:
            self.served.tell(self.world, advance.changed)

    async def _resume(self, states: list[PoolState], update: SlotUpdate) -> bool:
        """Go on with the market that these messages are of; tell whether that is possible."""
        resumed = resume(self.engine, self.pools, states, update, slot_ms=self.settings.slot_ms)
        if resumed is None:
            return False
        # One that was only told to stop trades again.
        resumed.closing = bool(self.settings.slots) and resumed.slot > self.base_slot + self.settings.slots
        self.world = resumed
        for state in states:
            if state.complete:
                self.publication.resume(state)
        self.barrier.begin(resumed.slot)
        await self._catch_up(resuming=True)
        self.context.log.info("market resumed", slot=resumed.slot, pools=len(resumed.pools))
        return True

    async def _begin(self, after: int) -> None:
        self.base_slot = after
        self.world = begin(self.engine, self.pools, first_slot=after + 1, slot_ms=self.settings.slot_ms)
        self.context.log.info("market begins", slot=after + 1, pools=len(self.pools), source=self.settings.source)
        await self.next_slot()


def _source(context: WorkerContext, registry: Registry) -> tuple[Engine, Mapping[str, Pool], int]:
    """Return the traders, the pools as they begin, and the slot before the first."""
    settings = context.config.market
    if settings.source == "offline":
        engine, pools = offline_engine(registry, settings.seed)
        return engine, pools, 0
    recorded = load_recorded(settings.recorded_path)
    for address, reason in recorded.refused.items():
        context.log.warning("recorded pool left out", pool=address, reason=reason)
    return recorded.engine, recorded.pools, recorded.slot
