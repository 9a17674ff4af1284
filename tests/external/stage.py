"""A simulated market with its simulated providers, and a desk that asks them over real sockets."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from localnet.market import offline_engine
from localnet.provider_faults import Fault, Faults
from localnet.providers import SimulatedProviders
from markets.providers.answer import Ask, Bounds, Known
from markets.providers.cache import SplitCache
from markets.providers.choose import Pair
from markets.providers.desk import Desk, PairSaid, Terms
from markets.providers.dflow import DFlow
from markets.providers.fetch import Fetcher
from markets.providers.jupiter import Jupiter
from markets.providers.provider import Provider
from markets.providers.raydium import Raydium
from markets.providers.state import Patience
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline._core import Pool

SOL_USDC = Pair(Ask(SOL_MINT, USDC_MINT, 1_000_000_000), Ask(USDC_MINT, SOL_MINT, 1_000_000_000))
SLOT = 1_000
PATIENCE = Patience(
    rate_per_s=1000.0,
    burst=1000,
    breaker_failures=3,
    breaker_window=10,
    breaker_open_s=0.2,
    breaker_open_max_s=1.0,
)
BOUNDS = Bounds(max_deviation_bps=1000, max_slots_behind=150, max_slots_ahead=50)
TERMS = Terms(timeout_s=0.5, deadline_s=2.0, retries=0, retry_wait_s=0.01, pair_gap_s=0.5, bounds=BOUNDS)


@functools.cache
def still_pools() -> tuple[Pool, ...]:
    return tuple(offline_engine(load_registry(), 7)[1].values())


class StillMarket:
    """Pools that do not move."""

    def pools(self) -> Sequence[Pool]:
        return still_pools()

    def slot(self) -> int:
        return SLOT


def providers_at(url: str, names: Sequence[str]) -> list[Provider]:
    made: dict[str, Provider] = {
        "jupiter_lite": Jupiter("jupiter_lite", f"{url}/jupiter_lite"),
        "jupiter_pro": Jupiter("jupiter_pro", f"{url}/jupiter_pro", "a-secret-key"),
        "dflow": DFlow("dflow", f"{url}/dflow"),
        "raydium": Raydium("raydium", f"{url}/raydium"),
    }
    return [made[name] for name in names]


@dataclass
class Stage:
    server: SimulatedProviders
    desk: Desk
    fetcher: Fetcher

    @property
    def faults(self) -> Faults:
        return self.server.faults

    def fail(self, name: str, fault: Fault | None) -> None:
        if fault is None:
            self.faults.only.pop(name, None)
        else:
            self.faults.only[name] = fault

    async def ask(self, pair: Pair = SOL_USDC, known: Callable[[Ask], Known] | None = None) -> PairSaid | None:
        chosen = self.desk.take(pair, urgent=False)
        if chosen is None:
            return None
        return await self.desk.ask(pair, chosen, 0.0, known or (lambda _ask: Known((), SLOT)))


@asynccontextmanager
async def stage(
    names: Sequence[str] = ("jupiter_lite",), *, terms: Terms = TERMS, patience: Patience = PATIENCE
) -> AsyncIterator[Stage]:
    """Serve and ask."""
    server = SimulatedProviders(StillMarket(), Faults(seed=1))
    url = await server.start()
    try:
        async with Fetcher() as fetcher:
            desk = Desk(
                [(provider, patience) for provider in providers_at(url, names)],
                terms,
                SplitCache(time.monotonic_ns, 30.0),
                fetcher,
                clock=time.monotonic_ns,
                draw=lambda: 0.5,
            )
            yield Stage(server, desk, fetcher)
    finally:
        await server.stop()
