"""What landing costs now, and a blockhash to sign with: looked up once per slot, whoever asks.

Within a slot every plan sees the same figures, so what is offered is a function of the plan and the slot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from solders.pubkey import Pubkey

from markets.limits import Clock
from markets.solana.landing.blockhashes import LIFETIME, Blockhash, BlockhashBook
from markets.solana.landing.engine import BlockEngine
from markets.solana.landing.settings import LandingSettings
from markets.solana.rpc.accounts import Malformed, context_slot, is_address
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import Priority

T = TypeVar("T")
_KEPT_SLOTS = 4


@dataclass(frozen=True, slots=True)
class Facts:
    """What was looked up for a slot."""

    slot: int
    tip_floor: int
    """Lamports; 0 where nobody tells."""


class FeeMarket:
    """Looks things up, each once per slot, and remembers blockhashes."""

    def __init__(
        self,
        rpc: RpcPool,
        engine: BlockEngine | None,
        settings: LandingSettings,
        *,
        warn: Callable[[str], object] = lambda _: None,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        """`engine` tells the tip floor, where there is one."""
        self.book = BlockhashBook()
        self._rpc = rpc
        self._engine = engine
        self._settings = settings
        self._warn = warn
        self._clock = clock
        self._running: dict[tuple[int, tuple[str, ...]], asyncio.Task[Any]] = {}
        self._facts = Facts(0, 0)
        self._looked_ns: int | None = None

    async def facts(self, slot: int) -> Facts:
        """Return what holds for a slot; asked ahead of time, the answer is there when it is needed."""
        if self._looked_ns is not None and self._clock() - self._looked_ns < self._settings.look_s * 1e9:
            return self._facts
        return await self._once(slot, (), self._look(slot))

    async def samples(self, slot: int, addresses: Sequence[str]) -> tuple[int, ...] | None:
        """Return the lowest prices lately paid for writing these accounts, millionths of a lamport per compute unit.

        None where no node tells.
        """
        asked = tuple(sorted(addresses))
        return await self._once(slot, asked, self._samples(asked))

    def blockhash(self, slot: int) -> Blockhash | None:
        """Return the blockhash to sign with at a slot; None where none lives long enough."""
        return self.book.choose(slot, self._settings.lifetime_slots)

    def close(self) -> None:
        """Call off what is being asked."""
        for task in self._running.values():
            task.cancel()

    async def _once(self, slot: int, what: tuple[str, ...], work: Coroutine[Any, Any, T]) -> T:
        task: asyncio.Task[T] | None = self._running.get((slot, what))
        if task is None:
            task = self._running[slot, what] = asyncio.ensure_future(work)
            newest = max(known for known, _ in self._running)
            for key in [key for key in self._running if key[0] < newest - _KEPT_SLOTS]:
                self._running.pop(key)
        else:
            work.close()
        return await asyncio.shield(task)

    async def _look(self, slot: int) -> Facts:
        _, floor = await asyncio.gather(self._look_at_blockhash(), self._look_at_tips())
        self._facts = Facts(slot, floor)
        self._looked_ns = self._clock()
        return self._facts

    async def _look_at_blockhash(self) -> None:
        try:
            told = await self._rpc.call(
                "getLatestBlockhash", [{"commitment": "confirmed"}], read=_blockhash, priority=Priority.URGENT
            )
        except RpcError as error:
            self._warn(f"no blockhash: {error}")
            return
        self.book.note(*told)

    async def _look_at_tips(self) -> int:
        if self._engine is None or self._settings.route == "rpc":
            return 0
        try:
            return await self._engine.tip_floor(self._settings.floor_percentile)
        except RpcError as error:
            self._warn(f"no tip floor: {error}")
            return 0

    async def _samples(self, addresses: tuple[str, ...]) -> tuple[int, ...] | None:
        try:
            return await self._rpc.call(
                "getRecentPrioritizationFees", [list(addresses)], read=_samples, priority=Priority.URGENT
            )
        except RpcError as error:
            self._warn(f"no priority fees: {error}")
            return None


def _blockhash(result: Any) -> tuple[str, int, int]:
    slot = context_slot(result)
    value = result.get("value")
    if not isinstance(value, dict):
        raise Malformed("it holds no blockhash")
    found, height = value.get("blockhash"), value.get("lastValidBlockHeight")
    if not isinstance(found, str) or not is_address(found) or type(height) is not int or height < LIFETIME:
        raise Malformed("it holds no blockhash that can be")
    try:
        Pubkey.from_string(found)
    except ValueError:
        raise Malformed("it holds a blockhash that is not 32 bytes") from None
    return found, height, slot


def _samples(result: Any) -> tuple[int, ...]:
    if not isinstance(result, list) or len(result) > 1_000:
        raise Malformed("it is no list of fees")
    found: list[int] = []
    for one in result:
        fee = one.get("prioritizationFee") if isinstance(one, dict) else None
        # Whoever asks for no units may offer any price that 64 bits hold.
        if type(fee) is not int or not 0 <= fee < 1 << 64:
            raise Malformed("it holds no fees")
        found.append(fee)
    return tuple(found)
