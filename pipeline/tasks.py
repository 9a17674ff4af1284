"""Ending tasks for good."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_S = 0.2


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until every one of them has ended; what they raise is dropped.

    Once is not enough: `asyncio.wait_for` of Python 3.11 returns its result and forgets the cancellation when both come
    in the same turn of the loop, and a task that reads a busy stream in it then goes on for ever.
    """
    ended = list(tasks)
    pending = {task for task in ended if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)
    for task in ended:
        if not task.cancelled():
            task.exception()  # else the loop complains that nobody asked
