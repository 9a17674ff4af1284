"""The baseline of the pipeline benchmark: three relay processes between streams like ours, driven from here."""

from __future__ import annotations

import asyncio
import time

from nats.js.api import StorageType, StreamConfig

from bench.pipeline_relay import ARRIVED, COLLECT, HEAD, HOPS, stream, subject
from bench.pipeline_stage import PATIENCE_S, WINDOW, Stage, paced


class Relay:
    """The baseline."""

    def __init__(self, stage: Stage, sizes: tuple[int, ...]) -> None:
        self._bus = stage.bus
        self._stage = stage
        self._sizes = sizes
        self._sent = 0

    async def start(self, url: str) -> None:
        """Make the streams, like the pipeline's, and start a process for each hop."""
        for hop in range(HOPS):
            config = StreamConfig(stream(hop), subjects=[subject(hop)], storage=StorageType.FILE, max_age=3600)
            await self._bus.js.add_stream(config)
            following = self._sizes[hop + 1] if hop + 1 < HOPS else 0
            self._stage.launch("-m", "bench.pipeline_relay", url, str(hop), str(following))
        await self._publish(0)
        await self._collect(1)

    async def _publish(self, number: int) -> None:
        head = HEAD.pack(number, time.time_ns())
        self._sent += 1
        await self._bus.js.publish(subject(0), head + bytes(self._sizes[0]))

    async def _collect(self, count: int) -> list[tuple[int, int, int]]:
        arrived: list[tuple[int, int, int]] = []
        deadline = time.monotonic() + 2 * PATIENCE_S
        while len(arrived) < count:
            assert time.monotonic() < deadline, f"the relay lost {count - len(arrived)} of {count}"
            try:
                answer = await self._bus.client.request(COLLECT, b"", timeout=1)
            except Exception:  # not there yet
                await asyncio.sleep(0.1)
                continue
            arrived += ARRIVED.iter_unpack(answer.data)
            await asyncio.sleep(0.05)
        return arrived

    async def at_rate(self, rate: int, count: int) -> list[float]:
        """Return the milliseconds of each message from the change to the last hop."""
        pending: set[asyncio.Task[None]] = set()

        async def step(number: int) -> None:
            task = asyncio.create_task(self._publish(number))
            pending.add(task)
            task.add_done_callback(pending.discard)

        await paced(rate, count, step)
        arrived = await self._collect(count)
        assert sorted(number for number, _, _ in arrived) == list(range(count))
        return [(at - began) / 1e6 for _, began, at in arrived]

    async def flat_out(self, count: int) -> float:
        """Return messages per second, with a window of them on their way into the first hop."""
        window = asyncio.Semaphore(WINDOW)

        async def one(number: int) -> None:
            async with window:
                await self._publish(number)

        await asyncio.gather(*(one(number) for number in range(count)))
        arrived = await self._collect(count)
        assert sorted(number for number, _, _ in arrived) == list(range(count))
        return count / (max(at for _, _, at in arrived) - min(began for _, began, _ in arrived)) * 1e9
