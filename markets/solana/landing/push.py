"""Handing a transaction over again: a bundle that was not taken, and RPC where the block engine stays silent.

It is the same transaction each time, so a chain that has it takes no second one. Once trading is halted, nothing is
handed over any more.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from markets.solana.landing.link import ChainLink
from markets.solana.landing.prepare import ChainPrepared
from markets.solana.landing.settings import LandingSettings
from markets.solana.landing.tracker import Followed
from markets.solana.rpc.accounts import Malformed
from markets.solana.rpc.errors import AttemptFailed, NotAllowed, RateLimited, Refused, RpcError
from markets.solana.rpc.line import Answer

_BACKOFF_S, _BACKOFF_MAX_S = 0.05, 2.0
# What a node's preflight says where another node may think otherwise, or where it has landed.
_PASSING = ("Blockhash not found", "already been processed")


@dataclass(slots=True)
class Pusher:
    """Hands transactions over until their fate is known."""

    settings: LandingSettings
    link: Callable[[], ChainLink | None]
    allowed: Callable[[], bool]
    """Whether trading is allowed now."""
    slot: Callable[[], int]
    slot_reached: Callable[[int], Awaitable[None]]
    warn: Callable[[str], object] = lambda _: None
    draw: random.Random = field(default_factory=random.Random)

    async def push(
        self,
        prepared: ChainPrepared,
        followed: Followed,
        bundle: asyncio.Future[Answer] | None,
        rpc: asyncio.Future[Answer] | None,
    ) -> None:
        """Go on from what was written at the submission, until cancelled or until nothing is left to be done."""
        parts = []
        if rpc is not None:
            parts.append(self._by_rpc(prepared, followed, rpc))
        if bundle is not None:
            parts.append(self._by_bundle(prepared, followed, bundle, fallback=rpc is None))
        try:
            await asyncio.gather(*parts)
        except Exception as error:
            # It is followed all the same; but nobody sends it again, and nobody else would say so.
            self.warn(f"a transaction is not handed over any more: {error!r}")

    async def _by_bundle(
        self, prepared: ChainPrepared, followed: Followed, answer: asyncio.Future[Answer], *, fallback: bool
    ) -> None:
        since = self.slot()
        taking = asyncio.ensure_future(self._taken(prepared, followed, answer))
        silence = asyncio.ensure_future(self.slot_reached(since + self.settings.fallback_slots))
        try:
            # Refused for good it will not land as a bundle; taken, or with no answer, it is given its slots.
            done, _ = await asyncio.wait({taking, silence}, return_when=asyncio.FIRST_COMPLETED)
            if taking in done and taking.result():
                await silence
            if fallback and not followed.seen_ns:
                await self._by_rpc(prepared, followed, None)
        finally:
            taking.cancel()
            silence.cancel()

    async def _taken(self, prepared: ChainPrepared, followed: Followed, answer: asyncio.Future[Answer]) -> bool:
        """Send the bundle again until the engine has taken it; return False where it refuses it for good."""
        failed = 0
        waiting: Awaitable[Answer] | None = answer
        while True:
            wait_s, link = 0.0, self.link()
            engine = link.engine if link is not None else None
            try:
                if waiting is not None and engine is not None:
                    engine.sent(await asyncio.wait_for(waiting, engine.settings.timeout_s))
                    followed.taken = True
                    return True
            except TimeoutError:
                followed.bundle_detail = "the block engine did not answer sendBundle in time"
            except Refused as refused:
                followed.bundle_detail = str(refused)
                return False
            except AttemptFailed as failure:
                followed.bundle_detail = str(failure)
                if isinstance(failure, RateLimited):
                    wait_s = min(failure.retry_after_s or 0.0, _BACKOFF_MAX_S)
            limit_s = min(_BACKOFF_S * 2.0**failed, _BACKOFF_MAX_S)
            failed += 1
            await asyncio.sleep(max(wait_s, self.draw.uniform(limit_s / 2, limit_s)))
            waiting = None
            if engine is not None and self.allowed() and engine.may_send():
                waiting = engine.lines.post(prepared.bundle_body, timeout_s=engine.settings.timeout_s, may=self.allowed)

    async def _by_rpc(self, prepared: ChainPrepared, followed: Followed, answer: asyncio.Future[Answer] | None) -> None:
        """Send by RPC, and again after every pause; what was not written by RPC yet is simulated the first time."""
        simulated = answer is not None
        if answer is not None:
            # What becomes of the first one shows on the chain.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            await self._pause()
        while not followed.fate.done():
            link = self.link()
            if link is not None and self.allowed():
                before, followed.by_rpc = followed.by_rpc, True
                options = {
                    "encoding": "base64",
                    "skipPreflight": simulated,
                    "preflightCommitment": "processed",
                    "maxRetries": 0,
                }
                encoded = base64.b64encode(prepared.raw).decode()
                answers = await link.rpc.everywhere(
                    "sendTransaction", [encoded, options], read=_signature, may=self.allowed
                )
                if any(isinstance(one, str) for one in answers):
                    simulated = True
                elif all(isinstance(one, NotAllowed) for one in answers):
                    followed.by_rpc = before  # nothing was written
                elif all(_for_good(one) for one in answers):
                    # No node passed it on. It would fail now, so it is not sent: its bundle may still land.
                    followed.by_rpc = before
                    followed.exhausted = True
                    self.warn(f"not sent by RPC: {answers[0]}")
                    return
            await self._pause()

    async def _pause(self) -> None:
        pause_s = self.settings.rebroadcast_s
        await asyncio.sleep(self.draw.uniform(pause_s * 0.75, pause_s * 1.25))


def _for_good(answer: str | RpcError) -> bool:
    return isinstance(answer, Refused) and not any(words in str(answer) for words in _PASSING)


def _signature(result: Any) -> str:
    if not isinstance(result, str) or not 64 <= len(result) <= 88:
        raise Malformed("it is no signature")
    return result
