"""A simulated Solana node: JSON-RPC, websocket and block engine on one loopback port, with faults to switch on.

Over a `Chain` it serves everything; over a `ChainView`, an offline market without transactions, accounts and slots.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import msgspec
from aiohttp import WSMsgType, web

from localnet.chain.chain import Chain
from localnet.chain.records import Block
from localnet.chain_view import ChainView
from localnet.node_methods import answer
from localnet.services import jsonrpc
from localnet.services.block_engine import BUSY, BlockEngine
from localnet.services.errors import MethodError
from localnet.services.faults import Faults, set_values, values_of
from localnet.services.params import Params
from localnet.services.state import NodeState
from localnet.services.subscriptions import News, Subscriptions

__all__ = ["Faults", "RpcNode"]

HOST = "127.0.0.1"
MAX_BODY_BYTES = 1 << 20
MAX_UNSENT = 10_000
"""Notifications that wait for a client that does not read; then its connection is cut."""
BUNDLES = "/api/v1/bundles"
_ENGINE_PATHS = (
    BUNDLES,
    "/api/v1/getBundleStatuses",
    "/api/v1/getInflightBundleStatuses",
    "/api/v1/getTipAccounts",
    "/api/v1/transactions",
)


class RpcNode:
    """One node over a chain. `start` binds the port; `told` passes a new slot on to the subscribers."""

    def __init__(self, chain: ChainView | Chain, faults: Faults | None = None, *, seed: int = 1) -> None:
        """Prepare the routes."""
        self.faults = faults or Faults()
        self.state = NodeState(chain, self.faults, seed)
        self.state.received = self._received
        self.engine = BlockEngine(self.state)
        self.calls: Counter[str] = Counter()
        """Requests by method, for tests."""
        self._news = News(self.state)
        self._clients: set[_Client] = set()
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> str:
        """Serve on a port of the loopback, 0 for a free one; return the address."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/", self._post)
        app.router.add_get("/", self._connect)
        for path in _ENGINE_PATHS:
            app.router.add_post(path, self._post_engine)
        app.router.add_get(BUNDLES + "/tip_floor", self._tip_floor)
        app.router.add_put("/faults", self._set_faults)
        app.router.add_get("/faults", self._tell_faults)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, port, reuse_address=True).start()
        return f"http://{HOST}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Cut every connection and close the port."""
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def cut(self) -> None:
        """Cut every websocket without a goodbye."""
        self.state.happened["cut"] += bool(self._clients)
        for client in self._clients:
            client.cut()

    def told(self, block: Block | None = None) -> None:
        """Notify the subscribers of what is new on the chain, as this node sees it; a chain gives its block."""
        if block is not None:
            self.state.take(block)
            self.engine.note()
        if self.state.random.random() < self.faults.cut_chance:
            self.cut()
        self._news.look()
        if self.faults.silent:
            return
        for client in self._clients:
            client.subscriptions.tell(self._news)

    @property
    def subscriptions(self) -> int:
        """Return how many subscriptions there are."""
        return sum(len(client.subscriptions) for client in self._clients)

    # HTTP

    async def _set_faults(self, request: web.Request) -> web.Response:
        """Switch faults: a JSON object of their names; `{"cut": true}` cuts the websockets."""
        try:
            changes = msgspec.json.decode(await request.read(), type=dict[str, object])
            cut = changes.pop("cut", False)
            set_values(self._fault_sources(), changes)
        except (ValueError, RecursionError) as error:
            return web.Response(status=400, text=str(error))
        if cut:
            self.cut()
        return web.Response(status=204)

    async def _tell_faults(self, _request: web.Request) -> web.Response:
        """Tell which faults are on, and how often each took effect."""
        faults: dict[str, object] = {}
        happened = Counter(self.state.happened)
        for source in self._fault_sources():
            faults |= values_of(source)
            happened.update(getattr(source, "happened", {}))
        return _json({"faults": faults, "happened": {name: count for name, count in happened.items() if count}})

    def _fault_sources(self) -> list[object]:
        """Return what holds the faults: the node's, and its chain's."""
        chain = self.state.ledger
        return [self.faults] if chain is None else [self.faults, chain.faults]

    async def _post(self, request: web.Request) -> web.Response:
        """Answer JSON-RPC, or fail as the faults say."""
        body = await request.read()

        def reply() -> web.Response:
            if self.faults.behind_slots:
                self.state.happened["behind_slots"] += 1
            answered = jsonrpc.respond(body, self._call)
            return web.Response(content_type="application/json") if answered is None else _json(answered)

        return await self._served(reply, web.Response(status=429, text="Too many requests"))

    async def _post_engine(self, request: web.Request) -> web.Response:
        """Answer a call of the block engine; it tells errors with HTTP 400."""
        body = await request.read()

        def reply() -> web.Response:
            answered = jsonrpc.respond(body, self._call_engine)
            bad = isinstance(answered, dict) and "error" in answered
            return _json(answered, 400 if bad else 200)

        return await self._served(reply, _json(jsonrpc.failed(BUSY, None), 429))

    async def _tip_floor(self, _request: web.Request) -> web.Response:
        """Tell the tips that landed lately."""

        def reply() -> web.Response:
            try:
                return _json(self.engine.tip_floor())
            except MethodError as error:
                return web.Response(status=404, text=error.message)

        return await self._served(reply, web.Response(status=429, text="Too many requests"))

    async def _served(self, reply: Callable[[], web.Response], busy: web.Response) -> web.Response:
        """Return a reply, or what the faults make of it."""
        faults, draws = self.faults, self.state.draws
        if faults.silent:
            self.state.happened["silent"] += 1
            await asyncio.sleep(3600)
        if draws(faults.slow, "slow"):
            await asyncio.sleep(faults.slow_s)
        if draws(faults.limited, "limited"):
            busy.headers["Retry-After"] = f"{faults.retry_after_s:g}"
            return busy
        if draws(faults.failed, "failed"):
            return web.Response(status=503, text="Service Unavailable")
        if draws(faults.garbage, "garbage"):
            return web.Response(text="<html><body>It works!</body></html>", content_type="text/html")
        response = reply()
        if draws(faults.truncated, "truncated") and isinstance(response.body, bytes):
            response.body = response.body[: len(response.body) // 2]
        return response

    def _call(self, method: str, params: Params) -> object:
        self.calls[method] += 1
        return answer(self.state, method, params)

    def _call_engine(self, method: str, params: Params) -> object:
        self.calls[method] += 1
        return self.engine.call(method, params)

    # Websocket

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        """Serve one websocket until it closes."""
        socket = web.WebSocketResponse(autoping=not self.faults.silent)
        if not socket.can_prepare(request).ok:
            return web.Response(status=405, text="POST JSON-RPC here, or open a websocket")
        await socket.prepare(request)
        client = _Client(self, socket, request)
        self._clients.add(client)
        try:
            await client.serve()
        finally:
            self._clients.discard(client)
        return socket

    def _received(self, signature: str) -> None:
        """Tell whoever wants to know that a transaction came in."""
        if not self.faults.silent:
            for client in self._clients:
                client.subscriptions.received(signature)


class _Client:
    """One websocket and its subscriptions."""

    def __init__(self, node: RpcNode, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._node = node
        self._socket = socket
        self._request = request
        self._unsent: asyncio.Queue[str] = asyncio.Queue(MAX_UNSENT)
        self.subscriptions = Subscriptions(node.state, self._put)

    async def serve(self) -> None:
        sending = asyncio.create_task(self._send())
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT and not self._node.faults.silent:
                    self._answer(message.data.encode(errors="replace"))
        finally:
            sending.cancel()

    def cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    def _answer(self, body: bytes) -> None:
        answered = jsonrpc.respond(body, self.subscriptions.call)
        if answered is None:
            return
        self._put(answered)
        for one in answered if isinstance(answered, list) else [answered]:
            self.subscriptions.answered(one.get("result"))

    def _put(self, message: object) -> None:
        try:
            self._unsent.put_nowait(jsonrpc.encoded(message).decode())
        except asyncio.QueueFull:
            self.cut()

    async def _send(self) -> None:
        while True:
            text = await self._unsent.get()
            try:
                await self._socket.send_str(text)
            except (ConnectionError, RuntimeError):
                return


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=jsonrpc.encoded(value), content_type="application/json")
