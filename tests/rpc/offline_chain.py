"""The offline market as a chain, and an RPC source over it, in one process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import structlog

from localnet.market import offline_engine
from localnet.served import ServedChain
from localnet.world import World, begin
from markets.tokens import load_registry
from pipeline._core import Grid, Pool, quote_grids
from pipeline.bus.errors import PublishFailed
from pipeline.clock import wall_ns
from pipeline.config import load_config
from pipeline.context import WorkerContext
from pipeline.health import Health
from pipeline.messages import Message, OraclePrice
from workers.quote_core.parts import Confirmed, PoolGrid, PoolVoid, Settled, Value
from workers.quote_core.rpc_source import RpcSource


class Bus:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.counters = SimpleNamespace(reconnects=0)
        self.connected = True
        self.pending_publishes = 0
        self.published: list[Message] = []
        self.loses = False
        self.watched: dict[str, Callable[[Message, object], None]] = {}

    async def watch(self, subject: str, handler: Callable[[Message, object], None]) -> SimpleNamespace:
        self.watched[subject] = handler

        async def stop() -> None:
            del self.watched[subject]

        return SimpleNamespace(stop=stop)

    def publish_soon(self, message: Message) -> asyncio.Future[Any]:
        self.published.append(message)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.loses:
            future.set_exception(PublishFailed("no acknowledgement"))
        else:
            future.set_result(None)
        return future


class Chain:
    """The world, served by nodes; it moves when it is told to."""

    def __init__(self, seed: int = 1, **settings: object) -> None:
        self.config = load_config({"localnet.rpc_nodes": 1, "localnet.rpc_port": 0, **settings}, environment={})
        self.registry = load_registry()
        engine, pools = offline_engine(self.registry, seed)
        self.world: World = begin(engine, pools, first_slot=1000, slot_ms=100)
        self.served = ServedChain(self.config.localnet, self.registry, self.world)
        self.urls: list[str] = []

    async def start(self) -> None:
        self.urls = await self.served.start()

    def step(self, slots: int = 1) -> int:
        """Go on by some slots; return how many pools changed."""
        changed = 0
        for _ in range(slots):
            advance = self.world.advance()
            self.served.tell(self.world, advance.changed)
            changed += len(advance.changed)
        return changed

    @property
    def nodes(self) -> list[Any]:
        return cast(list[Any], self.served.nodes)

    def pools(self) -> dict[str, Pool]:
        return {address: held.pool for address, held in self.world.pools.items()}


class Followed:
    """An RPC source, and what it told."""

    def __init__(self, chain: Chain, directory: Path, **settings: object) -> None:
        quick: dict[str, object] = {
            "rpc.endpoints": " ".join(chain.urls),
            "rpc.rate_per_s": 2000.0,
            "rpc.burst": 500,
            "rpc.timeout_s": 2.0,
            "rpc.deadline_s": 4.0,
            "rpc.look_s": 0.1,
            "discovery.protocols": ["whirlpool", "raydium_amm_v4", "raydium_cpmm", "spl_stake_pool", "marinade"],
            "rpc.fast_s": 0.2,
            "rpc.slow_s": 30.0,
            "rpc.sweep_s": 0.5,
            "rpc.silent_s": 60.0,
            "rpc.breaker_open_s": 0.1,
            "rpc.breaker_open_max_s": 0.2,
            "worker.data_dir": str(directory),
        }
        self.bus = Bus()
        self.health = Health("quote_core")
        self.context = WorkerContext(
            name="quote_core",
            config=load_config(quick | settings, environment={}),
            bus=cast(Any, self.bus),
            gate=cast(Any, None),
            health=self.health,
            log=cast(Any, structlog.get_logger()),
            clock=wall_ns,
            stopping=asyncio.Event(),
        )
        self.grids: dict[str, PoolGrid] = {}
        self.voids: dict[str, PoolVoid] = {}
        self.confirmed: dict[str, int] = {}
        self.settled: list[Settled] = []
        self.prices: list[OraclePrice] = []
        self._compared: tuple[Chain | None, int] = (None, -1)
        self._expected: dict[str, Grid] = {}
        self.source = RpcSource(self.context, self.take)

    def take(self, value: Value) -> None:
        match value:
            case PoolGrid():
                self.grids[value.pool.address] = value
                self.voids.pop(value.pool.address, None)
                self.confirmed[value.pool.address] = value.confirmed_ns
            case PoolVoid():
                self.voids[value.pool] = value
                self.grids.pop(value.pool, None)
            case Confirmed():
                self.confirmed |= dict.fromkeys(value.pools, value.confirmed_ns)
            case Settled():
                self.settled.append(value)
            case OraclePrice():
                self.prices.append(value)

    def differing(self, chain: Chain) -> list[str]:
        """Return the pools whose quotes or accounts are not those of the world now."""
        pools = chain.pools()
        if (chain, chain.world.slot) != self._compared:
            self._compared = (chain, chain.world.slot)
            amounts = self.context.config.quote_core.amounts
            self._expected = dict(zip(pools, quote_grids(list(pools.values()), amounts), strict=True))
        return [address for address, pool in pools.items() if not self._same(address, pool)]

    def _same(self, address: str, pool: Pool) -> bool:
        told = self.grids.get(address)
        if told is None or list(told.grid) != list(self._expected[address]):
            return False
        read = {account[0]: account[2] for account in told.pool.accounts()}
        return all(read.get(account[0]) == account[2] for account in pool.accounts())


@asynccontextmanager
async def followed(
    directory: Path, chain: Chain | None = None, **settings: object
) -> AsyncIterator[tuple[Chain, Followed]]:
    chain = chain or Chain()
    await chain.start()
    follow = Followed(chain, directory, **settings)
    running = asyncio.create_task(follow.source.run())
    try:
        yield chain, follow
    finally:
        if running.done():
            running.result()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await chain.served.stop()
