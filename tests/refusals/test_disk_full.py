"""The disk of the server's store fills up while everything runs: trading stops, is explained, and goes on with room."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from small_disk import fill, small_disk
from trading_stage import eventually
from whole import WORKERS, whole

from pipeline.messages import ExecutionResult

NOT_STORED = "failed: no acknowledgement"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


async def test_trading_stops_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    settings = {"nats.url": "embedded", "nats.embedded_port": 0, "nats.publish_deadline_s": 3.0}
    with small_disk(tmp_path / "small", "160m") as disk:
        async with whole(tmp_path, **settings, **{"nats.embedded_store": str(disk)}) as run:
            fill(disk / "filler")

            def said() -> list[str]:
                return [event["detail"] for event in run.events() if event["name"] == "nats-server"]

            await eventually(lambda: "no space left on device" in said()[-1], what="to be told", logs=run.all_words)
            assert "again once 64 MiB are free" in said()[-1]
            await asyncio.sleep(1)  # a plan that was claimed before may still have its result stored
            before = await run.results()
            await asyncio.sleep(3)
            assert await run.results() == before, "what cannot be claimed is not executed"
            await eventually(
                lambda: any(NOT_STORED in run.words(worker) for worker in WORKERS), what="workers to say so"
            )
            (disk / "filler").unlink()
            await run.trades_on(within_s=40)
            assert {event["name"] for event in run.falls()} == {"nats-server"}, "no worker fell"
            executed = [
                message async for message, _ in run.bus.read("EXECUTED") if isinstance(message, ExecutionResult)
            ]
            assert len({result.plan_id for result in executed}) == len(executed)
