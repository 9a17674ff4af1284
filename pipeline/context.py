"""What a worker is given when it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.bus import Bus
    from pipeline.config import Config
    from pipeline.health import Health
    from pipeline.logs import Log
    from pipeline.permit import Gate


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Everything that comes from outside a worker's own logic.

    `run(context)` sets up its consumption and then awaits `stopping` (or asks it again and again): from the first look
    at it on the worker counts as ready. When `run` returns, the bus is drained and the process ends.
    """

    name: str
    config: Config
    bus: Bus
    gate: Gate
    health: Health
    log: Log
    clock: Callable[[], int]
    """wall-clock time in ns since the Unix epoch"""
    stopping: asyncio.Event
    """set when the worker is to finish what it has begun"""
    live: bool = False
    """whether `--live` stood on this process's command line, without which no executor runs in live mode"""
