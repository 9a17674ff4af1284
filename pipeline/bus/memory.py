"""What a consumer remembers about messages, by id: so that every further copy of one is recognised."""

from __future__ import annotations

import time
from collections import deque
from enum import Enum, auto
from typing import Any

from pipeline.bus.delivery import Delivery

REMEMBERED = 65_536  # ids of handled messages
FORGET_S = 60.0
UNKNOWN: Any = object()


class State(Enum):
    """Where a message stands."""

    QUEUED = auto()
    """waiting for a handler's place"""
    RUNNING = auto()
    """with the handler, or on its way to the dead letters"""
    HANDLED = auto()
    """acknowledged, or waiting for its durable copy to be acknowledged"""
    RETRYING = auto()
    """sent back, or waiting for its durable copy to be sent back"""
    DEAD = auto()
    """to be reported as a dead letter once its durable copy is here"""


class Entry:
    """One message and its copies."""

    __slots__ = (
        *("attempt", "delivery", "detail", "durable_seen", "key", "payload", "reason", "reply", "retry_at", "started"),
        *("state", "waiting"),
    )

    def __init__(self, key: bytes, payload: bytes, delivery: Delivery, reply: bytes) -> None:
        self.key = key
        self.payload = payload
        self.delivery = delivery
        self.reply = reply
        """where the durable copy is answered; empty until it is here"""
        self.durable_seen = bool(reply)
        self.attempt = delivery.attempt
        self.state = State.QUEUED
        self.started = 0
        self.waiting = 0
        """futures that the handler returned and that are not done"""
        self.retry_at = 0.0
        self.reason = ""
        self.detail = ""


class Memory:
    """Entries by id; of a handled message whose copies were both seen, the id alone."""

    def __init__(self) -> None:
        self.ahead = 0
        """messages handled live whose durable copy has not come"""
        self.next_sequence = 0
        """the sequence after the newest durable copy; 0 = none yet"""
        self._entries: dict[bytes, Entry | None] = {}
        self._settled: deque[bytes] = deque()

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def find(self, key: bytes) -> Any:
        """Return the entry, None where the message is done with, or UNKNOWN."""
        return self._entries.get(key, UNKNOWN)

    def add(self, entry: Entry) -> None:
        """Begin to remember a message."""
        self._entries[entry.key] = entry
        if not entry.durable_seen:
            self.ahead += 1

    def see_durable(self, entry: Entry) -> bool:
        """Note a durable copy; return whether it was the first."""
        if entry.durable_seen:
            return False
        entry.durable_seen = True
        self.ahead -= 1
        if entry.state is State.HANDLED:
            self._entries[entry.key] = None
        return True

    def settle(self, entry: Entry) -> None:
        """Keep the id of a handled message, and forget the oldest one."""
        if entry.durable_seen:
            self._entries[entry.key] = None
        self._settled.append(entry.key)
        if len(self._settled) > REMEMBERED:
            forgotten = self._entries.pop(self._settled.popleft(), None)
            if forgotten is not None and not forgotten.durable_seen:
                self.ahead -= 1

    def forget_lost(self) -> None:
        """Let go of messages whose next copy did not come in a minute: never stored, or gone from the stream."""
        now = time.monotonic()
        limit_ns = time.time_ns() - int(FORGET_S * 1e9)
        for entry in [entry for entry in self._entries.values() if entry is not None]:
            if entry.delivery.received_ns >= limit_ns:
                continue
            if not entry.durable_seen:
                self.see_durable(entry)
            if entry.state in (State.RETRYING, State.DEAD) and entry.retry_at + FORGET_S < now:
                del self._entries[entry.key]

    def resume_sequence(self) -> int:
        """Return where to go on should the server lose the consumer: all before it is answered; 0 = unknown."""
        unanswered = [
            entry.delivery.sequence
            for entry in self._entries.values()
            if entry is not None and entry.state is not State.HANDLED and entry.delivery.sequence
        ]
        return min(unanswered, default=self.next_sequence)
