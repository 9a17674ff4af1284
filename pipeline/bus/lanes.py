"""Group commit: under load the publishes to one stream share the server's sync.

The server syncs each message before it acknowledges it, so a stream takes no more messages a second than the disk takes
syncs. An atomic batch is synced once. A lane sends each message at once while few are on their way, so that nothing
waits that need not; beyond that it collects, and sends what it has collected as one batch whenever another is done.
A batch that is refused, for one message that the stream has already or by a server that knows no batches, is dissolved
and its messages go one by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

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


class Lane:
    """The publishes of one connection to one stream, by token."""

    def __init__(self, send_one: Callable[[int], None], send_batch: Callable[[list[int]], int]) -> None:
        self._send_one = send_one
        self._send_batch = send_batch
        self._waiting: deque[int] = deque()
        self._singles = 0
        self._batches: dict[int, list[int]] = {}
        self._may_batch = True

    def add(self, token: int, publish: Publish) -> None:
        """Send a message now, or with the next batch."""
        if not self._may_batch or (self._singles < SINGLES and not self._waiting):
            self._single(token, publish)
        else:
            publish.how = How.WAITING
            self._waiting.append(token)

    def remove(self, token: int, publish: Publish) -> None:
        """Note that a message is acknowledged or given up."""
        if publish.how is How.SINGLE:
            self._singles -= 1
        elif publish.how is How.WAITING:
            self._waiting.remove(token)

    def take_batch(self, batch: int) -> list[int]:
        """Note that a batch is answered or given up, and return its messages."""
        return self._batches.pop(batch, [])

    def refuse_batches(self) -> None:
        """Send one by one from now on."""
        self._may_batch = False

    def restart(self) -> None:
        """Forget how messages were on their way: all of them are about to be sent one by one."""
        self._batches.clear()
        self._waiting.clear()
        self._singles = 0

    def again(self, token: int, publish: Publish) -> None:
        """Send a message of a dissolved batch, or of a lost connection, by itself."""
        self._single(token, publish)

    def go_on(self, publishes: dict[int, Publish]) -> None:
        """Send what waits, as far as there is room."""
        if not self._may_batch or (len(self._waiting) == 1 and self._singles < SINGLES and not self._batches):
            while self._waiting:
                token = self._waiting.popleft()
                self._single(token, publishes[token])
        elif len(self._waiting) > 1 and len(self._batches) < BATCHES:
            tokens = [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_BATCH))]
            batch = self._send_batch(tokens)
            self._batches[batch] = tokens
            for token in tokens:
                publishes[token].how = How.BATCH
                publishes[token].batch = batch

    def _single(self, token: int, publish: Publish) -> None:
        publish.how = How.SINGLE
        self._singles += 1
        self._send_one(token)
