"""The whole pipeline under `pipeline up`, with real processes, to be treated badly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsError
from trading_stage import MAIN, Stage, eventually

from pipeline.bus import Bus
from pipeline.messages import DeadLetter, SlotUpdate

WORKERS = ["system_manager", "auditor", "executor", "planner", "quote_core", "scanner", "market"]


@dataclass
class Whole:
    """A running pipeline: its stage, a connection to its server, and what `pipeline up --json` said."""

    stage: Stage
    bus: Bus
    log: Path
    up: subprocess.Popen[bytes]
    newest: int = 0

    def events(self) -> list[dict[str, Any]]:
        return events_of(self.log)

    def ready(self) -> bool:
        assert self.up.poll() is None, self.log.read_text()
        return {event["name"] for event in self.events() if event["state"] == "ready"} >= set(WORKERS)

    def falls(self) -> list[dict[str, Any]]:
        """What the supervisor had to bring back."""
        return [event for event in self.events() if event["state"] in ("restarting", "failed")]

    def words(self, worker: str) -> str:
        """The log of one worker."""
        return (self.stage.directory / "run" / "logs" / f"{worker}.log").read_text()

    async def slot(self) -> int:
        found = [message for _, message in await self.bus.last("market_data.slot")]
        return found[0].slot if found and isinstance(found[0], SlotUpdate) else 0

    async def results(self) -> int:
        """The number of the newest result; what was known last while the server is away."""
        with suppress(NatsError):
            self.newest = (await self.bus.js.stream_info("EXECUTED")).state.last_seq
        return self.newest

    async def trades_on(self, within_s: float = 45.0, results: int = 3) -> None:
        """Wait until so many more results are in the stream than now."""
        before = await self.results()

        async def more() -> bool:
            return await self.results() >= before + results

        await eventually(more, within_s=within_s, what="trading to go on", logs=self.all_words)

    async def letters(self) -> list[DeadLetter]:
        return [
            message
            async for message, _ in self.bus.read("METRICS", "metrics.dead_letter")
            if isinstance(message, DeadLetter)
        ]

    def all_words(self) -> str:
        logs = (self.stage.directory / "run" / "logs").glob("*.log")
        return self.log.read_text() + "\n".join(f"== {path.name}\n{path.read_text()[-1500:]}" for path in logs)


@asynccontextmanager
async def whole(directory: Path, **settings: object) -> AsyncIterator[Whole]:
    """Bring the whole pipeline up and wait until it trades; afterwards it stops cleanly."""
    stage = Stage(directory, **settings)
    bus: Bus | None = None
    try:
        if settings.get("nats.url") != "embedded":
            await stage.open()
        log = directory / "up.jsonl"
        up = subprocess.Popen(  # noqa: ASYNC220 - begins at once
            [sys.executable, "-c", MAIN, "up", "--json"],
            env=environment(stage),
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        stage.processes.append(up)
        await eventually(lambda: server_of(log) or stage.url, what="the server to be up", logs=log.read_text)
        bus = await Bus.connect(stage.config(**{"nats.url": server_of(log) or stage.url}).nats, name="tests")
        running = Whole(stage, bus, log, up)
        await eventually(running.ready, within_s=60, what="all to be ready", logs=running.all_words)
        await running.trades_on()
        yield running
        up.send_signal(signal.SIGINT)
        assert await stage.ended(up, within_s=20) == 0, running.all_words()
    finally:
        if bus is not None:
            await bus.close(1.0)
        stage.close()


def server_of(log: Path) -> str:
    """Return the address of the server that `pipeline up` brought, once it is there."""
    ready = (event for event in events_of(log) if event["name"] == "nats-server" and event["state"] == "ready")
    return next((event["detail"] for event in ready), "")


def events_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]


def environment(stage: Stage, **more: object) -> dict[str, str]:
    """What a process of the stage gets as its environment, and nothing else of ours."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PIPELINE_")}
    named = {"PIPELINE_" + key.upper().replace(".", "__"): str(value) for key, value in stage.settings(**more).items()}
    return kept | named
