"""A deadline that holds for what swallows its cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def within(limit_s: float, work: Coroutine[Any, Any, None]) -> None:
    """Await the work, or cancel it after `limit_s` and raise TimeoutError.

    nats-py's attempts stand in `asyncio.wait_for`, which in Python 3.11 loses a cancellation that meets the end of
    what it waits for; cancelled once, it may go on connecting for ever.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=limit_s)
        if task.done():
            return task.result()
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)
    raise TimeoutError
