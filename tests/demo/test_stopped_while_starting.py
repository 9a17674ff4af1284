"""A demonstration that is told to stop before it has begun."""

import asyncio
from typing import Any

import pytest

from pipeline.demo.run import _start
from pipeline.errors import CheckFailed, Refused


class Supervisor:
    """One whose workers never get ready, or refuse."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self.cleaned = False

    async def start(self) -> None:
        try:
            if self.refusal is not None:
                raise self.refusal
            await asyncio.sleep(60)
        finally:
            self.cleaned = True


@pytest.mark.timeout(10)
async def test_stop_is_heard_while_workers_are_starting() -> None:
    supervisor: Any = Supervisor()
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stop.set)
    with pytest.raises(CheckFailed, match="stopped before"):
        await _start(supervisor, stop)
    assert supervisor.cleaned


async def test_a_refusal_at_the_start_is_told() -> None:
    supervisor: Any = Supervisor(Refused("no"))
    with pytest.raises(Refused, match="no"):
        await _start(supervisor, asyncio.Event())
