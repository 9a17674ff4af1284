"""Consumption through crashes: of a worker, of one that dies of its message, and of the server."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.bus import Bus
from pipeline.config import load_config
from pipeline.messages import Opportunity
from pipeline.nats_server import EmbeddedNats
from pipeline.streams import reconcile
from tests.bus.test_consume import OPPORTUNITIES, eventually, settled


def spawn(url: str, log: Path, die_at: str = "-") -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bus.crashing_worker", url, str(log), die_at], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.integration
async def test_a_killed_worker_loses_nothing_and_is_replaced_within_seconds(
    bus: Bus, nats_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "handled"
    process = await asyncio.to_thread(spawn, nats_url, log, "20")
    for number in range(60):
        bus.publish_soon(Opportunity(id=str(number)))
    assert await asyncio.to_thread(process.wait, 10) == -9
    died = time.monotonic()
    process = await asyncio.to_thread(spawn, nats_url, log)
    try:
        await eventually(lambda: settled(bus, "crashing"), 20)
        assert time.monotonic() - died < 12, "a start of the process and one ack wait"
        attempts: dict[str, list[int]] = {}
        for line in log.read_text().splitlines():
            name, attempt = line.split()
            attempts.setdefault(name, []).append(int(attempt))
        assert set(attempts) == {str(number) for number in range(60)}
        repeated = {name for name, tries in attempts.items() if len(tries) > 1}
        assert "20" in repeated
        assert len(repeated) <= 30, "only what was in flight, or whose stored copy had not come, comes again"
    finally:
        process.kill()
        process.wait()


@pytest.mark.integration
async def test_a_message_that_kills_its_worker_every_time_becomes_a_dead_letter(
    bus: Bus, nats_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "handled"
    await bus.publish(Opportunity(id="poison"))
    await bus.publish(Opportunity(id="beside it"))
    for crash in range(1, 8):
        process = await asyncio.to_thread(spawn, nats_url, log, "poison")
        try:
            if crash < 7:
                assert await asyncio.to_thread(process.wait, 10) == -9
            else:
                await eventually(lambda: settled(bus, "crashing"), 10)
                assert process.poll() is None
        finally:
            process.kill()
            process.wait()
    letters = [message async for message, _ in bus.read("METRICS", "metrics.dead_letter")]
    given_up = {letter.causation_id: (letter.reason, letter.attempts) for letter in letters}
    assert given_up["poison"] == ("too_many_attempts", 7)
    assert "beside it" in log.read_text(), "what was only near it gets its turn"


@pytest.mark.integration
async def test_over_a_crash_of_the_server_everything_is_handled_and_lost_consumers_come_back() -> None:
    with EmbeddedNats() as server:
        settings = load_config({"nats.url": server.url, "nats.publish_timeout_s": 0.5}, environment={}).nats
        bus, source = await Bus.connect(settings, name="worker"), await Bus.connect(settings, name="source")
        await reconcile(bus.js)
        seen: Counter[str] = Counter()
        slots: list[int] = []
        await bus.consume(*OPPORTUNITIES, durable="worker", handler=lambda message, delivery: seen.update([message.id]))
        # SYSTEM is in memory: its consumer dies with the server and must be made again.
        await bus.consume(
            "SYSTEM",
            "system.kill_switch",
            durable="worker",
            handler=lambda message, delivery: slots.append(message.epoch),
        )
        from pipeline.messages import KillSwitch

        await source.publish(KillSwitch(id="k1", epoch=1))
        total = 0
        for _ in range(3):
            futures = [source.publish(Opportunity(id=str(total + number))) for number in range(50)]
            total += 50
            publishing = asyncio.gather(*futures)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await asyncio.wait_for(publishing, 15)
        await eventually(lambda: len(seen) == total, 15)
        await eventually(lambda: settled(bus, "worker"), 10)
        await eventually(lambda: settled(bus, "worker", "SYSTEM"), 10)
        await source.publish(KillSwitch(id="k2", epoch=2))
        await eventually(lambda: slots == [1, 2])
        assert max(seen.values()) == 1, "ids are remembered over the reconnect"
        await eventually(lambda: not bus.problems)
        await bus.close()
        await source.close()
