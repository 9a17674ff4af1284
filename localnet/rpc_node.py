"""A simulated Solana node: JSON-RPC over HTTP and websocket on one loopback port, with faults that can be switched on.

It serves what a `ChainView` tells of the offline market. It holds no validator and runs no transactions.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from localnet.chain_view import ChainView, View
from localnet.node_methods import MethodError, address_of, answer, encoded, in_context, invalid

HOST = "127.0.0.1"
MAX_UNSENT = 10_000
"""Notifications that wait for a client that does not read; then its connection is cut."""


@dataclass(slots=True)
class Faults:
    """What goes wrong, each as a share of the requests (0..1) unless it says otherwise. Drawn from a seed."""

    limited: float = 0.0
    """HTTP 429 with Retry-After."""
    retry_after_s: float = 1.0
    failed: float = 0.0
    """HTTP 503."""
    truncated: float = 0.0
    """Half of the JSON, with HTTP 200."""
    garbage: float = 0.0
    """HTML, with HTTP 200."""
    slow: float = 0.0
    slow_s: float = 1.0
    silent: bool = False
    """Answers nothing at all, and sends nothing on websockets that stay open."""
    behind_slots: int = 0

    def apply(self, changes: Mapping[str, object]) -> None:
        """Take over some of the values.

        Raises:
            ValueError: for a name or a value that does not fit.
        """
        known = {field.name: type(getattr(self, field.name)) for field in dataclasses.fields(self)}
        for name, value in changes.items():
            kind = known.get(name)
            if kind is None or not isinstance(value, (int, float)) or isinstance(value, bool) != (kind is bool):
                raise ValueError(f"no fault {name} = {value!r}; known: {', '.join(known)}")
            setattr(self, name, kind(value))


class RpcNode:
    """One node over a chain. `start` binds the port; `told` passes a new slot on to the subscribers."""

    def __init__(self, chain: ChainView, faults: Faults | None = None, *, seed: int = 1) -> None:
        """Prepare the routes."""
        self.chain = chain
        self.faults = faults or Faults()
        self.calls: dict[str, int] = {}
        """Requests by method, for tests."""
        self._random = random.Random(seed)
        self._clients: set[_Client] = set()
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> str:
        """Serve on a port of the loopback, 0 for a free one; return the address."""
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/", self._post)
        app.router.add_get("/", self._connect)
        app.router.add_put("/faults", self._set_faults)
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
        for client in self._clients:
            client.cut()

    def told(self) -> None:
        """Notify the subscribers of the newest slot of the chain, as this node sees it."""
        if self.faults.silent:
            return
        view = self.chain.at(self.faults.behind_slots)
        for client in self._clients:
            client.notify(view)

    @property
    def subscriptions(self) -> int:
        """Return how many subscriptions there are."""
        return sum(len(client.accounts) + len(client.slots) for client in self._clients)

    # HTTP

    async def _set_faults(self, request: web.Request) -> web.Response:
        """Switch faults: a JSON object of their names; `{"cut": true}` cuts the websockets."""
        try:
            changes = dict(await request.json())
            if changes.pop("cut", False):
                self.cut()
            self.faults.apply(changes)
        except (ValueError, TypeError) as error:
            return web.Response(status=400, text=str(error))
        return web.Response(status=204)

    async def _post(self, request: web.Request) -> web.Response:
        """Answer one call, or fail as the faults say."""
        body = await request.read()
        faults, draw = self.faults, self._random.random
        if faults.silent:
            await asyncio.sleep(3600)
        if draw() < faults.slow:
            await asyncio.sleep(faults.slow_s)
        if draw() < faults.limited:
            headers = {"Retry-After": f"{faults.retry_after_s:g}"}
            return web.Response(status=429, text="Too many requests", headers=headers)
        if draw() < faults.failed:
            return web.Response(status=503, text="Service Unavailable")
        if draw() < faults.garbage:
            return web.Response(text="<html><body>It works!</body></html>", content_type="text/html")
        text = json.dumps(self._reply(body))
        if draw() < faults.truncated:
            text = text[: len(text) // 2]
        return web.Response(text=text, content_type="application/json")

    def _reply(self, body: bytes) -> dict[str, object]:
        request, error = _request_of(body)
        if request is None:
            return {"jsonrpc": "2.0", "error": error.body(), "id": None}
        method = str(request.get("method"))
        self.calls[method] = self.calls.get(method, 0) + 1
        id_ = request.get("id")
        try:
            behind = self.faults.behind_slots
            result = answer(self.chain, behind, request.get("method"), request.get("params", []))
        except MethodError as failure:
            return {"jsonrpc": "2.0", "error": failure.body(), "id": id_}
        return {"jsonrpc": "2.0", "result": result, "id": id_}

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


class _Client:
    """One websocket and its subscriptions."""

    def __init__(self, node: RpcNode, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._node = node
        self._socket = socket
        self._request = request
        self._unsent: asyncio.Queue[str] = asyncio.Queue(MAX_UNSENT)
        self._last = 0
        self.accounts: dict[int, str] = {}
        self.slots: set[int] = set()

    async def serve(self) -> None:
        sending = asyncio.create_task(self._send())
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT and not self._node.faults.silent:
                    self._put(self._reply(message.data.encode()))
        finally:
            sending.cancel()

    def cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    def notify(self, view: View) -> None:
        for id_, address in self.accounts.items():
            if address in view.changed:
                found = view.accounts.get(address)
                # A closed account is told as one of the system program with nothing in it.
                value = encoded(found) if found is not None else _CLOSED
                self._put(_notification("account", id_, in_context(view, value)))
        for id_ in self.slots:
            slot = {"parent": view.slot - 1, "root": max(0, view.slot - 32), "slot": view.slot}
            self._put(_notification("slot", id_, slot))

    def _reply(self, body: bytes) -> dict[str, object]:
        request, error = _request_of(body)
        if request is None:
            return {"jsonrpc": "2.0", "error": error.body(), "id": None}
        try:
            result = self._subscribe(request.get("method"), request.get("params") or [])
        except MethodError as failure:
            return {"jsonrpc": "2.0", "error": failure.body(), "id": request.get("id")}
        return {"jsonrpc": "2.0", "result": result, "id": request.get("id")}

    def _subscribe(self, method: object, params: object) -> object:
        if not isinstance(params, list):
            raise invalid("expected an array")
        match method:
            case "accountSubscribe":
                address = address_of(params[0] if params else None)
                self._last += 1
                self.accounts[self._last] = address
                return self._last
            case "slotSubscribe":
                self._last += 1
                self.slots.add(self._last)
                return self._last
            case "accountUnsubscribe" | "slotUnsubscribe":
                id_ = params[0] if params else None
                if isinstance(id_, int) and (self.accounts.pop(id_, None) is not None or id_ in self.slots):
                    self.slots.discard(id_)
                    return True
                raise MethodError(-32602, "Invalid subscription id.")
            case _:
                raise MethodError(-32601, "Method not found")

    def _put(self, message: object) -> None:
        try:
            self._unsent.put_nowait(json.dumps(message))
        except asyncio.QueueFull:
            self.cut()

    async def _send(self) -> None:
        while True:
            text = await self._unsent.get()
            try:
                await self._socket.send_str(text)
            except (ConnectionError, RuntimeError):
                return


_CLOSED: dict[str, object] = {
    "data": ["", "base64"],
    "executable": False,
    "lamports": 0,
    "owner": "11111111111111111111111111111111",
    "rentEpoch": 0,
    "space": 0,
}


def _notification(kind: str, id_: int, result: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": f"{kind}Notification", "params": {"result": result, "subscription": id_}}


def _request_of(body: bytes) -> tuple[dict[str, object] | None, MethodError]:
    """Return a request, or the error it earns."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return None, MethodError(-32700, "Parse error")
    return (request if isinstance(request, dict) else None), MethodError(-32600, "Invalid request")
