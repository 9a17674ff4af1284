"""The services of compose.yaml as plain processes: same commands, environments, secrets and health checks."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.nats_server import find_nats_server

yaml = pytest.importorskip("yaml")
COMPOSE = Path(__file__).resolve().parents[2] / "compose"
NOT_WORKERS = {"nats", "postgres", "redis", "init-streams"}

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def free_ports(count: int) -> int:
    """Return the first of some neighbouring ports that are free now."""
    for base in range(21_000, 32_000, count):
        taken = False
        for port in range(base, base + count):
            with socket.socket() as probe:
                taken = taken or probe.connect_ex(("127.0.0.1", port)) == 0
        if not taken:
            return base
    raise AssertionError("no free ports")


class Host:
    """The machine in the place of the containers."""

    def __init__(self, directory: Path) -> None:
        self.compose: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
        self.directory = directory
        self.base = free_ports(20)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        subprocess.run([COMPOSE / "make-secrets.sh", directory / "secrets"], check=True, capture_output=True)
        # What stands for a container here: its secrets, its own /tmp, the shared memory, the names of the network.
        self.here = {
            "/run/secrets": str(directory / "secrets"),
            "/shm": str(directory / "shm"),
            "nats://nats:4222": f"nats://127.0.0.1:{self.base + 15}",
        }

    def translated(self, text: str) -> str:
        text = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text)
        for inside, outside in self.here.items():
            text = text.replace(inside, outside)
        return text

    def environment(self, name: str) -> dict[str, str]:
        given = self.compose["services"][name].get("environment", {})
        own = f"{self.directory / name}/"
        found = {
            key: str(value).replace("/tmp/", own) if str(value).startswith("/tmp/") else self.translated(str(value))
            for key, value in given.items()
        }
        if name in NOT_WORKERS - {"init-streams"}:
            return found
        found |= {
            "PIPELINE_TELEMETRY__HTTP_PORT_BASE": str(self.base),
            "PIPELINE_SYSTEM_MANAGER__PORT": str(self.base + 16),
        }
        found.pop("PIPELINE_AUDITOR__DATABASE_URL_FILE", None)  # no PostgreSQL here: SQLite
        return found

    def run(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PIPELINE_")}
        with open(self.directory / f"{name}.log", "wb") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**kept, **self.environment(name)}
            )
        return self.processes[name]

    def server(self) -> None:
        """Run the server's own shell line, its paths and port translated."""
        line = self.translated(self.compose["services"]["nats"]["command"][0]).replace("$$", "$")
        line = line.replace("/etc/nats/", f"{COMPOSE}/").replace("-sd /data", f"-sd {self.directory}/nats")
        line = line.replace("exec nats-server", f"exec {find_nats_server()} -p {self.base + 15} -m {self.base + 17}")
        self.run("nats", ["/bin/sh", "-c", line.replace("-a 0.0.0.0", "-a 127.0.0.1")])
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.base + 15)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((self.directory / "nats.log").read_text())

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        return self.run(name, [sys.executable, "-m", "pipeline", *self.compose["services"][name]["command"]])

    def healthy(self, name: str) -> bool:
        """Run the service's health check."""
        kind, program, *arguments = self.compose["services"][name]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        arguments = [re.sub(r":91(\d\d)/", lambda m: f":{self.base + int(m.group(1))}/", text) for text in arguments]
        return subprocess.run([sys.executable, *arguments], capture_output=True, check=False).returncode == 0

    def stop(self) -> dict[str, int]:
        """Stop the workers, then the server, as compose does with what depends on one another."""
        codes = {}
        first = [name for name in self.processes if name != "nats"]
        for names in (first, ["nats"]):
            running = {name: self.processes[name] for name in names if name in self.processes}
            for process in running.values():
                if process.poll() is None:
                    process.terminate()
            for name, process in running.items():
                try:
                    codes[name] = process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    codes[name] = process.wait()
        return codes


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    yield found
    found.stop()


def test_the_services_come_up_and_go_down(host: Host) -> None:
    host.server()
    assert host.worker("init-streams").wait(30) == 0, (host.directory / "init-streams.log").read_text()
    workers = [name for name in host.compose["services"] if name not in NOT_WORKERS]
    for name in workers:
        host.worker(name)
    waiting = set(workers)
    deadline = time.monotonic() + 60
    while waiting and time.monotonic() < deadline:
        time.sleep(0.5)  # a check is a process, and they are not ready sooner for being asked
        waiting = {name for name in waiting if not host.healthy(name)}
    logs = {name: (host.directory / f"{name}.log").read_text()[-500:] for name in waiting}
    assert not waiting, logs
    codes = host.stop()
    assert {name: codes[name] for name in workers} == dict.fromkeys(workers, 0)
    for name in workers:
        for secret in (host.directory / "secrets").iterdir():
            assert secret.read_text() not in (host.directory / f"{name}.log").read_text()


def test_without_the_token_nobody_gets_in(host: Host) -> None:
    host.server()
    (host.directory / "secrets" / "nats_token").chmod(0o644)
    (host.directory / "secrets" / "nats_token").write_text("a wrong one")
    process = host.worker("init-streams")
    assert process.wait(30) == 3
    assert "wrong one" not in (host.directory / "init-streams.log").read_text()
