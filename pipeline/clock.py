"""The wall clock. Market time comes from the venue, never from here."""

import time

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


def wall_ns() -> int:
    """Return wall-clock time in ns since the Unix epoch: for `created_ns` and for latency figures."""
    return time.time_ns()
