"""A stage for the permit's tests: a server of its own, which may be killed, and real manager processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from in_process import Ran, ran

from pipeline.config import load_config
from pipeline.nats_server import EmbeddedNats
from pipeline.permit import Allowed, Gate, Refused
from pipeline.permit.client import connect
from pipeline.sections import Config
from pipeline.streams import reconcile

MAIN = "from pipeline.cli import main; main()"


class Stage:
    """One server, one host's shared memory, and the processes started on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = EmbeddedNats(store_dir=directory / "store", name="permit-tests")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.gates: list[Gate] = []
        self.shm = directory / "shm"

    def settings(self, run: str = "run", **more: object) -> dict[str, object]:
        return {
            "nats.url": self.server.url,
            "nats.reconnect_wait_max_s": 0.2,
            "shm.directory": str(self.shm),
            "shm.namespace": "permit-tests",
            "worker.run_dir": str(self.directory / run),
            "system_manager.port": 0,
            "telemetry.http_port_base": 0,
            **more,
        }

    def config(self, **more: object) -> Config:
        return load_config(self.settings(**more), environment={})

    def environment(self, **more: object) -> dict[str, str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("PIPELINE_")}
        for key, value in self.settings(**more).items():
            env["PIPELINE_" + key.upper().replace(".", "__")] = str(value)
        return env

    def gate(self, *, shared_memory: bool = True, **more: object) -> Gate:
        mode = "auto" if shared_memory else "off"
        gate = Gate.open(self.config(**{"permit.shared_memory": mode, **more}), name="test")
        self.gates.append(gate)
        assert gate.wait_ready(5)
        return gate

    def start(self, *command: str, **more: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *command], env=self.environment(**more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.processes.append(process)
        return process

    def manager(self, **more: object) -> subprocess.Popen[bytes]:
        return self.start("-c", MAIN, "worker", "system_manager", **more)

    def cli(self, *arguments: str, **more: object) -> Ran:
        """Run a command in this process."""
        return ran(arguments, self.environment(**more))

    async def make_streams(self) -> None:
        nc = await connect(self.config().nats, "tests", patient=False)
        await reconcile(nc.jetstream())
        await nc.close()

    async def restart_server(self) -> None:
        """Start the killed server again, and make what stood in memory alone, as the supervisor does."""
        await asyncio.to_thread(self.server.start)
        await self.make_streams()

    def close(self) -> None:
        for gate in self.gates:
            gate.close()
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        with suppress(Exception):
            self.server.stop()


def eventually(probe: Callable[[], object], *, within_s: float = 30.0, what: str = "") -> float:
    """Wait until a probe holds; return the seconds it took."""
    began = time.monotonic()
    while not probe():
        if time.monotonic() - began > within_s:
            raise AssertionError(f"not within {within_s} s: {what or probe}")
        time.sleep(0.002)
    return time.monotonic() - began


def opened(gate: Gate) -> Callable[[], bool]:
    return lambda: isinstance(gate.check(), Allowed)


def closed(gate: Gate) -> Callable[[], bool]:
    return lambda: isinstance(gate.check(), Refused)


def logs(output: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
