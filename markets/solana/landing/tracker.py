"""Follows transactions of ours until it is known what became of each: one look at the chain for all of them.

It looks when a slot comes, when a websocket says that something is confirmed, and otherwise after pauses that grow,
with jitter. A transaction landed when its status is at the commitment. Its bundle failed when the block engine says so
and nothing was sent by RPC. It ran out when the chain's final height is beyond its blockhash, and a node that is as far
as any knows no status of it: a height that is not final may come back after a fork. Everything else means: look again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from markets.solana.landing.engine import BlockEngine, BundleState
from markets.solana.landing.settings import Commitment, LandingSettings
from markets.solana.rpc.accounts import Malformed, context_slot, slot_number
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import Priority

log = logging.getLogger(__name__)

MAX_STATUSES = 256
"""Signatures of one getSignatureStatuses call."""
FINAL_AFTER = 31
"""Blocks that stand on a final one."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0
_PLANS_FIRST_S = 0.015
_RANKS: dict[str, int] = {"processed": 0, "confirmed": 1, "finalized": 2}

Fate = Literal["landed", "bundle_failed", "ran_out"]


@dataclass(slots=True)
class Followed:
    """A transaction whose end is not known."""

    signature: str
    last_valid_block_height: int
    fate: asyncio.Future[Fate]
    bundle: str = ""
    """Bundle that it was sent in; empty where there is none."""
    taken: bool = False
    """True once the block engine has taken the bundle."""
    by_rpc: bool = False
    """True once it may have been sent by RPC: then a failed bundle decides nothing."""
    exhausted: bool = False
    """True once no node would pass it on: then a bundle that the engine does not know is lost for good."""
    since_s: float = field(default_factory=time.monotonic)
    seen_ns: int = 0
    """Wall-clock time when it was first seen in a block; 0 while it is in none."""
    bundle_state: BundleState | None = None
    bundle_slot: int = 0
    """At which slot the engine said so."""
    bundle_detail: str = ""

    @property
    def failed(self) -> bool:
        """Tell whether nothing of it is under way any more, by all that the engine and the nodes say."""
        # An engine that does not know a bundle may not know it yet.
        lost = self.bundle_state == "Failed" or (self.bundle_state == "Invalid" and self.exhausted)
        return lost and not self.by_rpc and not self.seen_ns


@dataclass(frozen=True, slots=True)
class _Seen:
    slot: int
    commitment: Commitment


