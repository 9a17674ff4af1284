"""Upkeep between trades: a wallet's lamports and its wrapped SOL are balanced again by a transaction of their own.

Stake pools take lamports and wrapped SOL comes back, or the other way round, so one of the two runs out over time. When
a wallet has too little of one, its lane takes no more plans, what is on its way ends, its balance is read from the
chain, one transaction is sent and waited for, its balance is read again, and the lane is opened. One wallet at a time.
Nothing is remembered: a crash anywhere leaves the chain as it is, and the next look begins with what it holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from solders.compute_budget import set_compute_unit_limit

from markets.solana.landing.balances import read_balances
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import Priority
from markets.solana.transactions.fees import priority_fee
from markets.solana.venues.shape import TOKEN_PROGRAM
from markets.solana.wallets import Lanes, Signer, WalletBalance, WalletError
from markets.solana.wallets.sending import Confirmed, NotAllowed, Unclear, send_and_wait
from markets.solana.wallets.upkeep import FEE, Bounds, Step, balance_step
from markets.tokens import SOL_MINT
from pipeline.health import Health
from pipeline.logs import Log

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_CAUSE = "upkeep"
UNITS = 100_000
"""Compute units that a step may use. Opening an account takes most of them, some 1,500 for each try at its address."""
_MICRO_LAMPORTS = 10_000
"""Price of the first try, millionths of a lamport per compute unit; twice that after each failure."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the configuration says. All but the last in lamports."""

    plan: int
    """the largest plan"""
    kept: int
    """stays in a system account beyond its rent"""
    max_micro_lamports: int
    """most that is offered per compute unit, millionths of a lamport"""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long is waited for what, in seconds."""

    first_s: float = 60.0
    """before the first look: what an earlier process had sent has landed or run out by then"""
    look_s: float = 1.0
    """between two looks at the known balances, which cost nothing"""
    drain_s: float = 20.0
    """for the plans on their way, before the wallet is left alone again"""
    read_s: float = 10.0
    """for a node that tells a balance as new as what is known"""
    pause_s: float = 10.0
    """after a step, before the same wallet may have another one"""
    again_s: float = 60.0
    """after a failure; doubles with each more, up to"""
    again_max_s: float = 1_800.0
    unclear_s: float = 90.0
    """a lane stays closed this long where nobody tells what became of its transaction: it has run out by then"""


class Upkeep:
    """Keeps every wallet's SOL balanced between its two forms, while trading is allowed."""

    def __init__(
        self,
        lanes: Lanes,
        signers: Mapping[str, Signer],
        terms: Terms,
        *,
        allowed: Callable[[], bool],
        log: Log,
        health: Health,
        pace: Pace | None = None,
    ) -> None:
        """`allowed` tells whether a transaction may be sent now; in doubt it says no."""
        self._lanes = lanes
        self._signers = signers
        self._terms = terms
        self._allowed = allowed
        self._log = log
        self._health = health
        self._pace = pace or Pace()
        self._not_before: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self.done = 0
        """Transactions that landed."""
        self.failed = 0
        """Tries that came to nothing."""
        health.collectors.append(self.collect)

    @asynccontextmanager
    async def beside(self, rpc: RpcPool) -> AsyncIterator[None]:
        """Look after the wallets over these endpoints for as long as the block runs."""
        running = asyncio.create_task(self._run(rpc))
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def collect(self) -> Iterator[Metric]:
        """Yield how often wallets were balanced, as Prometheus counts it."""
        from prometheus_client.core import CounterMetricFamily

        tries = CounterMetricFamily(
            "pipeline_wallet_upkeep", "Tries to balance a wallet's SOL, by how they ended", labels=["outcome"]
        )
        tries.add_metric(["done"], self.done)
        tries.add_metric(["failed"], self.failed)
        yield tries

    async def _run(self, rpc: RpcPool) -> None:
        await asyncio.sleep(self._pace.first_s)
        while True:
            for wallet in self._lanes.addresses:
                if self._due(wallet):
                    await self._keep(rpc, wallet)
            await asyncio.sleep(self._pace.look_s)

    def _due(self, wallet: str) -> bool:
        """Tell whether a wallet needs a step, by what is known of it, and may have one now."""
        known = self._lanes.balance(wallet)
        if known is None or self._step(wallet, known) is None:
            if self._failures.pop(wallet, 0):
                self._health.recovered(cause=f"{_CAUSE} {wallet}")
            return False
        return time.monotonic() >= self._not_before.get(wallet, 0.0) and self._allowed()

    def _step(self, wallet: str, balance: WalletBalance) -> Step | None:
        cost = FEE + priority_fee(UNITS, self._price(wallet))
        return balance_step(wallet, balance, Bounds(self._terms.plan, self._terms.kept, cost))

    def _price(self, wallet: str) -> int:
        return min(_MICRO_LAMPORTS << self._failures.get(wallet, 0), self._terms.max_micro_lamports)

    async def _keep(self, rpc: RpcPool, wallet: str) -> None:
        """Balance a wallet on a lane that is closed meanwhile, or say why not."""
        self._lanes.close(wallet)
        try:
            self._not_before[wallet] = time.monotonic() + self._pace.pause_s
            await self._balance(rpc, wallet)
        except NotAllowed:
            self._not_before[wallet] = 0.0  # as soon as it is allowed again
        except (RpcError, WalletError, TimeoutError) as error:
            self._failed(wallet, error)
            if isinstance(error, Unclear):
                await asyncio.sleep(self._pace.unclear_s)
            with suppress(RpcError, TimeoutError):
                await self._read(rpc, wallet, 0)  # it may have landed all the same
        except Exception as error:
            self._log.exception("a wallet cannot be balanced", wallet=wallet)
            self._failed(wallet, error)
        finally:
            self._lanes.reopen(wallet)

    async def _balance(self, rpc: RpcPool, wallet: str) -> None:
        if not await self._drained(wallet):
            self._not_before[wallet] = time.monotonic() + self._pace.again_s
            self._log.info("a wallet is not balanced now: its plans do not end", wallet=wallet)
            return
        known = self._lanes.balance(wallet)
        step = self._step(wallet, await self._read(rpc, wallet, known.slot if known is not None else 0))
        if step is None or not self._allowed():
            return
        self._log.info("a wallet is balanced", wallet=wallet, does=step.does)
        sent = await self._sent(rpc, step)
        self.done += 1
        if self._failures.pop(wallet, 0):
            self._health.recovered(cause=f"{_CAUSE} {wallet}")
        after = await self._read(rpc, wallet, sent.slot)
        self._log.info(
            "a wallet was balanced",
            wallet=wallet,
            signature=sent.signature,
            lamports=after.lamports,
            wrapped=after.tokens.get(SOL_MINT, 0),
        )

    async def _drained(self, wallet: str) -> bool:
        """Wait until nothing is on its way from a wallet; return False where that takes too long."""
        until = time.monotonic() + self._pace.drain_s
        while time.monotonic() < until:
            if self._lanes.settled(wallet):
                return True
            await asyncio.sleep(0.05)
        return False

    async def _sent(self, rpc: RpcPool, step: Step) -> Confirmed:
        return await send_and_wait(
            rpc,
            self._signers[step.wallet],
            [set_compute_unit_limit(UNITS), *step.instructions],
            micro_lamports=self._price(step.wallet),
            allowed=self._allowed,
        )

    async def _read(self, rpc: RpcPool, wallet: str, slot: int) -> WalletBalance:
        """Learn a wallet's SOL as it stood at a slot or later, and return what it holds."""
        async with asyncio.timeout(self._pace.read_s):
            while True:
                asked = {SOL_MINT: TOKEN_PROGRAM}
                found = (await read_balances(rpc, [wallet], asked, priority=Priority.NORMAL))[wallet]
                if found.slot >= slot:
                    break
                await asyncio.sleep(0.1)
        known = self._lanes.balance(wallet)
        others = {mint: held for mint, held in known.tokens.items() if mint != SOL_MINT} if known is not None else {}
        found = replace(found, tokens=others | dict(found.tokens))
        self._lanes.learn(wallet, found)
        return found

    def _failed(self, wallet: str, error: Exception) -> None:
        failures = self._failures[wallet] = self._failures.get(wallet, 0) + 1
        self.failed += 1
        again_s = min(self._pace.again_s * 2.0 ** (failures - 1), self._pace.again_max_s)
        self._not_before[wallet] = time.monotonic() + again_s
        why = str(error) or "it took too long"
        self._log.warning("a wallet was not balanced", wallet=wallet, why=why, again_s=again_s)
        self._health.degraded(f"wallet {wallet} was not balanced: {why}", cause=f"{_CAUSE} {wallet}")
