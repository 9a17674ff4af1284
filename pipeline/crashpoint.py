"""Die at a named step, for the tests that kill a worker at every instruction that matters.

`PIPELINE_CRASH_AT=name` makes the first pass through `crashpoint("name")` the last thing that the process does:
SIGKILL, so no handler, no flush and no goodbye. `name:3` means the third pass. Without the variable a crash point
costs one comparison. Nothing but a test sets it.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "PIPELINE_CRASH_AT"

_name, _, _passes = os.environ.get(VARIABLE, "").partition(":")
_left = int(_passes) if _passes else 1


def crashpoint(name: str) -> None:
    """Kill this process here if the test asked for it."""
    global _left
    if name != _name:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
