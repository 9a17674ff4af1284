"""A quote core process on a server of its own, told by the test what pools there are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path

from nats import errors
from trading_stage import Stage, eventually

from localnet.market import offline_engine
from localnet.publication import HeldState, Publication
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline import run_files
from pipeline._core import Pool
from pipeline.bus import Bus
from pipeline.messages import AskedPair, OraclePrice, QuoteAnswer, QuoteRequest

S = 1_000_000_000
MS = 1_000_000
POOLS: dict[str, Pool] = offline_engine(load_registry(), 1)[1]
DOLLAR = sorted(address for address, pool in POOLS.items() if {pool.token_a, pool.token_b} == {SOL_MINT, USDC_MINT})
START_NS = 1_700_000_000 * S


class World:
    """Feeds a quote core slot by slot."""

    def __init__(self, directory: Path, **settings: object) -> None:
        self.stage = Stage(directory, **{"external.enabled": "false", **settings})
        self.publication = Publication("tests")
        self.slot = 0
        self.pools = dict(POOLS)

    async def open(self) -> None:
        """Start the quote core and wait until it serves all pools both ways."""
        await self.stage.open()
        self.process = self.stage.start("quote_core")
        bus = await self.stage.bus("feeder")
        try:
            await self.feed(bus, self.pools)

            async def served() -> bool:
                answer = await ask(bus, "SOL/USDC")
                return answer is not None and bool(answer.pairs) and bool(answer.pairs[0].forward)

            await eventually(served, what="quotes to be served", logs=self.stage.logs)
        finally:
            await bus.close()
        await eventually(lambda: bool(self.grpc_address), what="gRPC", logs=self.stage.logs)

    @property
    def grpc_address(self) -> str:
        entry = run_files.read(self.stage.config(), "quotes-grpc")
        return entry.url if entry is not None else ""

    async def feed(self, bus: Bus, addresses: Iterable[str], amount: int = 0) -> int:
        """Tell a slot in which these pools changed, by a swap of this amount; return it."""
        self.slot += 1
        market_ns = START_NS + self.slot * 400 * MS
        addresses = list(addresses)
        for address in addresses:
            pool = self.pools[address].at(self.slot, 1, 0)
            if amount:
                pool = pool.swap(True, amount)[0]
            self.pools[address] = pool
            await bus.publish(self.publication.keyframe(HeldState(pool, self.slot, 1, market_ns), market_ns))
        for token, price in ((SOL_MINT, 150_000_000), (USDC_MINT, 1_000_000)):
            await bus.publish(
                OraclePrice(
                    id=f"{token}-{self.slot}",
                    producer="tests",
                    token=token,
                    source="simulated",
                    price=price,
                    exponent=-6,
                    published_ns=market_ns,
                )
            )
        await bus.publish(
            self.publication.slot(
                self.slot, market_ns, market_ns, market="one", pools_changed=len(addresses), closing=False
            )
        )
        return self.slot

    def out(self, address: str, token_in: str, amount: int = S) -> int:
        """Return what a pool gives, by the test's own copy of it."""
        pool = self.pools[address]
        return pool.quote_in(token_in == pool.token_a, amount).amount_out

    def best_out(self, token_in: str, amount: int = S) -> int:
        """Return what the best SOL/USDC pool gives."""
        return max(self.out(address, token_in, amount) for address in DOLLAR)

    def close(self) -> None:
        self.stage.close()


async def ask(bus: Bus, *pairs: str, paired: bool = False, subject: str = "quotes.get") -> QuoteAnswer | None:
    """Ask for one whole token of each pair; None where nobody answers yet."""
    request = QuoteRequest(id="asked", pairs=[AskedPair(pair=pair, amount=S) for pair in pairs], paired=paired)
    with contextlib.suppress(errors.NoRespondersError, errors.TimeoutError):
        reply = await bus.client.request(subject, request.encode(), timeout=2)
        return QuoteAnswer.decode(reply.data)
    await asyncio.sleep(0.05)
    return None
