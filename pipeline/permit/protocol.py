"""The few lines of the NATS client protocol that the gate speaks, read incrementally from bytes.

A pure parser: bytes in, frames out. Anything it does not know is an error, because a gate that guesses is not a gate.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Frame", "Message", "Parser", "Ping", "Pong", "ProtocolError", "ServerError", "ServerInfo"]

MAX_LINE = 65_536  # INFO of a large cluster lists every server
MAX_PAYLOAD = 262_144
_CRLF = b"\r\n"


class ProtocolError(Exception):
    """Bytes that are no NATS protocol, or more of them than the gate accepts."""


@dataclass(frozen=True, slots=True)
class Message:
    """MSG or HMSG: one message for one of our subscriptions."""

    subject: str
    sid: int
    payload: bytes
    status: int = 0


@dataclass(frozen=True, slots=True)
class Ping:
    """PING: the server wants a sign of life."""


@dataclass(frozen=True, slots=True)
class Pong:
    """PONG: the server has handled everything up to one of our pings."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """INFO: the server's description of itself, JSON."""

    text: bytes


@dataclass(frozen=True, slots=True)
class ServerError:
    """-ERR: the server's words."""

    text: str


Frame = Message | Ping | Pong | ServerInfo | ServerError


class Parser:
    """Turn a byte stream, cut anywhere, into frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        """Start with nothing buffered."""
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Return the bytes of a frame that is not yet complete."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Take bytes and return the frames they complete; raise ProtocolError and be of no further use."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        start = 0
        while True:
            end = buffer.find(_CRLF, start, start + MAX_LINE)
            if end < 0:
                if len(buffer) - start >= MAX_LINE:
                    raise ProtocolError(f"a control line of more than {MAX_LINE} bytes")
                break
            line = bytes(buffer[start:end])
            verb = line[:5].upper()
            if verb.startswith((b"MSG ", b"HMSG ")):
                subject, sid, head, total = _sizes(line, headers=verb == b"HMSG ")
                after = end + 2 + total + 2
                if len(buffer) < after:
                    break
                if buffer[after - 2 : after] != _CRLF:
                    raise ProtocolError("a payload of another length than announced")
                body = bytes(buffer[end + 2 : after - 2])
                frames.append(Message(subject, sid, body[head:], _status(body[:head])))
                start = after
                continue
            frame = _plain(line)
            if frame is not None:
                frames.append(frame)
            start = end + 2
        del buffer[:start]
        return frames


def _plain(line: bytes) -> Frame | None:
    """Return the frame of a line without payload; None for +OK."""
    word, _, rest = line.partition(b" ")
    match word.upper():
        case b"PING":
            return Ping()
        case b"PONG":
            return Pong()
        case b"+OK":
            return None
        case b"INFO":
            return ServerInfo(rest)
        case b"-ERR":
            return ServerError(rest.decode("utf-8", "replace").strip("' "))
        case _:
            raise ProtocolError(f"unknown line {line[:40]!r}")


def _sizes(line: bytes, *, headers: bool) -> tuple[str, int, int, int]:
    """Return subject, subscription, header length and total length of a MSG or HMSG line."""
    parts = line.split()
    tail = 2 if headers else 1
    if len(parts) not in (3 + tail, 4 + tail):
        raise ProtocolError(f"malformed line {line[:80]!r}")
    numbers = [parts[2], *parts[-tail:]]
    if not all(part.isdigit() and len(part) < 10 for part in numbers):
        raise ProtocolError(f"malformed line {line[:80]!r}")
    sid, total = int(parts[2]), int(parts[-1])
    head = int(parts[-2]) if headers else 0
    if total > MAX_PAYLOAD or head > total:
        raise ProtocolError(f"a payload of {total} bytes with {head} of headers; at most {MAX_PAYLOAD}")
    return parts[1].decode("utf-8", "replace"), sid, head, total


def _status(head: bytes) -> int:
    """Return the status of a header block (`NATS/1.0 503`), 0 where it has none."""
    words = head.split(_CRLF, 1)[0].split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() and len(words[1]) == 3 else 0
