"""The offline chain by itself: traders, rival and services on the wall clock, without the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from localnet.chain_market import chain_faults, chain_terms
from localnet.chain_world import open_chain
from localnet.served import ChainServer
from localnet.world import Advance
from markets.solana.wallets.keys import offline_keypair
from markets.tokens import load_registry
from pipeline.config import Config
from pipeline.errors import Refused


@dataclass(frozen=True, slots=True)
class Places:
    """Where the chain answers, and what it holds."""

    rpc: str
    websocket: str
    block_engine: str
    tip_floor: str
    faults: str
    seed: int
    genesis: str
    slot: int
    slot_ms: int
    wallets: tuple[str, ...]
    """Addresses of the funded wallets; `offline_keypair(seed, index)` makes their keys."""
    pools: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Second:
    """What a second brought."""

    slot: int
    slots: int
    transactions: int
    failed: int
    """Of the transactions: landed, and changed nothing but their fee."""
    bundles: int
    trades: int
    """Of the transactions: those of the simulated traders."""
    differences: int
    """Since the start: trades that came out otherwise than the core's math says."""
    late_ms: int
    """How far the clock was behind at worst."""


class Standalone:
    """One chain that runs until it is told to stop."""

    def __init__(self, config: Config, *, traders: bool = True) -> None:
        """Make the chain that the configuration describes; nothing is served yet."""
        self._terms = chain_terms(config, traders=traders)
        self._world = open_chain(load_registry(), self._terms, faults=chain_faults(config.localnet))
        self._server = ChainServer(self._world.chain, config.localnet)

    async def start(self) -> Places:
        """Open the ports.

        Raises:
            Refused: if one of them is taken.
        """
        try:
            rpc = (await self._server.start())[0]
        except OSError as error:
            await self._server.stop()
            what = f"the chain cannot listen: {error.strerror or error}"
            raise Refused(what, "another chain may run; --port 0 takes a free one") from error
        world, terms = self._world, self._terms
        bundles = f"{rpc}/api/v1/bundles"
        return Places(
            rpc=rpc,
            websocket=rpc.replace("http", "ws", 1),
            block_engine=bundles,
            tip_floor=f"{bundles}/tip_floor",
            faults=f"{rpc}/faults",
            seed=terms.seed,
            genesis=world.chain.genesis_hash,
            slot=world.slot,
            slot_ms=terms.slot_ms,
            wallets=tuple(str(offline_keypair(terms.seed, index).pubkey()) for index in range(terms.wallets)),
            pools=len(world.pools),
            left_out=len(world.left_out),
        )

    async def run(self, stop: asyncio.Event, tell: Callable[[Second], None]) -> None:
        """Go on slot by slot until `stop` is set, and tell of every second."""
        loop = asyncio.get_running_loop()
        slot_s = self._terms.slot_ms / 1000
        due, told = loop.time() + slot_s, loop.time()
        advances: list[Advance] = []
        late = 0.0
        while not stop.is_set():
            try:
                async with asyncio.timeout_at(due):
                    await stop.wait()
                return
            except TimeoutError:
                pass
            late = max(late, loop.time() - due)
            advance = self._world.advance()
            advances.append(advance)
            if advance.block is not None:
                self._server.tell(advance.block)
            # A clock that is behind does not catch up: no two slots at once.
            due = max(due + slot_s, loop.time())
            if loop.time() - told >= 1:
                told += 1
                tell(self._second(advances, late))
                advances, late = [], 0.0

    async def stop(self) -> None:
        """Close the ports."""
        await self._server.stop()

    def _second(self, advances: list[Advance], late_s: float) -> Second:
        records = [record for advance in advances if advance.block is not None for record in advance.block.records]
        return Second(
            slot=self._world.slot,
            slots=len(advances),
            transactions=len(records),
            failed=sum(record.error is not None for record in records),
            bundles=len({record.bundle for record in records if record.bundle}),
            trades=sum(len(advance.trades) for advance in advances),
            differences=self._world.differences,
            late_ms=round(late_s * 1000),
        )
