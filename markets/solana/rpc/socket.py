"""A websocket to one endpoint after another: subscriptions that outlive the connections they were made on.

What comes in is kept by account, the newest alone: however slow the reader, there is never more than one notification
for each subscription. What is lost that way was old.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from markets.limits import NS_PER_S, Clock
from markets.solana.rpc.accounts import AccountInfo, Malformed, account, context_slot, slot_number
from markets.solana.rpc.endpoint import Endpoint
from markets.solana.rpc.pool import RpcPool

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# Requests to subscribe that wait for their answer: a server must not see them all at once.
_UNANSWERED = 50
_SLOT = "slot"
_FAILED_LATELY_S = 10.0


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """How connections are held."""

    connect_s: float = 3.0
    ping_s: float = 5.0
    """A connection whose server does not answer a ping within half of this is dead."""
    silent_s: float = 10.0
    """A connection that brings no slot for so long is dead, whatever it answers to pings."""
    answer_s: float = 5.0
    """A subscription that is not confirmed within this makes the connection a bad one."""
    backoff_s: float = 0.1
    backoff_max_s: float = 5.0
    max_subscriptions: int = 1000
    """Accounts on one connection; the others are polled."""
    commitment: str = "processed"


@dataclass(frozen=True, slots=True)
class Notification:
    """An account as it stood after a slot that wrote it."""

    slot: int
    account: AccountInfo | None
    """None: it was closed."""


@dataclass(slots=True)
class SocketFigures:
    """What the socket has done."""

    host: str = ""
    """Of the endpoint it is connected to; empty while it is not."""
    connections: int = 0
    failures: int = 0
    notifications: int = 0
    conflated: int = 0
    """Notifications that a newer one replaced before anybody read them."""
    subscribed: int = 0
    wanted: int = 0
    last_failure: str = ""


@dataclass(slots=True)
class _Connection:
    socket: aiohttp.ClientWebSocketResponse
    ids: dict[int, str] = field(default_factory=dict)
    """Subscription id -> account, or `_SLOT`."""
    asked: dict[int, tuple[str, str, int]] = field(default_factory=dict)
    """Request id -> (what, account, when asked)."""
    confirmed: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    useless: str = ""
    """Why it is to be ended, once it is."""


class Broken(Exception):
    """A connection that is of no use any more; says why, without an address."""


class AccountSocket:
    """Keeps subscriptions to accounts and to slots alive. `run` it as a task; `news` is set when something came.

    `lost` is called when a connection has ended: what changed before the next one stands must be read.
    """

    def __init__(
        self,
        pool: RpcPool,
        settings: SocketSettings | None = None,
        *,
        lost: Callable[[], None] | None = None,
        avoid: Callable[[], Iterable[str]] = tuple,
        clock: Clock = time.monotonic_ns,
        draw: random.Random | None = None,
    ) -> None:
        """`avoid` names hosts that other sockets are connected to: they are taken when there is no other."""
        self.settings = settings or SocketSettings()
        self.figures = SocketFigures()
        self.news = asyncio.Event()
        self.slot = 0
        """The newest slot that the connection told."""
        self.aim = ""
        """Host of the endpoint that it is connected to or about to be: what another socket avoids."""
        self._pool = pool
        self._lost = lost
        self._avoid = avoid
        self._clock = clock
        self._draw = draw or random.Random()
        self._wanted: dict[str, None] = {}
        self._inbox: dict[str, Notification] = {}
        self._connection: _Connection | None = None
        self._changed = asyncio.Event()
        self._heard_ns = 0
        self._bad: dict[str, int] = {}

    # What the owner says and asks

    def want(self, addresses: Iterable[str]) -> None:
        """Replace what is subscribed to; what is beyond `max_subscriptions` is left out."""
        wanted = dict.fromkeys(addresses)
        for address in list(wanted)[self.settings.max_subscriptions :]:
            del wanted[address]
        if wanted != self._wanted:
            self._wanted = wanted
            self.figures.wanted = len(wanted)
            self._inbox = {address: note for address, note in self._inbox.items() if address in wanted}
            self._changed.set()

    def subscribed(self, addresses: Iterable[str]) -> bool:
        """Tell whether a change of any of these would be heard."""
        connection = self._connection
        return connection is not None and all(address in connection.confirmed for address in addresses)

    def take(self) -> dict[str, Notification]:
        """Return what came since this was last asked."""
        taken, self._inbox = self._inbox, {}
        self.news.clear()
        return taken

    def renew(self, why: str) -> None:
        """End the connection: it does not tell what it should."""
        if self._connection is not None:
            self._connection.useless = why

    # The connection

    async def run(self) -> None:
        """Hold a connection until cancelled."""
        failed = 0
        while True:
            endpoint = self._next_endpoint()
            begun = self._clock()
            self.aim = endpoint.host if endpoint is not None else ""
            if endpoint is not None:
                try:
                    await self._hold(endpoint)
                except Broken as broken:
                    self.figures.failures += 1
                    self.figures.last_failure = f"{endpoint.host} {broken}"
                    self._bad[endpoint.host] = self._clock()
            # One that held for a while was a good one: begin again without a pause.
            failed = 0 if self._clock() - begun > self.settings.silent_s * NS_PER_S else failed + 1
            limit = min(self.settings.backoff_s * 2.0 ** min(failed, 16), self.settings.backoff_max_s)
            await asyncio.sleep(self._draw.uniform(limit / 2, limit))

    def _next_endpoint(self) -> Endpoint | None:
        """Return the endpoint to connect to: one in use by nobody else, whose connection did not fail lately."""
        usable = [one for one in self._pool.endpoints if not one.other_chain]
        avoided = set(self._avoid())
        horizon = self._clock() - int(_FAILED_LATELY_S * NS_PER_S)

        def order(one: Endpoint) -> tuple[bool, bool, bool, int, float]:
            failed = self._bad.get(one.host)
            lately = failed is not None and failed > horizon
            # One that failed lately comes after one that another socket is connected to: better both there than none.
            return lately, self._pool.lagging(one), one.host in avoided, failed or 0, one.cost

        return min(usable, key=order, default=None)

    async def _hold(self, endpoint: Endpoint) -> None:
        """Connect, subscribe, listen.

        Raises:
            Broken: when the connection has ended, for whatever reason.
        """
        chosen = self.settings
        try:
            async with aiohttp.ClientSession() as session:
                async with asyncio.timeout(chosen.connect_s):
                    socket = await session.ws_connect(
                        endpoint.settings.socket_url,
                        heartbeat=chosen.ping_s,
                        max_msg_size=MAX_MESSAGE_BYTES,
                        timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                    )
                self._connection = connection = _Connection(socket)
                self.figures.host = endpoint.host
                self.figures.connections += 1
                self._heard_ns = self._clock()
                self._changed.set()
                await self._all(
                    self._listen(connection, endpoint), self._subscribe(connection), self._watch(connection, endpoint)
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Broken(f"cannot be connected to ({type(error).__name__})") from None
        finally:
            had = self._connection is not None
            self._connection = None
            self.figures.host = ""
            self.figures.subscribed = 0
            if had and self._lost is not None:
                self._lost()

    async def _all(self, *parts: Any) -> None:
        """Run the parts of a connection until the first of them ends it."""
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, connection: _Connection, endpoint: Endpoint) -> None:
        async for message in connection.socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise Broken("sent something that is no text")
            try:
                self._understand(connection, endpoint, json.loads(message.data))
            except Malformed as error:
                raise Broken(f"sent a wrong notification: {error}") from None
            except (ValueError, RecursionError):
                raise Broken("sent something that is not JSON") from None
        raise Broken("closed the connection")

    def _understand(self, connection: _Connection, endpoint: Endpoint, message: Any) -> None:
        if not isinstance(message, dict):
            raise Malformed("it is no object")
        if "id" in message:
            self._answered(connection, message)
            return
        params = message.get("params")
        if not isinstance(params, dict) or type(params.get("subscription")) is not int:
            return  # a kind of notification that nobody asked for
        address = connection.ids.get(params["subscription"])
        result = params.get("result")
        if address is None:
            return  # of a subscription that was just given up
        if address == _SLOT:
            self._note_slot(endpoint, slot_number(result.get("slot") if isinstance(result, dict) else None))
            return
        slot = context_slot(result)
        self._note_slot(endpoint, slot)
        found = account(address, result["value"] if isinstance(result, dict) and "value" in result else {})
        if found is not None and not found.lamports and not found.data:
            found = None  # closed: nothing of it is left
        self.figures.notifications += 1
        before = self._inbox.get(address)
        if before is not None:
            self.figures.conflated += 1
            if before.slot > slot:
                return
        self._inbox[address] = Notification(slot, found)
        self.news.set()

    def _note_slot(self, endpoint: Endpoint, slot: int) -> None:
        if not self._pool.slots.note(endpoint.host, slot):
            raise Malformed(f"slot {slot} cannot be yet")
        self._heard_ns = self._clock()
        if slot > self.slot:
            self.slot = slot
            self.news.set()

    def _answered(self, connection: _Connection, message: dict[str, Any]) -> None:
        """Note the answer to a request to subscribe or to give up."""
        what, address, _ = connection.asked.pop(message["id"], ("", "", 0)) if _hashable(message["id"]) else ("", "", 0)
        if what != "subscribe":
            return
        id_ = message.get("result")
        if type(id_) is not int:
            raise Malformed("a subscription was refused")
        connection.ids[id_] = address
        connection.confirmed[address] = id_
        self.figures.subscribed = len(connection.confirmed) - (_SLOT in connection.confirmed)
        self._changed.set()

    async def _subscribe(self, connection: _Connection) -> None:
        """Bring the connection's subscriptions to what is wanted, again and again as that changes."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            pending = {address for what, address, _ in connection.asked.values() if what == "subscribe"}
            wanted = [_SLOT, *self._wanted]
            for address in [one for one in connection.confirmed if one != _SLOT and one not in self._wanted]:
                id_ = connection.confirmed.pop(address)
                connection.ids.pop(id_, None)
                self.figures.subscribed = len(connection.confirmed) - (_SLOT in connection.confirmed)
                await self._request(connection, "unsubscribe", address, "accountUnsubscribe", [id_])
            for address in wanted:
                if len(connection.asked) >= _UNANSWERED:
                    break  # the next answer wakes us
                if address in connection.confirmed or address in pending:
                    continue
                if address == _SLOT:
                    await self._request(connection, "subscribe", address, "slotSubscribe", [])
                    continue
                options = {"encoding": "base64", "commitment": self.settings.commitment}
                await self._request(connection, "subscribe", address, "accountSubscribe", [address, options])

    async def _request(
        self, connection: _Connection, what: str, address: str, method: str, params: Sequence[object]
    ) -> None:
        connection.requests += 1
        connection.asked[connection.requests] = (what, address, self._clock())
        request = {"jsonrpc": "2.0", "id": connection.requests, "method": method, "params": list(params)}
        await connection.socket.send_str(json.dumps(request))

    async def _watch(self, connection: _Connection, endpoint: Endpoint) -> None:
        """End a connection that says nothing, does not answer, or is of no use as the others are.

        Raises:
            Broken: then.
        """
        chosen = self.settings
        while True:
            await asyncio.sleep(min(chosen.silent_s, chosen.answer_s) / 10)
            now = self._clock()
            if connection.useless:
                raise Broken(connection.useless)
            if endpoint.other_chain:
                raise Broken("serves another chain")
            if self._pool.lagging(endpoint):
                raise Broken("is behind")
            if now - self._heard_ns > chosen.silent_s * NS_PER_S:
                raise Broken(f"told no slot for {chosen.silent_s:g} s")
            oldest = min((at for _, _, at in connection.asked.values()), default=now)
            if now - oldest > chosen.answer_s * NS_PER_S:
                raise Broken(f"did not confirm a subscription within {chosen.answer_s:g} s")


def _hashable(value: object) -> bool:
    return isinstance(value, int | str)
