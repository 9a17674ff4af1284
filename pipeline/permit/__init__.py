"""The permit: who may trade, until when, and how that is stopped.

A worker opens a `Gate` and asks `check()` immediately before every effect. The system manager renews the permit; the
latch in the key-value bucket holds the last change of state. See docs/kill-switch.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.permit.change import Latched, LatchError, NotAllowedError, Person, Rule, Startup
from pipeline.permit.gate import Gate, GateView, SharedMemory
from pipeline.permit.state import Allowed, Refused, RefusedBy, Verdict

if TYPE_CHECKING:
    from pipeline.permit.store import PermitStore

__all__ = [
    "Allowed",
    "Gate",
    "GateView",
    "LatchError",
    "Latched",
    "NotAllowedError",
    "PermitStore",
    "Person",
    "Refused",
    "RefusedBy",
    "Rule",
    "SharedMemory",
    "Startup",
    "Verdict",
]


def __getattr__(name: str) -> object:
    """Import the store, and with it the NATS client, when it is first asked for.

    `pipeline halt` stops this host by shared memory before it spends a fifth of a second on that.
    """
    if name != "PermitStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline.permit.store import PermitStore

    return PermitStore
