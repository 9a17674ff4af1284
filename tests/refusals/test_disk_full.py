"""The disk of the server's store fills up while everything runs: trading stops, is explained, and goes on with room."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from trading_stage import eventually
from whole import WORKERS, whole

from pipeline.messages import ExecutionResult

NOT_STORED = "failed: no acknowledgement"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk for the server's store."""
    place = tmp_path / "small"
    place.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=160m", "none", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(path: Path) -> None:
    """Write until there is no room left."""
    filler = os.open(path, os.O_CREAT | os.O_WRONLY)
    with suppress(OSError):
        while True:
            os.write(filler, bytes(1 << 16))
    with suppress(OSError):
        while True:
            os.write(filler, bytes(1))
    os.close(filler)


async def test_trading_stops_and_goes_on_once_there_is_room(tmp_path: Path, small_disk: Path) -> None:
    own_server = {"nats.url": "embedded", "nats.embedded_port": 0, "nats.embedded_store": str(small_disk)}
    async with whole(tmp_path, **own_server, **{"nats.publish_deadline_s": 3.0}) as run:
        fill(small_disk / "filler")

        def said() -> list[str]:
            return [event["detail"] for event in run.events() if event["name"] == "nats-server"]

        await eventually(lambda: "no space left on device" in said()[-1], what="to be told", logs=run.all_words)
        assert "again once 64 MiB are free" in said()[-1]
        before = await run.results()
        await asyncio.sleep(3)
        assert await run.results() == before, "what cannot be claimed is not executed"
        await eventually(lambda: any(NOT_STORED in run.words(worker) for worker in WORKERS), what="workers to say so")
        (small_disk / "filler").unlink()
        await run.trades_on(within_s=40)
        assert {event["name"] for event in run.falls()} == {"nats-server"}, "no worker fell"
        executed = [message async for message, _ in run.bus.read("EXECUTED") if isinstance(message, ExecutionResult)]
        assert len({result.plan_id for result in executed}) == len(executed)
