"""How calls over several endpoints are made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Priority(IntEnum):
    """Who goes first where endpoints limit the rate."""

    URGENT = 0
    """Somebody waits for it."""
    NORMAL = 1
    BACKGROUND = 2
    """Discovery: it can wait."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How calls are made."""

    timeout_s: float = 2.0
    """One attempt."""
    deadline_s: float = 8.0
    """One call, with all its attempts and waits."""
    attempts: int = 4
    backoff_s: float = 0.1
    """Before an endpoint is asked again that failed; doubles with each time round, drawn from 0 to this."""
    backoff_max_s: float = 2.0
    hedge_quantile: float = 0.95
    """A second endpoint is asked when the first takes longer than it does for this share of its calls."""
    hedge_min_s: float = 0.05
    max_lag_slots: int = 20
    slot_fresh_s: float = 15.0
    breaker_failures: int = 5
    breaker_window: int = 10
    breaker_open_s: float = 1.0
    breaker_open_max_s: float = 30.0
    commitment: str = "processed"
    chain: str = ""
    """Genesis hash of the chain that is meant; empty: the one that most endpoints serve."""


@dataclass(slots=True)
class PoolFigures:
    """What the pool as a whole has done."""

    calls: int = 0
    """Attempts at endpoints, and calls that found none to ask."""
    failures: int = 0
    hedged: int = 0
    hedges_won: int = 0
    failovers: int = 0
    unanswered: int = 0
