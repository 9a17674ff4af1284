"""Typed messages over NATS JetStream: published until stored, consumed once in effect. See docs/delivery.md."""

from pipeline.bus.connection import Bus
from pipeline.bus.consumer import Consumer, Handler
from pipeline.bus.counters import Counters
from pipeline.bus.delivery import Delivery
from pipeline.bus.errors import (
    AlreadyConsumed,
    Backlogged,
    PublishFailed,
    ReadFailed,
    Reject,
    Retry,
    ServerUnreachable,
    Stale,
)
from pipeline.bus.lanes import Stored

__all__ = [
    "AlreadyConsumed",
    "Backlogged",
    "Bus",
    "Consumer",
    "Counters",
    "Delivery",
    "Handler",
    "PublishFailed",
    "ReadFailed",
    "Reject",
    "Retry",
    "ServerUnreachable",
    "Stale",
    "Stored",
]
