"""One message as it arrived: where it stands, how often it came, and its headers."""

from __future__ import annotations

import time
from typing import NamedTuple

MSG_ID = b"Nats-Msg-Id"
REPLAY_FOR = "Pipeline-Replay-For"
TRACEPARENT = "traceparent"
COMMIT = b"Nats-Batch-Commit: eob"  # on the empty message that ends a batch
_REPLAY_FOR = REPLAY_FOR.encode()
_LINE = b"NATS/1.0\r\n"
_ID_FIRST = _LINE + MSG_ID + b": "  # what our own publisher writes
_ID_FIRST_LENGTH = len(_ID_FIRST)
_ID_LATER = b"\r\n" + MSG_ID + b":"


class Delivery:
    """What is known about one delivered message beside its content."""

    __slots__ = ("_raw", "attempt", "received_ns", "sequence", "stream", "subject")

    def __init__(
        self, subject: str, stream: str, *, sequence: int, attempt: int, received_ns: int, raw: bytes | None
    ) -> None:
        self.subject = subject
        self.stream = stream
        self.sequence = sequence
        """in the stream; 0 where the message came live and its stored copy has not been seen"""
        self.attempt = attempt
        """1 for the first delivery"""
        self.received_ns = received_ns
        """wall-clock time of arrival, ns"""
        self._raw = raw

    @classmethod
    def now(cls, subject: bytes, stream: str, raw: bytes | None, *, sequence: int = 0, attempt: int = 1) -> Delivery:
        """Return what is known about a message that has just arrived."""
        return cls(subject.decode(), stream, sequence=sequence, attempt=attempt, received_ns=time.time_ns(), raw=raw)

    def set_headers(self, headers: dict[str, str] | None) -> None:
        """Take headers that are parsed already."""
        if headers:
            self._raw = b"NATS/1.0\r\n" + "".join(f"{name}: {text}\r\n" for name, text in headers.items()).encode()

    @property
    def headers(self) -> dict[str, str]:
        """Return the message's headers."""
        return parse_headers(self._raw)

    @property
    def traceparent(self) -> str:
        """Return the W3C trace context, or an empty string."""
        raw = self._raw
        return parse_headers(raw).get(TRACEPARENT, "") if raw and b"traceparent" in raw else ""

    def __repr__(self) -> str:
        return f"Delivery({self.subject}, {self.stream}:{self.sequence}, attempt {self.attempt})"


class Acknowledgement(NamedTuple):
    """What the reply subject of a stored message says."""

    attempt: int
    sequence: int
    consumer_sequence: int
    pending: int


def parse_reply(reply: bytes) -> Acknowledgement | None:
    """Read `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>`, domain or not."""
    parts = reply.split(b".")
    if len(parts) == 9:
        return Acknowledgement(int(parts[4]), int(parts[5]), int(parts[6]), int(parts[8]))
    if len(parts) >= 11:  # $JS.ACK.<domain>.<account>.<stream>...
        return Acknowledgement(int(parts[6]), int(parts[7]), int(parts[8]), int(parts[10]))
    return None


def message_id(raw: bytes | None) -> bytes:
    """Return the message id header, or an empty string."""
    if not raw:
        return b""
    if raw.startswith(_ID_FIRST):
        return raw[_ID_FIRST_LENGTH : raw.find(b"\r\n", _ID_FIRST_LENGTH)]
    start = raw.find(_ID_LATER)
    if start < 0:
        return b""
    start += len(_ID_LATER)
    return raw[start : raw.find(b"\r\n", start)].strip()


def replay_target(raw: bytes | None) -> str | None:
    """Return the consumer that a replayed message is meant for; None where it is meant for all."""
    if not raw or _REPLAY_FOR not in raw:
        return None
    return parse_headers(raw).get(REPLAY_FOR)


def ends_batch(data: bytes, raw: bytes | None) -> bool:
    """Tell whether this is no message but the end of a batch, which live subscribers see and no stream stores."""
    return not data and raw is not None and COMMIT in raw


def parse_headers(raw: bytes | None) -> dict[str, str]:
    """Return NATS headers as a dict; a malformed line is skipped."""
    found: dict[str, str] = {}
    if not raw:
        return found
    for line in raw.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found[name.strip().decode("ascii", "replace")] = value.strip().decode("utf-8", "replace")
    return found


def status_of(raw: bytes | None) -> str:
    """Return the status of a control message ("100 Idle Heartbeat", "503"), or an empty string."""
    if not raw or raw.startswith(_LINE):
        return ""
    return raw.split(b"\r\n", 1)[0].removeprefix(b"NATS/1.0").strip().decode("utf-8", "replace")