class Tracker:
    """Looks for all transactions together. `run` it as a task; `poke` it when there may be news."""

    def __init__(
        self,
        rpc: RpcPool,
        engine: BlockEngine | None,
        settings: LandingSettings,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        height: Callable[[], int] = lambda: 1 << 62,
        draw: random.Random | None = None,
    ) -> None:
        """`height` is the most that the block height can be: below it the chain is not asked whether one ran out."""
        self._rpc = rpc
        self._engine = engine
        self._settings = settings
        self._wall_ns = wall_ns
        self._height = height
        self._draw = draw or random.Random()
        self._followed: dict[str, Followed] = {}
        self._some = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def count(self) -> int:
        """Return how many transactions are followed."""
        return len(self._followed)

    def follow(self, one: Followed) -> None:
        """Follow a transaction until its fate is known, or until it is dropped."""
        self._followed[one.signature] = one
        self._some.set()

    def drop(self, signature: str) -> None:
        """Follow it no more."""
        self._followed.pop(signature, None)

    def poke(self) -> None:
        """Look now."""
        if self._followed:
            self._news.set()

    async def run(self) -> None:
        """Look until cancelled."""
        pause_s = _FIRST_PAUSE_S
        while True:
            if not self._followed:
                self._some.clear()
                await self._some.wait()
                pause_s = _FIRST_PAUSE_S
            poked = True
            try:
                async with asyncio.timeout(self._draw.uniform(pause_s / 2, pause_s)):
                    await self._news.wait()
            except TimeoutError:
                poked = False
            else:
                # The word of a slot comes with the slot's plans, and they have no time. Then one look serves all words.
                await asyncio.sleep(_PLANS_FIRST_S)
            self._news.clear()
            pause_s = _FIRST_PAUSE_S if poked else min(pause_s * 1.5, _LONGEST_PAUSE_S)
            try:
                await self.look()
            except Exception:
                # A fault of ours, or an answer that nobody thought of: all that is under way depends on this task.
                log.exception("what became of transactions could not be looked at")

    async def look(self) -> None:
        """Look once for everything that is followed."""
        followed = list(self._followed.values())
        statuses, _ = await asyncio.gather(self._statuses_of(followed), self._look_at_bundles(followed))
        if statuses is None:
            return
        wanted = _RANKS[self._settings.commitment]
        for one in followed:
            seen = statuses.get(one.signature)
            if seen is None:
                one.seen_ns = 0  # never there, or gone with a fork
            else:
                one.seen_ns = one.seen_ns or self._wall_ns()
                if _RANKS[seen.commitment] >= wanted:
                    self._decide(one, "landed")
        await self._look_at_failed([one for one in followed if one.failed and not one.fate.done()])
        await self._look_at_heights([one for one in followed if not one.fate.done() and not one.seen_ns])

    async def _look_at_failed(self, failed: Sequence[Followed]) -> None:
        """Believe that a bundle failed where no node knows its transaction that has come as far as the engine."""
        if not failed:
            return
        newest = max(one.bundle_slot for one in failed)
        try:
            seen = await self.statuses([one.signature for one in failed], history=True, min_slot=newest)
        except RpcError:
            return
        for one in failed:
            # Sent twice, a bundle may have landed and failed.
            if one.signature not in seen and not one.by_rpc:
                self._decide(one, "bundle_failed")

    def _decide(self, one: Followed, fate: Fate) -> None:
        self._followed.pop(one.signature, None)
        if not one.fate.done():
            one.fate.set_result(fate)

    async def _statuses_of(self, followed: Sequence[Followed]) -> dict[str, _Seen] | None:
        """Return where the transactions stand, those of no status left out; None where no node tells."""
        late_s = time.monotonic() - self._settings.confirm_timeout_s
        history = any(one.since_s < late_s for one in followed)
        try:
            return await self.statuses([one.signature for one in followed], history=history)
        except RpcError:
            return None

    async def statuses(self, signatures: Sequence[str], *, history: bool, min_slot: int = 0) -> dict[str, _Seen]:
        """Return where transactions stand, those without a status left out.

        Raises:
            RpcError: if no node tells.
        """
        found: dict[str, _Seen] = {}
        for start in range(0, len(signatures), MAX_STATUSES):
            asked = list(signatures[start : start + MAX_STATUSES])
            options = {"searchTransactionHistory": True} if history else {}
            found |= await self._rpc.call(
                "getSignatureStatuses",
                [asked, options],
                read=partial(_statuses, asked),
                priority=Priority.URGENT,
                min_slot=min_slot,
            )
        return found

    async def _look_at_bundles(self, followed: Sequence[Followed]) -> None:
        asked = [one.bundle for one in followed if one.bundle and not one.seen_ns and one.bundle_state != "Failed"]
        if self._engine is None or not asked:
            return
        try:
            slot, states = await self._engine.states(asked)
        except RpcError:
            return
        for one in followed:
            if one.bundle in states:
                one.bundle_state, one.bundle_slot = states[one.bundle], slot

    async def _look_at_heights(self, missing: Sequence[Followed]) -> None:
        due = [one for one in missing if one.last_valid_block_height + FINAL_AFTER < self._height()]
        if not due:
            return
        try:
            out = await self.ran_out([(one.signature, one.last_valid_block_height) for one in due])
        except RpcError:
            return
        for one in due:
            if one.signature in out:
                self._decide(one, "ran_out")

    async def look_back(self, one: Followed) -> None:
        """Look once with the whole history for a transaction that may have ended long ago.

        Raises:
            RpcError: if no node tells.
        """
        asked = one.signature, one.last_valid_block_height
        if await self.statuses([one.signature], history=True):
            await self.look()
        elif await self.ran_out([asked]) and not one.fate.done():
            one.fate.set_result("ran_out")

    async def ran_out(self, asked: Sequence[tuple[str, int]]) -> set[str]:
        """Return which of (signature, last valid block height) have no status and can have none any more.

        Raises:
            RpcError: if no node tells.
        """
        height = await self._rpc.call("getBlockHeight", [{"commitment": "finalized"}], read=slot_number)
        if height > self._height():
            # Further than this chain can be: the answer names no slot to hold it against, and is of another chain.
            return set()
        beyond = [signature for signature, last in asked if last < height]
        if not beyond:
            return set()
        # A node that is behind the one that told the height may not have seen it land.
        newest = max(await self._rpc.get_slot(priority=Priority.URGENT), self._rpc.slots.best())
        seen = await self.statuses(beyond, history=True, min_slot=newest)
        return {signature for signature in beyond if signature not in seen}


def _statuses(asked: Sequence[str], result: Any) -> dict[str, _Seen]:
    context_slot(result)
    values = result.get("value")
    if not isinstance(values, list) or len(values) != len(asked):
        raise Malformed(f"it does not hold {len(asked)} statuses")
    found: dict[str, _Seen] = {}
    for signature, value in zip(asked, values, strict=True):
        if value is None:
            continue
        commitment = value.get("confirmationStatus") if isinstance(value, dict) else None
        if commitment not in ("processed", "confirmed", "finalized"):
            raise Malformed("a status without its commitment")
        found[signature] = _Seen(slot_number(value.get("slot")), commitment)
    return found
