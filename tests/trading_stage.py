"""A stage for tests with real processes: a server, a permit, and workers that are started, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import Ran, ran
from nats.js.errors import NotFoundError

from pipeline.bus import Bus
from pipeline.config import load_config
from pipeline.messages import Message, PermitState
from pipeline.nats_server import EmbeddedNats
from pipeline.sections import Config
from pipeline.streams import TABLE, reconcile

MAIN = "from pipeline.cli import main; main()"
PATIENCE_S = 45.0
"""For processes to do what they should while many others run; nothing waits so long where it is there sooner."""


class Stage:
    """Fresh streams on a server of our own, or on the one that PIPELINE_TEST_NATS_URL names."""

    def __init__(self, directory: Path, **settings: object) -> None:
        self.directory = directory
        self.server: EmbeddedNats | None = None
        self.url = os.environ.get("PIPELINE_TEST_NATS_URL", "")
        self.more = settings
        self.processes: list[subprocess.Popen[bytes]] = []

    async def open(self) -> None:
        if not self.url:
            self.server = EmbeddedNats(store_dir=self.directory / "store", name="trading-tests")
            await asyncio.to_thread(self.server.start)
            self.url = self.server.url
        bus = await self.bus("admin")
        for spec in TABLE:
            with contextlib.suppress(NotFoundError):
                await bus.js.delete_stream(spec.name)
        await reconcile(bus.js)
        await bus.close()

    async def restart_server(self) -> None:
        """Kill the server and start it again; what stood in memory alone is made anew, as the supervisor does."""
        if self.server is None:
            pytest.skip("the server is not ours to kill")
        await asyncio.to_thread(self.server.kill)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(self.server.start)
        bus = await self.bus("admin")
        await reconcile(bus.js)
        await bus.close()

    async def permitted(self) -> None:
        """Start the system manager and wait until trading is allowed."""
        self.start("system_manager")
        bus = await self.bus("permit")

        async def active() -> bool:
            return any(message.state == PermitState.ACTIVE for _, message in await bus.last("system.permit"))

        await eventually(active, what="the permit", logs=self.logs)
        await bus.close()

    def settings(self, **more: object) -> dict[str, object]:
        return {
            "nats.url": self.url,
            "nats.reconnect_wait_max_s": 0.2,
            "nats.ack_wait_s": 0.5,
            "shm.directory": str(self.directory / "shm"),
            "shm.namespace": "trading-tests",
            "worker.run_dir": str(self.directory / "run"),
            "worker.data_dir": str(self.directory / "data"),
            "permit.renew_ms": 25,
            "permit.lease_ms": 1000,
            # Most of these tests run without an auditor.
            "rules.unbooked_s": 3600.0,
            "system_manager.port": 0,
            "telemetry.http_port_base": 0,
            **self.more,
            **more,
        }

    def config(self, **more: object) -> Config:
        return load_config(self.settings(**more), environment={})

    async def bus(self, name: str = "tests") -> Bus:
        return await Bus.connect(self.config().nats, name=name)

    def start(self, worker: str, environment: dict[str, str] | None = None, **more: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "worker", worker],
            env=self._environment(environment, **more),
            stdout=(self.directory / f"{worker}-{len(self.processes)}.log").open("wb"),
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        return process

    async def cli(self, *arguments: str, **more: object) -> Ran:
        """Run a command in this process."""
        return await asyncio.to_thread(ran, arguments, self._environment(None, **more))

    def _environment(self, extra: dict[str, str] | None, **more: object) -> dict[str, str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("PIPELINE_")}
        for key, value in self.settings(**more).items():
            env["PIPELINE_" + key.upper().replace(".", "__")] = str(value)
        return env | (extra or {})

    def logs(self) -> str:
        """Everything that the workers said, for a failing test."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-4000:]}" for path in self.directory.glob("*.log"))

    async def ended(self, process: subprocess.Popen[bytes], within_s: float = PATIENCE_S) -> int:
        await eventually(lambda: process.poll() is not None, within_s=within_s, what="process to end", logs=self.logs)
        return process.returncode

    async def stop(self, process: subprocess.Popen[bytes]) -> int:
        process.send_signal(signal.SIGTERM)
        return await self.ended(process)

    def close(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
        if self.server is not None:
            with contextlib.suppress(Exception):
                self.server.stop()


async def eventually(
    probe: Callable[[], Any], *, within_s: float = PATIENCE_S, what: str = "", logs: Callable[[], str] | None = None
) -> Any:
    """Wait until a probe, plain or async, returns something true; return it."""
    began = time.monotonic()
    while True:
        found = probe()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if time.monotonic() - began > within_s:
            raise AssertionError(f"not within {within_s} s: {what}\n{logs() if logs else ''}")
        await asyncio.sleep(0.02)


async def everything(bus: Bus, stream: str, subject: str | None = None) -> list[Message]:
    """Return every message that a stream holds."""
    return [message async for message, _ in bus.read(stream, subject)]


async def unacknowledged(bus: Bus, stream: str, durable: str) -> int:
    """Return what a consumer was given and has not acknowledged, and what waits for it."""
    info = await bus.js.consumer_info(stream, durable)
    return (info.num_ack_pending or 0) + (info.num_pending or 0)
