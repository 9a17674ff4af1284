"""The local part, fed by Solana RPC: finds the pools of the known pairs, keeps them fresh, quotes what changed.

Here the quote core is the market for all other workers: it publishes what it read as pool states and slot updates on
MARKET_DATA, so that everything that works on the offline market works on a live chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from markets.solana.discovery import Changes
from markets.solana.pool_finder import Looked
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import Priority
from markets.solana.rpc.socket import AccountSocket
from markets.solana.watch.book import PoolBook, PoolRead, Void, WatchedPool
from markets.solana.watch.chain_time import ChainTime
from markets.solana.watch.schedule import Schedule
from markets.solana.watch.watcher import Batch, Watcher
from pipeline._core import Pool, PoolRefused, quote_grids
from pipeline.bus import Stored
from pipeline.bus.errors import PublishFailed
from pipeline.context import WorkerContext
from pipeline.live import required_chain
from pipeline.messages import Message, OraclePrice, Protocol
from pipeline.tasks import end_tasks
from workers.quote_core.discovering import finder_of
from workers.quote_core.parts import Confirmed, Emit, PoolGrid, PoolVoid, Settled
from workers.quote_core.rpc_client import intervals, open_rpc, socket_settings
from workers.quote_core.rpc_metrics import RpcMetrics
from workers.quote_core.rpc_publication import Observed, RpcPublication

LOOK_S = 1.0
AGAIN_S = 2.0
"""First pause before pools are looked for again where some questions had no answer; doubles."""
NS_PER_MS = 1_000_000


class RpcSource:
    """The pools as the chain has them."""

    def __init__(self, context: WorkerContext, emit: Emit) -> None:
        """Begin without a connection and without pools."""
        self.context = context
        self.emit = emit
        self.rpc: RpcPool | None = None
        self.watcher: Watcher | None = None
        self.sockets: list[AccountSocket] = []
        self.schedule: Schedule | None = None
        self.slot = 0
        self.market = ""
        self._time = ChainTime()
        self._publication = RpcPublication(context.name, int(context.config.rpc.keyframe_s * 1e9))
        self._reconnects = context.bus.counters.reconnects
        self._amounts = context.config.quote_core.amounts
        self._told: dict[str, PoolGrid | PoolVoid] = {}
        self._observed: dict[str, Observed] = {}
        self._versions: dict[str, int] = {}
        self._shown: dict[str, str] = {}

    async def run(self) -> None:
        """Connect and keep every pool fresh; when the endpoints turn to another chain, begin anew."""
        collect = RpcMetrics(self).collect
        self.context.health.collectors.append(collect)
        prices = await self.context.bus.watch("market_data.oracle.>", self._on_price)
        try:
            config = self.context.config
            async with open_rpc(config.rpc, self._counted, chain=required_chain(config)) as self.rpc:
                keeping = asyncio.create_task(self.rpc.keep(self.context.config.rpc.look_s), name="endpoints")
                try:
                    while True:
                        await self._follow(self.rpc, await self._chain(self.rpc, keeping), keeping)
                finally:
                    keeping.cancel()
        finally:
            await prices.stop()
            self.context.health.collectors.remove(collect)
            self.context.health.recovered(cause="rpc")
            self.rpc = self.watcher = self.schedule = None
            self.sockets = []

    def replay(self) -> None:
        """Tell everything again: whoever listens has lost it."""
        for value in self._told.values():
            self.emit(value)
        self._settle(len(self._told))

    def request(self, pool: str) -> bool:
        """Read a pool before all others: somebody waits for it. False for one that is not followed."""
        return self.watcher is not None and self.watcher.request(pool)

    async def read_accounts(self, addresses: Sequence[str]) -> list[tuple[str, bytes] | None]:
        """Return (owner, data) of up to 100 accounts as they stand now; None where there is none.

        Raises:
            RpcError: if nobody tells.
        """
        if self.rpc is None:
            raise RpcError("there is no connection to the chain")
        found = await self.rpc.get_accounts(addresses, priority=Priority.NORMAL)
        infos = [found.accounts[address] for address in addresses]
        return [None if info is None else (info.owner, info.data) for info in infos]

    # One chain

    async def _chain(self, rpc: RpcPool, keeping: asyncio.Task[None]) -> str:
        """Return the chain's name, once an endpoint has told it."""
        while not rpc.chain:
            if keeping.done():
                keeping.result()
            self._say_health(rpc)
            await asyncio.sleep(LOOK_S / 10)
        return rpc.chain

    async def _follow(self, rpc: RpcPool, chain: str, keeping: asyncio.Task[None]) -> None:
        """Follow the pools of a chain until the endpoints serve another one."""
        section = self.context.config.rpc
        if self.market not in ("", chain):
            self.context.log.warning("the endpoints serve another chain now, forgetting all pools")
        self._begin(chain)
        book = PoolBook(fixed_s=section.fixed_s, clock=rpc.clock)
        self.schedule = Schedule(intervals(section), rpc.clock)
        self.sockets = self._new_sockets(rpc)
        self.watcher = Watcher(
            rpc,
            self.sockets,
            book,
            self.schedule,
            self._on_batch,
            batch_s=section.batch_ms / 1000,
            sweep_s=section.sweep_s,
            clock=rpc.clock,
        )
        tasks = [
            asyncio.create_task(self.watcher.run(), name="watch"),
            asyncio.create_task(self._discover(rpc, chain, self.watcher), name="discover"),
            asyncio.create_task(self._stay(rpc, chain), name="chain"),
        ]
        try:
            done, _ = await asyncio.wait([*tasks, keeping], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end_tasks(tasks)

    async def _stay(self, rpc: RpcPool, chain: str) -> None:
        """Say how it goes, until the chain is another one."""
        while rpc.chain == chain:
            self._say_health(rpc)
            await asyncio.sleep(LOOK_S)

    def _new_sockets(self, rpc: RpcPool) -> list[AccountSocket]:
        section = self.context.config.rpc
        sockets: list[AccountSocket] = []

        def others(own: int) -> Callable[[], list[str]]:
            return lambda: [socket.aim for number, socket in enumerate(sockets) if number != own]

        settings = socket_settings(section)
        sockets += [AccountSocket(rpc, settings, avoid=others(number)) for number in range(section.sockets)]
        return sockets

    async def _discover(self, rpc: RpcPool, chain: str, watcher: Watcher) -> None:
        """Look for pools at the start, and again every so often."""
        finder = finder_of(self.context.config, rpc, self.context.clock)
        looked = await finder.begin(chain)
        wait_s = AGAIN_S
        while True:
            self._take_over(watcher, looked)
            wait_s = wait_s * 2 if looked.found.failed else AGAIN_S
            await asyncio.sleep(min(finder.due_in_s, wait_s / 2) if looked.found.failed else finder.due_in_s)
            looked = await finder.look(chain)

    def _take_over(self, watcher: Watcher, looked: Looked) -> None:
        log, changes = self.context.log, looked.changes
        for note in (*looked.notes, *looked.found.failed[:5]):
            log.warning("looking for pools", trouble=note)
        log.info(
            "pools found",
            pools=len(looked.found.pools),
            added=len(changes.added),
            gone=len(changes.gone),
            left_out=sum(looked.found.reasons.values()),
            from_file=looked.from_file,
        )
        self._change(watcher, changes)

    def _change(self, watcher: Watcher, changes: Changes) -> None:
        for pool in changes.added:
            watcher.add(WatchedPool(pool.address, pool.protocol, pool.program))
        for gone in changes.gone:
            watcher.remove(gone.address)
            self._void(Void(gone.address, gone.protocol, self.slot, gone.reason), self._now_ns())
        if changes.gone:
            self._settle(len(changes.gone))

    def _on_price(self, message: Message, _delivery: object) -> None:
        """Take a price over that another process told: the offline market, whose chain has no oracle accounts."""
        if isinstance(message, OraclePrice) and message.producer != self.context.name:
            self.emit(message)

    # What was read

    def _begin(self, chain: str) -> None:
        """Forget what is of another chain."""
        if self.market != chain:
            self.market, self.slot, self._time = chain, 0, ChainTime()
            self._told.clear()
            self._observed.clear()
        self._publication.forget()

    def _on_batch(self, batch: Batch) -> None:
        """Quote what changed, tell it, and make it visible."""
        wall_ns = self.context.clock()
        if batch.clock is not None:
            self._time.observe(batch.clock, wall_ns)
        if not self._time.known or (self.rpc is not None and self.rpc.chain != self.market):
            return
        self.slot = max(self.slot, batch.slot)
        for void in batch.void:
            self._void(void, self._time.now_ns(wall_ns))
        changed = self._quote([self._observe(read, wall_ns) for read in batch.changed])
        if batch.confirmed and batch.clock is not None:
            confirmed_ns = self._time.state_ns(batch.clock.unix_time, wall_ns)
            self.emit(Confirmed(batch.confirmed, confirmed_ns))
        self._settle(len(batch.changed) + len(batch.void))
        self._publish(changed, batch.confirmed, wall_ns)

    def _observe(self, read: PoolRead, wall_ns: int) -> Observed:
        """Return a state with its place in the order of writes: later than all before, also those before a restart."""
        version = max(self._versions.get(read.address, 0) + 1, wall_ns // NS_PER_MS)
        self._versions[read.address] = version
        return Observed(read, version, self._time.state_ns(read.unix_time, wall_ns))

    def _quote(self, changed: Sequence[Observed]) -> list[Observed]:
        """Tell what changed pools give; return those that can be read at all."""
        pools: list[tuple[Pool, Observed]] = []
        for observed in changed:
            read = observed.read
            try:
                pool = Pool.parse(
                    protocol=read.protocol,
                    address=read.address,
                    accounts=list(read.accounts),
                    slot=read.slot,
                    write_version=observed.write_version,
                    unix_time=read.unix_time,
                )
            except PoolRefused as refusal:
                self._void(Void(read.address, read.protocol, read.slot, str(refusal)), observed.observed_ns)
            else:
                pools.append((pool, observed))
        grids = quote_grids([pool for pool, _ in pools], self._amounts)
        for (pool, observed), grid in zip(pools, grids, strict=True):
            value = PoolGrid(pool, grid, observed.observed_ns, observed.observed_ns, cause="")
            self._told[pool.address] = value
            self._observed[pool.address] = observed
            self.emit(value)
        return [observed for _, observed in pools]

    def _void(self, void: Void, observed_ns: int) -> None:
        value = PoolVoid(void.pool, Protocol(void.protocol), void.slot, observed_ns, void.reason, cause="")
        self._told[void.pool] = value
        self._observed.pop(void.pool, None)
        self._publication.drop(void.pool)
        self.emit(value)

    def _settle(self, pools: int) -> None:
        if self._time.known:
            self.emit(Settled(self.slot, self._now_ns(), self.market, pools, confirms=False))

    def _now_ns(self) -> int:
        return self._time.now_ns(self.context.clock())

    # The other workers

    def _publish(self, changed: Sequence[Observed], confirmed: Sequence[str], now_ns: int) -> None:
        """Tell the other workers; what the server has no room for now is told whole with the next change."""
        bus = self.context.bus
        if bus.counters.reconnects != self._reconnects:
            self._reconnects = bus.counters.reconnects
            self._publication.forget()
        keyframes = [self._observed[pool] for pool in confirmed if pool in self._observed]
        states = [*changed, *(one for one in keyframes if self._publication.due(one.read.address, now_ns))]
        told = 0
        for observed in states:
            if not bus.connected or bus.pending_publishes >= self.context.config.nats.max_pending // 2:
                self._publication.drop(observed.read.address)
                continue
            if self._send(self._publication.state(observed, now_ns), observed.read.address):
                told += observed.read.slot == self.slot
        market_ns = self._now_ns()
        self._send(self._publication.update(self.slot, market_ns, now_ns, market=self.market, pools_changed=told))

    def _send(self, message: Message, pool: str = "") -> bool:
        """Publish without waiting. A pool of which anything is not stored is told whole the next time."""

        def stored(future: asyncio.Future[Stored]) -> None:
            if not future.cancelled() and future.exception() is not None:
                self._publication.drop(pool)

        try:
            self.context.bus.publish_soon(message).add_done_callback(stored)
        except PublishFailed as error:
            self._publication.drop(pool)
            self.context.health.degraded(f"pools are not published: {error}", cause="publish")
            return False
        self.context.health.recovered(cause="publish")
        return True

    def _counted(self, failed: bool) -> None:
        self.context.health.rpc_calls += 1
        self.context.health.rpc_failures += failed

    def _say_health(self, rpc: RpcPool) -> None:
        trouble = ""
        states = rpc.states()
        shown = {host: state for host, state in states.items() if state != "limited"}
        broken = {f"websocket {at}": one.figures.last_failure for at, one in enumerate(self.sockets)}
        shown |= {name: failure for name, failure in broken.items() if failure}
        if shown != self._shown:
            self.context.log.info("RPC endpoints", **shown)
            self._shown = shown
        if not any(state in ("ready", "limited") for state in states.values()):
            trouble = "no RPC endpoint can be used: " + ", ".join(f"{host} {state}" for host, state in states.items())
        elif self.watcher is not None and self.watcher.figures.stale:
            trouble = f"{self.watcher.figures.stale} pools are stale: {self.watcher.figures.failure or 'not yet read'}"
        if trouble:
            self.context.health.degraded(trouble, cause="rpc")
        else:
            self.context.health.recovered(cause="rpc")
