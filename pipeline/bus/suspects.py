"""Messages that came again and again without an answer: one of them takes the process down."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from pipeline.bus.memory import Entry

PATIENCE = 2  # times the attempts that a message has which fails with an answer
_PAUSE_S = 0.05


class Suspects:
    """Run suspects one by one, in random order and with nothing beside them.

    Of those that are harmless half get through each time before the process dies; the one that is not stays behind,
    until its deliveries are used up.
    """

    def __init__(self, begin: Callable[[Entry], None], may_begin: Callable[[], bool]) -> None:
        self._begin = begin
        self._may_begin = may_begin
        self._entries: list[Entry] = []
        self._loop = asyncio.get_running_loop()

    def add(self, entry: Entry) -> None:
        """Take one more; the first waits for those that come with it."""
        if not self._entries:
            self._loop.call_later(_PAUSE_S, self._next)
        self._entries.append(entry)

    def clear(self) -> None:
        """Let go of all: they are delivered again."""
        self._entries.clear()

    def _next(self) -> None:
        if not self._entries:
            return
        if self._may_begin():
            self._begin(self._entries.pop(random.randrange(len(self._entries))))
        self._loop.call_later(_PAUSE_S, self._next)  # by then the answer is with the server
