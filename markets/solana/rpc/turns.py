"""Turns at the endpoints: who waits for the right to make a call, the most urgent first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from markets.solana.rpc.endpoint import Endpoint

# A wait that a clock of another grain rounds down would be asked for again and again.
_GRAIN_S = 0.001


class Pick(Protocol):
    """Takes an endpoint for a method, if one may be asked now."""

    def __call__(self, method: str, tried: set[str]) -> Endpoint | None:
        """Return it, its right to be called taken."""


@dataclass(order=True, slots=True)
class _Waiter:
    priority: int
    number: int
    method: str = field(compare=False)
    tried: set[str] = field(compare=False)
    given: asyncio.Future[Endpoint | None] = field(compare=False)


class Turns:
    """Gives endpoints to callers by priority, then by who came first."""

    def __init__(self, pick: Pick, wait_s: Callable[[str], float | None]) -> None:
        """`wait_s` tells when `pick` may find one for a method, None where no wait helps."""
        self._pick = pick
        self._wait_s = wait_s
        self._waiting: list[_Waiter] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    async def take(self, priority: int, method: str, tried: set[str]) -> Endpoint | None:
        """Wait for an endpoint; None at once where no wait would help."""
        if not any(waiter.priority <= priority for waiter in self._waiting):
            endpoint = self._pick(method, tried)
            if endpoint is not None or self._wait_s(method) is None:
                return endpoint
        self._number += 1
        waiter = _Waiter(priority, self._number, method, tried, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._waiting.sort()
        self._set_timer()
        try:
            return await waiter.given
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def close(self) -> None:
        """Let nobody wait any longer."""
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiting:
            if not waiter.given.done():
                waiter.given.set_result(None)

    def _serve(self) -> None:
        self._timer = None
        for waiter in list(self._waiting):
            if waiter.given.done():
                continue
            endpoint = self._pick(waiter.method, waiter.tried)
            if endpoint is not None or self._wait_s(waiter.method) is None:
                waiter.given.set_result(endpoint)
                self._waiting.remove(waiter)
        self._set_timer()

    def _set_timer(self) -> None:
        """Look again when the first of those who wait may be served."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        waits = [wait_s for waiter in self._waiting if (wait_s := self._wait_s(waiter.method)) is not None]
        self._timer = asyncio.get_running_loop().call_later(min(waits, default=0.0) + _GRAIN_S, self._serve)
