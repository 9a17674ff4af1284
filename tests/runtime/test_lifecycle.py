"""Worker processes against a real nats-server: start, wait, drain, force, refuse."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fake_process import FAKE, Process

from pipeline import run_files
from pipeline.bus import Bus
from pipeline.config import Config, to_toml
from pipeline.ids import deterministic_id
from pipeline.messages import Command, CommandKind, WorkerHealth, WorkerState
from pipeline.nats_server import EmbeddedNats, find_nats_server
from pipeline.run_files import with_url
from pipeline.streams import STREAMS, reconcile

pytestmark = pytest.mark.integration
Spawn = Callable[..., Process]


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats() as running:
        yield running


@pytest.fixture
async def config(runtime_config: Config, server: EmbeddedNats) -> Config:
    found = with_url(runtime_config, server.url)
    bus = await Bus.connect(found.nats, name="test")
    await reconcile(bus.js)
    await bus.close()
    return found


@pytest.fixture
async def observer(config: Config) -> AsyncIterator[Bus]:
    bus = await Bus.connect(config.nats, name="test observer")
    yield bus
    await bus.close()


async def ended(process: Process, within_s: float = 30.0) -> int:
    return await asyncio.to_thread(process.popen.wait, within_s)


async def waited(process: Process, event: str) -> dict[str, object]:
    return await asyncio.to_thread(process.wait_for, event)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(config: Config, spawn: Spawn, number: signal.Signals) -> None:
    process = spawn(config, mode="slow")
    await waited(process, "ready")
    process.popen.send_signal(number)
    assert await ended(process) == 0
    assert "finished what was begun" in process.events()
    assert process.log()[-1]["cause"] == number.name
    assert run_files.read(config, "planner") is None, "the run file is gone"
    assert not (config.run_directory / "planner.json").exists()


async def test_a_second_signal_forces(config: Config, spawn: Spawn) -> None:
    process = spawn(config, mode="stubborn")
    await waited(process, "ready")
    process.popen.send_signal(signal.SIGTERM)
    await waited(process, "draining")
    started = time.monotonic()
    process.popen.send_signal(signal.SIGTERM)
    assert await ended(process) == 128 + signal.SIGTERM
    assert time.monotonic() - started < 1.0
    assert not (config.run_directory / "planner.json").exists()


async def test_the_drain_has_a_deadline(config: Config, spawn: Spawn) -> None:
    process = spawn(config, mode="stubborn")
    await waited(process, "ready")
    started = time.monotonic()
    process.popen.send_signal(signal.SIGTERM)
    assert await ended(process) == 1
    assert config.worker.drain_s * 0.9 < time.monotonic() - started < config.worker.drain_s + 3
    assert any("deadline" in event for event in process.events())


async def test_the_deadline_holds_where_the_loop_is_blocked(config: Config, spawn: Spawn) -> None:
    process = spawn(config, mode="blocking")
    await waited(process, "ready")
    await asyncio.sleep(0.2)
    started = time.monotonic()
    process.popen.send_signal(signal.SIGTERM)
    assert await ended(process) == 1
    assert time.monotonic() - started < config.worker.drain_s + 3


@pytest.mark.parametrize("target", ["planner", "*"])
async def test_a_command_drains(config: Config, spawn: Spawn, observer: Bus, target: str) -> None:
    process = spawn(config)
    await waited(process, "ready")
    await observer.publish(
        Command(
            id=deterministic_id("test", target),
            kind=CommandKind.DRAIN,
            target=target,
            actor="ada",
            reason="maintenance",
        )
    )
    assert await ended(process) == 0
    assert process.log()[-1]["cause"] == "command of ada"


async def test_without_a_server_it_waits_and_says_so(runtime_config: Config, spawn: Spawn) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = with_url(runtime_config, f"nats://watchdog:hunter22@127.0.0.1:{port}")
    process = spawn(config)
    said = await waited(process, "waiting for the NATS server")
    assert "hunter22" not in process.output.read_text()
    assert str(port) in str(said["error"])
    entry = run_files.read(config, "planner")
    assert entry is not None
    assert await asyncio.to_thread(_get, f"{entry.url}/healthz") == 200
    assert await asyncio.to_thread(_get, f"{entry.url}/readyz") == 503

    with EmbeddedNats(port=port) as server:
        late = with_url(runtime_config, server.url)
        bus = await Bus.connect(late.nats, name="test")
        await reconcile(bus.js)
        await bus.close()
        await waited(process, "ready")
        assert await asyncio.to_thread(_get, f"{entry.url}/readyz") == 200
        process.popen.terminate()
        assert await ended(process) == 0


async def test_a_stop_while_waiting_for_the_server_is_obeyed_at_once(runtime_config: Config, spawn: Spawn) -> None:
    process = spawn(with_url(runtime_config, "nats://127.0.0.1:9"))
    await waited(process, "waiting for the NATS server")
    started = time.monotonic()
    process.popen.terminate()
    assert await ended(process) == 0
    assert time.monotonic() - started < 1.0


async def test_missing_streams_are_refused(runtime_config: Config, server: EmbeddedNats, spawn: Spawn) -> None:
    process = spawn(with_url(runtime_config, server.url))
    assert await ended(process) == 1
    failure = next(entry for entry in process.log() if entry["event"] == "stopped by a failure")
    assert "init-streams" in failure["fix"]
    assert all(spec.name in failure["error"] for spec in STREAMS)


async def test_a_server_without_jetstream_is_waited_for(runtime_config: Config, spawn: Spawn) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(  # noqa: ASYNC220 - begins at once
        [find_nats_server(), "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        process = spawn(with_url(runtime_config, f"nats://127.0.0.1:{port}"))
        said = await waited(process, "waiting for JetStream")
        assert "compose/nats.conf" in str(said["fix"])
        process.popen.terminate()
        assert await ended(process) == 0
    finally:
        server.kill()
        server.wait()


async def test_it_survives_a_restart_of_the_server(config: Config, server: EmbeddedNats, spawn: Spawn) -> None:
    process = spawn(config)
    await waited(process, "ready")
    server.kill()
    await asyncio.sleep(0.5)
    assert process.popen.poll() is None
    entry = run_files.read(config, "planner")
    assert entry is not None
    assert await asyncio.to_thread(_get, f"{entry.url}/readyz") == 503
    server.start()
    deadline = time.monotonic() + 10
    while await asyncio.to_thread(_get, f"{entry.url}/readyz") != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    process.popen.terminate()
    assert await ended(process) == 0


async def test_health_messages(config: Config, spawn: Spawn, observer: Bus) -> None:
    seen: list[WorkerHealth] = []
    await observer.watch("metrics.health.planner", lambda message, _delivery: seen.append(message))
    process = spawn(config, mode="slow")
    await waited(process, "ready")
    await asyncio.sleep(1.0)
    process.popen.terminate()
    assert await ended(process) == 0
    await asyncio.sleep(0.2)
    assert 4 <= len(seen) <= 12
    assert [message.sequence for message in seen] == sorted(message.sequence for message in seen)
    assert len({message.id for message in seen}) == len(seen)
    assert seen[1].state == WorkerState.READY
    assert [message.state for message in seen[-2:]] == [WorkerState.DRAINING, WorkerState.STOPPED]
    assert seen[0].pid == process.popen.pid
    assert seen[0].memory_bytes > 10_000_000
    assert 0 < seen[0].memory_ratio < 1
    assert seen[-1].published >= 3


async def test_metrics_page(config: Config, spawn: Spawn) -> None:
    process = spawn(config)
    await waited(process, "ready")
    entry = run_files.read(config, "planner")
    assert entry is not None
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{entry.url}/metrics", timeout=5).read().decode())
    assert 'pipeline_ready{worker="planner"} 1.0' in page
    assert "pipeline_handler_seconds_bucket" in page
    assert oct(os.stat(config.run_directory / "planner.json").st_mode & 0o777) == "0o600"


async def test_a_port_in_use_is_refused_by_name(config: Config, spawn: Spawn) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        base = taken.getsockname()[1] - 3  # the planner's offset
        telemetry = config.telemetry.model_copy(update={"http_port_base": base})
        process = spawn(config.model_copy(update={"telemetry": telemetry}))
        assert await ended(process) == 2
    failure = next(entry for entry in process.log() if entry["event"] == "stopped by a failure")
    assert f":{base + 3}" in failure["error"]
    assert "http_port_base" in failure["fix"]


@pytest.mark.parametrize(("mode", "code"), [("fail", 70), ("refuse", 2), ("finish", 0)])
async def test_how_a_worker_ends_by_itself(config: Config, spawn: Spawn, mode: str, code: int) -> None:
    process = spawn(config, mode=mode)
    assert await ended(process) == code
    assert "hunter22" not in process.output.read_text()


async def test_it_ends_with_its_parent(config: Config, tmp_path: Path) -> None:
    """The parent is killed with SIGKILL: the kernel tells the child."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import subprocess, sys, os, time\n"
        "child = subprocess.Popen([sys.executable, sys.argv[1], 'planner', str(os.getpid())])\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    parent = subprocess.Popen(  # noqa: ASYNC220 - begins at once
        [sys.executable, str(script), str(FAKE)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PIPELINE_CONFIG": str(path)},
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    deadline = time.monotonic() + 10
    while (entry := run_files.read(config, "planner")) is None or not entry.ready:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    while _alive(child):
        assert time.monotonic() < deadline + 5
        await asyncio.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def _get(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
