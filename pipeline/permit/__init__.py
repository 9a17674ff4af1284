"""The permit: who may trade, until when, and how that is stopped.

A worker opens a `Gate` and asks `check()` immediately before every effect. The system manager renews the permit; the
latch in the key-value bucket holds the last change of state. See docs/kill-switch.md.
"""

from pipeline.permit.gate import Gate, GateView, SharedMemory
from pipeline.permit.state import Allowed, Refused, RefusedBy, Verdict
from pipeline.permit.store import Latched, LatchError, NotAllowedError, PermitStore, Person, Rule, Startup

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
