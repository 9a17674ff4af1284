"""A block engine's doorstep: notes when each bundle's bytes are there, and hands everything on to the real one."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass, field

from solders.transaction import VersionedTransaction


@dataclass(frozen=True, slots=True)
class Arrival:
    """One bundle, as it came in."""

    at_ns: int
    """Wall clock, when its last byte was read from the socket."""
    signatures: tuple[str, ...]


@dataclass(slots=True)
class Recorder:
    """Listens on a port of its own; `forward_to` is set once the real block engine's port is known."""

    forward_to: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0, limit=1 << 20)
        return int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.forward_to)
        except OSError:
            writer.close()
            return
        answers = asyncio.create_task(_pipe(there, writer))
        try:
            while True:
                request, body = await _request(reader)
                at_ns = time.time_ns()
                back.write(request + body)
                self._note(body, at_ns)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            answers.cancel()
            back.close()
            writer.close()

    def _note(self, body: bytes, at_ns: int) -> None:
        if b'"sendBundle"' not in body:
            return
        raws = [base64.b64decode(text) for text in json.loads(body)["params"][0]]
        signatures = tuple(str(VersionedTransaction.from_bytes(raw).signatures[0]) for raw in raws)
        self.arrivals.append(Arrival(at_ns, signatures))


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one HTTP/1.1 request: its head, and its body by Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    return head, await reader.readexactly(length)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
