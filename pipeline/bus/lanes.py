"""Group commit: under load the publishes to one stream share the server's sync.

The server syncs each message before it acknowledges it, so a stream takes no more messages a second than the disk takes
syncs. An atomic batch is synced once. While few messages are on their way a lane sends each by itself. Beyond that it
opens a batch: its messages leave at once, so that live subscribers have them without delay and in order, and an empty
one commits them as soon as an acknowledgement makes room. A batch that is refused, for one message that the stream has
already or by a server that knows no batches, is dissolved and its messages go one by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum, auto
from typing import NamedTuple, Protocol

SINGLES = 8  # messages on their way one by one before the lane collects
BATCHES = 2  # batches on their way at once
LARGEST_BATCH = 900  # the server takes 1,000
DUPLICATE = 10201  # the batch holds a message that the stream has already, or one twice


class Stored(NamedTuple):
    """The server's acknowledgement: the message is on its disk."""

    stream: str
    sequence: int
    duplicate: bool


class How(Enum):
    """How a message is on its way."""

    ALONE = auto()
    """by itself, whatever the lane does"""
    SINGLE = auto()
    WAITING = auto()
    BATCH = auto()


class Publish:
    """One publish on its way."""

    __slots__ = ("again_at", "deadline", "future", "head", "how", "last_error", "payload", "stream", "subject")

    def __init__(self, future: asyncio.Future[Stored], subject: str, stream: str, head: bytes, payload: bytes) -> None:
        self.future = future
        self.subject = subject
        self.stream = stream
        self.head = head
        """header lines without the empty one at the end"""
        self.payload = payload
        self.how = How.ALONE
        self.again_at = 0.0
        self.deadline = 0.0
        self.last_error = ""

    def command(self, reply: bytes, more: bytes = b"") -> bytes:
        """Return the protocol's bytes, with more header lines."""
        size = len(self.head) + len(more) + 2
        return b"HPUB %b %b %d %d\r\n%b%b\r\n%b\r\n" % (
            *(self.subject.encode(), reply, size, size + len(self.payload)),
            *(self.head, more, self.payload),
        )


class Sender(Protocol):
    """What a lane sends through."""

    def send_one(self, token: int) -> None:
        """Send a message by itself."""

    def open_batch(self) -> int:
        """Return the number of a new batch."""

    def send_member(self, token: int, batch: int, number: int) -> None:
        """Send a message as the batch's next."""

    def commit(self, stream: str, batch: int, number: int) -> None:
        """End a batch, to be acknowledged for all its messages."""


class Lane:
    """The publishes of one connection to one stream, by token."""

    def __init__(self, stream: str, sender: Sender, publishes: dict[int, Publish]) -> None:
        self._stream = stream
        self._sender = sender
        self._publishes = publishes
        self._singles = 0
        self._open: list[int] = []
        self._batch = 0
        self._waiting: deque[int] = deque()
        """what came while the open batch was full"""
        self._committed: dict[int, list[int]] = {}
        self._may_batch = True

    def add(self, token: int) -> None:
        """Send a message by itself, or as one of the open batch."""
        if not self._may_batch or (self._singles < SINGLES and not self._open):
            self.send_single(token)
        elif len(self._open) < LARGEST_BATCH:
            self._join(token)
        else:
            self._publishes[token].how = How.WAITING
            self._waiting.append(token)
            self.go_on()

    def remove(self, token: int) -> None:
        """Note that a message is acknowledged or given up; it is still known."""
        how = self._publishes[token].how
        if how is How.SINGLE:
            self._singles -= 1
        elif how is How.WAITING:
            self._waiting.remove(token)

    def send_single(self, token: int) -> None:
        """Send a message by itself."""
        self._publishes[token].how = How.SINGLE
        self._singles += 1
        self._sender.send_one(token)

    def take_batch(self, batch: int) -> list[int]:
        """Note that a batch is answered or given up, and return its messages."""
        return self._committed.pop(batch, [])

    def refuse_batches(self) -> None:
        """Send one by one from now on, what is in the open batch included."""
        self._may_batch = False
        tokens = [*self._open, *self._waiting]
        self._open = []
        self._waiting.clear()
        for token in tokens:
            if token in self._publishes:
                self.send_single(token)

    def restart(self) -> None:
        """Forget how messages were on their way: all of them are about to be sent one by one."""
        self._singles = 0
        self._open = []
        self._waiting.clear()
        self._committed.clear()

    def go_on(self) -> None:
        """Commit the open batch where there is room for another."""
        while self._open and len(self._committed) < BATCHES:
            self._committed[self._batch] = self._open
            self._sender.commit(self._stream, self._batch, len(self._open) + 1)
            self._open = []
            while self._waiting and len(self._open) < LARGEST_BATCH:
                self._join(self._waiting.popleft())

    def _join(self, token: int) -> None:
        if not self._open:
            self._batch = self._sender.open_batch()
        self._open.append(token)
        self._publishes[token].how = How.BATCH
        self._sender.send_member(token, self._batch, len(self._open))
