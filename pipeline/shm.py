"""Shared memory between the workers of one host: quotes, pool snapshots and the permit word.

Four files in `config.shm_directory`, each with one writer and any number of readers:

- `quotes-internal` and `quotes-external`: quote tables, written by the quote core (`QuoteTableWriter`, `QuoteTable`);
- `pools`: the newest snapshot of each pool, so that others quote exactly without the network (`PoolBlobWriter`,
  `PoolBlobTable`);
- `permit`: whether anything may be done at all (`PermitWordWriter`, `PermitWord`).

The classes are native; `docs/shared-memory.md` describes layout and protocol. A reader never gets a torn value: it gets
a whole one, or `None` when there was none to be had in a bounded number of attempts.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pipeline._core import (
    QUOTE_VOID,
    Cursor,
    PermitWord,
    PermitWordWriter,
    PoolBlob,
    PoolBlobTable,
    PoolBlobWriter,
    QuoteEntry,
    QuoteSnapshot,
    QuoteTable,
    QuoteTableWriter,
    SharedMemoryDenied,
    SharedMemoryError,
    SharedMemoryFull,
    SharedMemoryIncompatible,
    SharedMemoryMissing,
    SharedMemoryOwned,
    Waker,
)

if TYPE_CHECKING:
    import numpy

__all__ = [
    "PERMIT",
    "POOLS",
    "QUOTES_EXTERNAL",
    "QUOTES_INTERNAL",
    "QUOTE_VOID",
    "Cursor",
    "PermitWord",
    "PermitWordWriter",
    "PoolBlob",
    "PoolBlobTable",
    "PoolBlobWriter",
    "QuoteEntry",
    "QuoteSnapshot",
    "QuoteTable",
    "QuoteTableWriter",
    "SharedMemoryDenied",
    "SharedMemoryError",
    "SharedMemoryFull",
    "SharedMemoryIncompatible",
    "SharedMemoryMissing",
    "SharedMemoryOwned",
    "Waker",
    "Watch",
    "as_array",
    "open_when_there",
]

QUOTES_INTERNAL: Final = "quotes-internal"
QUOTES_EXTERNAL: Final = "quotes-external"
POOLS: Final = "pools"
PERMIT: Final = "permit"

# One entry as it lies in a snapshot's buffer; the first word is the sequence, always 0 there.
_FIELDS: Final = [
    ("", "V8"),
    ("pool", "<u4"),
    ("pair", "<u4"),
    ("token_in", "<u2"),
    ("token_out", "<u2"),
    ("provider", "<u2"),
    ("protocol", "u1"),
    ("staleness", "u1"),
    ("amount_in", "<u8"),
    ("amount_out", "<u8"),
    ("slot", "<u8"),
    ("write_version", "<u8"),
    ("quoted_ns", "<i8"),
    ("price_impact_bps", "<f8"),
    ("confidence", "<f8"),
    ("oracle_amount_out", "<u8"),
    ("route", "<u8"),
    ("fee_amount", "<u8"),
    ("batch", "<u8"),
    ("amount_index", "<u4"),
    ("hops", "<u4"),
    ("factors", "<u8"),
]

READ_AT_ONCE: Final = 4096
"""An eventfd gives its 8 bytes, a pipe all that is in it."""

_Opened = TypeVar("_Opened")


def as_array(snapshot: QuoteSnapshot) -> numpy.ndarray[Any, Any]:
    """Look at a snapshot as a numpy record array, without copying. Needs numpy."""
    import numpy as np

    return np.frombuffer(memoryview(snapshot), dtype=np.dtype(_FIELDS))


def open_when_there(opener: Callable[[Path], _Opened], path: Path, timeout_s: float, poll_s: float = 0.02) -> _Opened:
    """Open a file whose writer may start later than its reader; raise `SharedMemoryMissing` when it does not come."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return opener(path)
        except SharedMemoryMissing:
            if time.monotonic() >= deadline:
                raise
        time.sleep(poll_s)


class Watch:
    """Tell an event loop of commits to a quote table.

    A thread outside Python sleeps in the kernel until the writer commits. A busy loop is told once for many commits,
    not once each.
    """

    def __init__(self, table: QuoteTable) -> None:
        """Start to watch, on behalf of the running loop."""
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._waker = table.waker()
        self._loop.add_reader(self._waker.fileno(), self._on_commit)

    def _on_commit(self) -> None:
        os.read(self._waker.fileno(), READ_AT_ONCE)
        self._changed.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a commit since the last call; `False` after `timeout_s` without one."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    def close(self) -> None:
        """Stop watching."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._waker.fileno())
        self._waker.close()
