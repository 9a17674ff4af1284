"""What a connection has done since it was opened: the figures of a worker's health message."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_WINDOW = 4_096


@dataclass(slots=True)
class Counters:
    """Counts since the start; `latencies_ns` holds the newest handler times."""

    received: int = 0
    """messages begun to be handled, redeliveries included"""
    handled: int = 0
    """messages handled to the end"""
    failed: int = 0
    """handler errors, retried ones included"""
    retried: int = 0
    """messages sent back to be delivered again"""
    expired: int = 0
    """messages that their handler called stale"""
    duplicates: int = 0
    """messages dropped because their id was already handled or is being handled"""
    invalid: int = 0
    """messages that did not verify"""
    dead_lettered: int = 0
    """messages given up"""
    dropped: int = 0
    """live messages dropped because too many handlers were running"""
    published: int = 0
    """messages published and acknowledged"""
    publish_retries: int = 0
    """publishes sent again because no acknowledgement came"""
    publish_failed: int = 0
    """publishes given up"""
    in_flight: int = 0
    """handlers running now"""
    reconnects: int = 0
    latencies_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_WINDOW))
