"""HTTP connections that stand ready, so that handing a request over is one write without waiting.

aiohttp connects and writes inside a task that the event loop gets to later. Between the gate and the effect there must
be nothing, so a connection is taken before the gate and the request is written whole, at once. The protocol itself is
h11's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import h11

from markets.solana.rpc.errors import AttemptFailed, TimedOut, Unreachable

MAX_ANSWER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Line(asyncio.Protocol):
    """One connection: one request at a time, each written at once."""

    def __init__(self, lines: Lines) -> None:
        """Belong to the connections of one address."""
        self._lines = lines
        self._transport: asyncio.Transport | None = None
        self._http = h11.Connection(h11.CLIENT)
        self._waiting: asyncio.Future[Answer] | None = None
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    @property
    def ready(self) -> bool:
        """Tell whether a request may be written now."""
        return self._transport is not None and not self._transport.is_closing() and self._waiting is None

    def post(self, body: bytes) -> asyncio.Future[Answer]:
        """Write a request; the future is its answer, or fails with an `AttemptFailed`."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if not self.ready or self._transport is None:
            answer.set_exception(Unreachable(self._lines.host, "closed its connection"))
            return answer
        self._waiting = answer
        head = h11.Request(method="POST", target=self._lines.target, headers=self._lines.headers_for(len(body)))
        parts = (self._http.send(head), self._http.send(h11.Data(data=body)), self._http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in parts if part))
        return answer

    def give_back(self) -> None:
        """Let others have the connection: nothing was written."""
        self._lines.free(self)

    def close(self) -> None:
        """Cut the connection; what waits for an answer fails."""
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what waits, and be gone."""
        self._transport = None
        self._fail("closed its connection")
        self._lines.lost(self)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        try:
            self._http.receive_data(data)
            self._read()
        except h11.RemoteProtocolError:
            self._fail("answered with something that is not HTTP")
            self.close()

    def _read(self) -> None:
        while True:
            event = self._http.next_event()
            match event:
                case h11.Response():
                    self._status = event.status_code
                    self._headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
                case h11.Data():
                    self._body += event.data
                    if len(self._body) > MAX_ANSWER_BYTES:
                        self._fail("sent more than is read")
                        self.close()
                        return
                case h11.EndOfMessage():
                    self._answered()
                    return
                case h11.ConnectionClosed():
                    self.close()
                    return
                case h11.InformationalResponse():
                    pass
                case _:  # it needs more data, or waits for the next request
                    return

    def _answered(self) -> None:
        answer = Answer(self._status, self._headers, bytes(self._body))
        self._body.clear()
        waiting, self._waiting = self._waiting, None
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._lines.free(self)
        else:
            self.close()
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _fail(self, what: str) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(Unreachable(self._lines.host, what))


class Lines:
    """Connections to one address, some of them idle at all times."""

    def __init__(
        self,
        url: str,
        path: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        spare: int = 2,
        connect_s: float = 2.0,
    ) -> None:
        """Take an address and what is appended to its path; `headers` go with every request and are shown nowhere."""
        parts = urlsplit(url)
        self.host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        """All that may be shown of the address."""
        target = (parts.path.rstrip("/") + path) or "/"
        self.target = target + (f"?{parts.query}" if parts.query else "")
        self._address = (str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80))
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._fixed = [("Host", self.host), ("Content-Type", "application/json"), *(headers or {}).items()]
        self._spare = spare
        self._connect_s = connect_s
        self._idle: list[Line] = []
        self._all: set[Line] = set()
        self._closed = False

    def __repr__(self) -> str:
        """Name the host alone: addresses and headers may hold keys."""
        return f"Lines({self.host})"

    def headers_for(self, length: int) -> list[tuple[str, str]]:
        """Return the headers of a request with a body of so many bytes."""
        return [*self._fixed, ("Content-Length", str(length))]

    async def take(self) -> Line:
        """Return a connection that stands, made now if none does; give it back by `free` or by using it.

        Raises:
            AttemptFailed: if none can be made.
        """
        while self._idle:
            line = self._idle.pop()
            if line.ready:
                return line
        return await self._connect()

    def free(self, line: Line) -> None:
        """Take back a connection that nothing waits on."""
        if self._closed or not line.ready or len(self._idle) >= 4 * self._spare:
            line.close()
        elif line not in self._idle:
            self._idle.append(line)

    def lost(self, line: Line) -> None:
        """Forget a connection that has ended."""
        self._all.discard(line)
        if line in self._idle:
            self._idle.remove(line)

    async def post(self, body: bytes, *, timeout_s: float) -> Answer:
        """Make one request.

        Raises:
            AttemptFailed: if there is no answer in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                line = await self.take()
                try:
                    return await line.post(body)
                except asyncio.CancelledError:
                    line.close()
                    raise
        except TimeoutError:
            raise TimedOut(self.host, f"did not answer within {timeout_s:g} s") from None

    async def keep(self, interval_s: float) -> None:
        """Keep connections ready until cancelled; a server that cannot be reached is tried again and again."""
        while True:
            try:
                for _ in range(self._spare - sum(line.ready for line in self._idle)):
                    self.free(await self._connect())
            except AttemptFailed:
                pass  # whoever needs a connection hears of it
            await asyncio.sleep(interval_s)

    def close(self) -> None:
        """Cut every connection."""
        self._closed = True
        for line in list(self._all):
            line.close()

    async def _connect(self) -> Line:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, line = await loop.create_connection(
                    lambda: Line(self), *self._address, ssl=self._tls, server_hostname=None
                )
        except TimeoutError:
            raise TimedOut(self.host, f"could not be connected to within {self._connect_s:g} s") from None
        except OSError as error:
            raise Unreachable(self.host, f"cannot be reached ({type(error).__name__})") from None
        self._all.add(line)
        return line
