"""A websocket that says when transactions are confirmed: a hint to look, sooner than the next look would be.

Nothing depends on it. A connection that breaks is made again, and what was subscribed to is subscribed to again; what
fell in between is found by polling.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable
from typing import Any

import aiohttp

from markets.solana.landing.settings import Commitment
from markets.solana.rpc.pool import RpcPool

_MAX_MESSAGE_BYTES = 1 << 20
_BACKOFF_S, _BACKOFF_MAX_S = 0.1, 5.0


class SignatureSocket:
    """Keeps `signatureSubscribe` alive for the signatures that are followed. `run` it as a task."""

    def __init__(
        self,
        rpc: RpcPool,
        commitment: Commitment,
        heard: Callable[[str], object],
        *,
        draw: random.Random | None = None,
        ping_s: float = 5.0,
    ) -> None:
        """`heard` is told each signature that the node says is at the commitment."""
        self._rpc = rpc
        self._commitment = commitment
        self._heard = heard
        self._draw = draw or random.Random()
        self._ping_s = ping_s
        self._wanted: dict[str, None] = {}
        # What to ask of the node: to tell of a signature, or to forget a subscription.
        self._unasked: asyncio.Queue[str | int] = asyncio.Queue()
        self._told: dict[int, str] = {}
        self._subscriptions: dict[str, int] = {}
        self.connections = 0
        self.notifications = 0

    def want(self, signature: str) -> None:
        """Subscribe to a signature, now or when there is a connection."""
        if signature not in self._wanted:
            self._wanted[signature] = None
            self._unasked.put_nowait(signature)

    def drop(self, signature: str) -> None:
        """Forget a signature. The node does so by itself once it has told, and never where there is nothing to tell."""
        self._wanted.pop(signature, None)
        subscription = self._subscriptions.pop(signature, None)
        if subscription is not None:
            self._told.pop(subscription, None)
            self._unasked.put_nowait(subscription)

    async def run(self) -> None:
        """Hold a connection until cancelled."""
        failed = 0
        while True:
            begun = asyncio.get_running_loop().time()
            # It is a hint: polling finds what a broken connection, or one of odd words, would have told.
            with contextlib.suppress(Exception):
                await self._hold()
            failed = 0 if asyncio.get_running_loop().time() - begun > _BACKOFF_MAX_S else failed + 1
            limit = min(_BACKOFF_S * 2.0 ** min(failed, 16), _BACKOFF_MAX_S)
            await asyncio.sleep(self._draw.uniform(limit / 2, limit))

    async def _hold(self) -> None:
        usable = [one for one in self._rpc.endpoints if not one.other_chain and not self._rpc.lagging(one)]
        if not usable:
            return
        endpoint = min(usable, key=lambda one: one.cost)
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(3.0):
                socket = await session.ws_connect(
                    endpoint.settings.socket_url, heartbeat=self._ping_s, max_msg_size=_MAX_MESSAGE_BYTES
                )
            self.connections += 1
            self._unasked = asyncio.Queue()
            self._told, self._subscriptions = {}, {}
            for signature in self._wanted:
                self._unasked.put_nowait(signature)
            asking: dict[int, str] = {}
            asker = asyncio.create_task(self._ask(socket, asking))
            try:
                await self._listen(socket, asking)
            finally:
                asker.cancel()
                await socket.close()

    async def _ask(self, socket: aiohttp.ClientWebSocketResponse, asking: dict[int, str]) -> None:
        number = 0
        while True:
            wanted = await self._unasked.get()
            number += 1
            request: dict[str, object] = {"jsonrpc": "2.0", "id": number}
            if isinstance(wanted, int):
                request |= {"method": "signatureUnsubscribe", "params": [wanted]}
            elif wanted in self._wanted:
                asking[number] = wanted
                request |= {"method": "signatureSubscribe", "params": [wanted, {"commitment": self._commitment}]}
            else:
                continue
            await socket.send_str(json.dumps(request))

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse, asking: dict[int, str]) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                return
            found: Any = json.loads(message.data)
            if not isinstance(found, dict):
                return
            if type(found.get("id")) is int:
                signature, subscription = asking.pop(found["id"], ""), found.get("result")
                if signature and type(subscription) is int:
                    self._told[subscription], self._subscriptions[signature] = signature, subscription
                    if signature not in self._wanted:
                        self.drop(signature)
                continue
            params = found.get("params")
            id_ = params.get("subscription") if isinstance(params, dict) else None
            signature = self._told.pop(id_, "") if type(id_) is int else ""
            if signature:
                self._subscriptions.pop(signature, None)
                self.notifications += 1
                self._heard(signature)
