"""HTTP connections that stand ready, so that handing a request over is one write without waiting.

A client that is a coroutine connects and writes inside a task that the event loop gets to later. Between the gate and
the effect there must be nothing, so a connection is taken before the gate and the request is written whole, at once.
All calls go over such connections: they also cost a third of the processor time. Answers are read by httptools.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast
from urllib.parse import unquote, urlsplit

import httptools

from markets.solana.rpc.errors import AttemptFailed, BadAnswer, NotAllowed, TimedOut, Unreachable

MAX_ANSWER_BYTES = 4 * 1024 * 1024
_MAX_HEAD_BYTES = 64 * 1024
_IDLE_S = 30.0
"""An idle connection is not used after so long: servers close theirs, many after a minute."""
_GZIP: Final = 16 + zlib.MAX_WBITS


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
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._head_size = 0
        self._reads_head = True
        self._ends_by_closing = False
        self.free_since_s = time.monotonic()

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
        self._transport.write(b"%b%d\r\n\r\n%b" % (self._lines.head, len(body), body))
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
        if error is None and self._ends_by_closing:
            self.on_message_complete()
        if self._head_size:
            self._fail(BadAnswer(self._lines.host, "broke off its answer"))
        else:
            self._fail(Unreachable(self._lines.host, "closed its connection"))
        self._lines.lost(self)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._waiting is None:
            self.close()  # nobody has asked
            return
        if self._reads_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError):
            self._give_up(BadAnswer(self._lines.host, "answered with something that is not HTTP"))
            return
        if self._reads_head and self._waiting is not None and self._head_size > _MAX_HEAD_BYTES:
            self._give_up(BadAnswer(self._lines.host, "sent more than is read"))

    # What the parser calls

    def on_message_begin(self) -> None:
        """Believe nothing that was not asked for."""
        if self._waiting is None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers[name.decode("ascii").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note whether the answer tells where it ends; one that does not ends with its connection."""
        self._reads_head = False
        self._ends_by_closing = "content-length" not in self._headers and "transfer-encoding" not in self._headers

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body, and no more than is read."""
        self._size += len(data)
        if self._size > self._lines.max_answer_bytes:
            self._give_up(BadAnswer(self._lines.host, "sent more than is read"))
        elif self._waiting is not None:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        status, headers, body = self._parser.get_status_code(), self._headers, b"".join(self._body)
        self._headers, self._body, self._size, self._head_size = {}, [], 0, 0
        self._reads_head, self._ends_by_closing = True, False
        if 100 <= status < 200:
            return  # the answer itself is still to come
        waiting, self._waiting = self._waiting, None
        if self._transport is not None and self._parser.should_keep_alive():
            self._lines.free(self)
        else:
            self.close()
        if waiting is None or waiting.done():
            return
        try:
            waiting.set_result(Answer(status, headers, self._plain(headers, body)))
        except zlib.error:
            waiting.set_exception(BadAnswer(self._lines.host, "sent a body that cannot be unpacked"))

    def _plain(self, headers: Mapping[str, str], body: bytes) -> bytes:
        """Return the body as it was before it was packed; what is larger than is read is cut, and so cannot be read."""
        if headers.get("content-encoding") != "gzip":
            return body
        return zlib.decompressobj(_GZIP).decompress(body, self._lines.max_answer_bytes)

    def _give_up(self, failure: AttemptFailed) -> None:
        self._ends_by_closing = False
        self._fail(failure)
        self.close()

    def _fail(self, failure: AttemptFailed) -> None:
        waiting, self._waiting = self._waiting, None
        self._body.clear()
        if waiting is not None and not waiting.done():
            waiting.set_exception(failure)


class Lines:
    """Connections to one address, some of them idle at all times."""

    def __init__(
        self,
        url: str,
        path: str = "",
        *,
        name: str = "",
        method: Literal["GET", "POST"] = "POST",
        headers: Mapping[str, str] | None = None,
        spare: int = 2,
        connect_s: float = 2.0,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        """Take an address and what is appended to its path; `headers` go with every request and are shown nowhere.

        `name` is shown instead of the host.
        """
        parts = urlsplit(url)
        literal = f"[{parts.hostname}]" if ":" in str(parts.hostname) else str(parts.hostname)
        host = f"{literal}:{parts.port}" if parts.port else literal
        self.host = name or host
        """All that may be shown of the address."""
        self.max_answer_bytes = max_answer_bytes
        target = (parts.path.rstrip("/") + path if path else parts.path) or "/"
        target += f"?{parts.query}" if parts.query else ""
        self._address = (str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80))
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        fixed = {"Host": host, "Content-Type": "application/json", "Accept-Encoding": "gzip"}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            fixed["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
        fixed |= headers or {}
        told = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self.head = f"{method} {target} HTTP/1.1\r\n{told}Content-Length: ".encode("latin-1")
        """What is written before a body's length."""
        self._spare = spare
        self._connect_s = connect_s
        self._idle: list[Line] = []
        self._all: set[Line] = set()
        self._closed = False

    def __repr__(self) -> str:
        """Name the host alone: addresses and headers may hold keys."""
        return f"Lines({self.host})"

    async def take(self) -> Line:
        """Return a connection that stands, made now if none does; give it back by `free` or by using it.

        Raises:
            AttemptFailed: if none can be made.
        """
        return self._standing() or await self._connect()

    def free(self, line: Line) -> None:
        """Take back a connection that nothing waits on."""
        if self._closed or not line.ready or len(self._idle) >= 4 * self._spare:
            line.close()
        elif line not in self._idle:
            line.free_since_s = time.monotonic()
            self._idle.append(line)

    def lost(self, line: Line) -> None:
        """Forget a connection that has ended."""
        self._all.discard(line)
        if line in self._idle:
            self._idle.remove(line)

    async def post(self, body: bytes, *, timeout_s: float, may: Callable[[], bool] | None = None) -> Answer:
        """Make one request; one that is safe to make twice, for a server may close an idle connection under it.

        `may` is asked in the very moment of writing: to have a connection made takes time.

        Raises:
            NotAllowed: if `may` forbids it.
            AttemptFailed: if there is no answer in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    standing = self._standing()
                    line = standing or await self._connect()
                    if may is not None and not may():
                        self.free(line)
                        raise NotAllowed(self.host, "was not written to: it is not allowed any more")
                    try:
                        return await line.post(body)
                    except asyncio.CancelledError:
                        line.close()
                        raise
                    except Unreachable:
                        if standing is None:
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

    def _standing(self) -> Line | None:
        while self._idle:
            line = self._idle.pop()
            if line.ready and time.monotonic() - line.free_since_s < _IDLE_S:
                return line
            line.close()
        return None

    async def _connect(self) -> Line:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, line = await loop.create_connection(lambda: Line(self), *self._address, ssl=self._tls)
        except TimeoutError:
            raise TimedOut(self.host, f"could not be connected to within {self._connect_s:g} s") from None
        except OSError as error:
            raise Unreachable(self.host, f"cannot be reached ({type(error).__name__})") from None
        self._all.add(line)
        return line
