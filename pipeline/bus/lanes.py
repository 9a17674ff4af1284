"""Group commit: under load the publishes to one stream share the server's sync.

The server syncs each message before it acknowledges it, so a stream takes no more messages a second than the disk takes
syncs. An atomic batch is synced once. While few messages are on their way a lane sends each by itself. Beyond that it
opens a batch: its messages leave at once, all but the newest, so that live subscribers have them without delay; the
newest carries the commit as soon as an acknowledgement makes room. A batch that is refused, for one message that the
stream has already or by a server that knows no batches, is dissolved and its messages go one by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum, auto
from typing import NamedTuple, Protocol

SINGLES = 8  # messages on their way one by one before the lane collects
BATCHES = 2  # batches on their way at once
LARGEST_BATCH = 500  # the server takes 1,000
# Errors after which batches are not tried again: not allowed on the stream, or a header that an older server refuses.
NO_BATCHES = frozenset({10174, 10177})


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

    __slots__ = ("again_at", "batch", "deadline", "future", "head", "how", "last_error", "payload", "stream", "subject")

    def __init__(self, future: asyncio.Future[Stored], subject: str, stream: str, head: bytes, payload: bytes) -> None:
        self.future = future
        self.subject = subject
        self.stream = stream
        self.head = head
        """header lines without the empty one at the end"""
        self.payload = payload
        self.how = How.ALONE
        self.batch = 0
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

    def send_member(self, token: int, batch: int, number: int, *, commit: bool) -> None:
        """Send a message as the batch's next, or as its last."""


class Lane:
    """The publishes of one connection to one stream, by token."""

    def __init__(self, sender: Sender, publishes: dict[int, Publish]) -> None:
        self._sender = sender
        self._publishes = publishes
        self._singles = 0
        self._open: list[int] = []
        self._batch = 0
        self._held: int | None = None
        """the newest message: next in the open batch, or its commit"""
        self._waiting: deque[int] = deque()
        """what came while the open batch was full"""
        self._committed: dict[int, list[int]] = {}
        self._may_batch = True

    def add(self, token: int) -> None:
        """Send a message by itself, or as one of the open batch."""
        if not self._may_batch or (self._singles < SINGLES and self._held is None):
            self.send_single(token)
            return
        self._publishes[token].how = How.WAITING
        if self._waiting or len(self._open) + 1 >= LARGEST_BATCH:
            self._waiting.append(token)
        else:
            self._hold(token)

    def remove(self, token: int) -> None:
        """Note that a message is acknowledged or given up; it is still known."""
        how = self._publishes[token].how
        if how is How.SINGLE:
            self._singles -= 1
        elif how is How.WAITING and self._held != token:
            self._waiting.remove(token)
        elif how is How.WAITING:
            self._held = None

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
        tokens = [*self._open, *([] if self._held is None else [self._held]), *self._waiting]
        self._open, self._held = [], None
        self._waiting.clear()
        for token in tokens:
            if token in self._publishes:
                self.send_single(token)

    def restart(self) -> None:
        """Forget how messages were on their way: all of them are about to be sent one by one."""
        self._singles = 0
        self._open, self._held = [], None
        self._waiting.clear()
        self._committed.clear()

    def go_on(self) -> None:
        """Commit the open batch where there is room for another."""
        while len(self._committed) < BATCHES:
            if self._open:
                self._commit()
            elif self._held is not None and self._singles < SINGLES:
                token, self._held = self._held, None
                self.send_single(token)
            else:
                return
            while self._waiting and len(self._open) + 1 < LARGEST_BATCH:
                self._hold(self._waiting.popleft())

    def _hold(self, token: int) -> None:
        held, self._held = self._held, token
        if held is None:
            return
        if not self._open:
            self._batch = self._sender.open_batch()
        self._join(held, commit=False)

    def _commit(self) -> None:
        held, self._held = self._held, None
        if held is None:  # its caller was cancelled: the members go one by one, the server drops the open batch
            tokens, self._open = self._open, []
            for token in tokens:
                if token in self._publishes:
                    self.send_single(token)
            return
        self._join(held, commit=True)
        self._committed[self._batch] = self._open
        self._open = []

    def _join(self, token: int, *, commit: bool) -> None:
        self._open.append(token)
        publish = self._publishes[token]
        publish.how, publish.batch = How.BATCH, self._batch
        self._sender.send_member(token, self._batch, len(self._open), commit=commit)
