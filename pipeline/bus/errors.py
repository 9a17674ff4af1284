"""What a handler says to the bus, and what the bus says to its caller."""

from __future__ import annotations

import random

from pipeline.errors import Failure, Refused, Unreachable


def growing_delay_s(failures: int, first_s: float, longest_s: float) -> float:
    """Return a delay that doubles with each failure, spread so that not all that failed comes back at once."""
    return min(longest_s, first_s * 2.0 ** min(failures, 30)) * random.uniform(0.75, 1.0)


class Outcome(Exception):
    """Base of the answers a handler gives by raising them."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(Outcome):
    """Deliver the message again: after `delay_s`, or after the next of the growing delays."""

    def __init__(self, reason: str, delay_s: float | None = None) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


class Reject(Outcome):
    """Give the message up for good: it becomes a dead letter."""


class Stale(Outcome):
    """Drop the message, it is worth nothing any more; it is counted as expired."""


class PublishFailed(Failure):
    """A message was not stored before its deadline. It may still be stored: publishing it again is harmless."""

    def __init__(self, what: str, fix: str = "", *, code: int = 0) -> None:
        super().__init__(what, fix)
        self.code = code
        """the server's error code, 0 where it gave none"""


class Backlogged(PublishFailed):
    """Too many publishes are on their way; wait for one of them."""


class ServerUnreachable(Unreachable):
    """No NATS server answered in time."""


class AlreadyConsumed(Refused):
    """Another process holds this durable consumer."""


class ReadFailed(Failure):
    """The server stopped answering in the middle of reading a stream."""
