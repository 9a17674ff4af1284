"""The supervisor with real processes and its own nats-server."""

import asyncio
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from fake_process import FAKE, fake_command

from pipeline import run_files
from pipeline.config import Config
from pipeline.errors import CheckFailed, Failure, Unreachable
from pipeline.nats_server import EmbeddedNats
from pipeline.run_files import with_url
from pipeline.supervisor import SERVER, Event, State, Supervisor

pytestmark = pytest.mark.integration
NAMES = ("auditor", "executor", "market")
Modes = dict[str, dict[str, str]]
Start = Callable[..., Awaitable[Supervisor]]


@pytest.fixture
async def start(runtime_config: Config) -> AsyncIterator[Start]:
    started: list[Supervisor] = []

    async def begin(config: Config = runtime_config, **modes: str) -> Supervisor:
        supervisor = Supervisor(
            config,
            workers=NAMES,
            command=fake_command,
            environment={name: {"FAKE_MODE": mode} for name, mode in modes.items()},
        )
        started.append(supervisor)
        await supervisor.start()
        return supervisor

    yield begin
    for supervisor in started:
        await supervisor.stop()


async def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_it_starts_in_order_and_stops_in_reverse_and_leaves_nothing(runtime_config: Config) -> None:
    events: list[Event] = []
    supervisor = Supervisor(runtime_config, workers=NAMES, command=fake_command, on_event=events.append)
    await supervisor.start()
    ready = [event.name for event in events if event.state is State.READY]
    assert ready[0] == SERVER
    assert ready[-1] == "market", "the market starts when all others are ready"
    assert set(ready) == {SERVER, *NAMES}
    pids = supervisor.pids()
    assert len(pids) == 4
    assert all(alive(pid) for pid in pids)
    entry = run_files.read(runtime_config, SERVER)
    assert entry is not None
    assert run_files.with_server_address(runtime_config).nats.url == entry.url

    events.clear()
    await supervisor.stop()
    assert [event.name for event in events if event.state is State.STOPPED] == list(reversed(NAMES))
    assert not any(alive(pid) for pid in pids)
    assert run_files.read(runtime_config, SERVER) is None
    left = [path.name for path in runtime_config.run_directory.iterdir()]
    assert left == ["logs"]


async def test_a_killed_worker_is_restarted_with_growing_pauses(start: Start) -> None:
    supervisor = await start()
    worker = supervisor.workers["executor"]
    waits = []
    for round_ in (1, 2, 3):
        before = worker.pid
        supervisor.kill("executor")
        await until(lambda before=before: worker.state is State.READY and worker.pid != before)
        assert worker.restarts == round_
        assert worker.last_exit == -signal.SIGKILL
        waits.append(worker.wait_s)
    assert waits == [0.1, 0.2, 0.2]
    assert supervisor.workers["auditor"].restarts == 0
    assert supervisor.restarts == 3


async def test_a_stable_run_starts_the_pauses_again(start: Start, runtime_config: Config) -> None:
    section = runtime_config.supervisor.model_copy(update={"stable_s": 0.1})
    supervisor = await start(runtime_config.model_copy(update={"supervisor": section}))
    worker = supervisor.workers["executor"]
    for _ in range(2):
        before = worker.pid
        await asyncio.sleep(0.15)
        supervisor.kill("executor")
        await until(lambda before=before: worker.state is State.READY and worker.pid != before)
        assert worker.wait_s == 0.1


async def test_the_killed_server_comes_back_on_its_port_and_the_workers_live_on(start: Start) -> None:
    supervisor = await start()
    server = supervisor.server
    assert server is not None
    url, before = server.url, server.pid
    pids = [worker.pid for worker in supervisor.workers.values()]
    supervisor.kill(SERVER)
    await until(lambda: server.running and server.pid != before)
    assert server.url == url
    assert supervisor.restarts == 1
    await asyncio.sleep(0.3)
    assert [worker.pid for worker in supervisor.workers.values()] == pids


async def test_a_worker_that_does_not_stop_is_killed(runtime_config: Config) -> None:
    worker = runtime_config.worker.model_copy(update={"drain_s": 30.0})
    section = runtime_config.supervisor.model_copy(update={"stop_timeout_s": 0.5})
    config = runtime_config.model_copy(update={"worker": worker, "supervisor": section})
    supervisor = Supervisor(
        config, workers=NAMES, command=fake_command, environment={"executor": {"FAKE_MODE": "stubborn"}}
    )
    await supervisor.start()
    await supervisor.stop()
    assert supervisor.workers["executor"].last_exit == -signal.SIGKILL
    assert supervisor.workers["auditor"].last_exit == 0
    assert supervisor.pids() == []


async def test_a_worker_that_refuses_its_configuration_stops_the_start(start: Start, runtime_config: Config) -> None:
    with pytest.raises(Failure, match=r"executor does not start: .*recorded file is not there"):
        await start(executor="refuse")
    assert run_files.read(runtime_config, SERVER) is None


async def test_a_worker_that_keeps_falling_is_tried_again(start: Start) -> None:
    starting = asyncio.create_task(start(executor="fail"))
    await asyncio.sleep(0)
    await until(lambda: not starting.done(), 1)
    await asyncio.sleep(2.5)
    assert not starting.done(), "it waits for the worker"
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_finished_workers_are_not_restarted(start: Start) -> None:
    supervisor = await start(**dict.fromkeys(NAMES, "finish"))
    await asyncio.wait_for(supervisor.wait(), 10)
    assert {worker.state for worker in supervisor.workers.values()} == {State.FINISHED}
    assert supervisor.restarts == 0


async def test_one_worker_can_be_stopped_and_started(start: Start) -> None:
    supervisor = await start()
    before = supervisor.workers["executor"].pid
    await supervisor.stop_worker("executor")
    await asyncio.sleep(0.3)
    assert supervisor.workers["executor"].state is State.STOPPED
    assert not alive(before)
    await supervisor.start_worker("executor")
    assert supervisor.workers["executor"].state is State.READY
    assert supervisor.workers["executor"].pid != before


async def test_an_external_server_without_streams_is_refused(runtime_config: Config) -> None:
    with EmbeddedNats() as server:
        supervisor = Supervisor(with_url(runtime_config, server.url), workers=NAMES, command=fake_command)
        with pytest.raises(CheckFailed, match="OPPORTUNITIES: missing"):
            await supervisor.start()


async def test_an_external_server_that_is_not_there_is_named(runtime_config: Config) -> None:
    supervisor = Supervisor(with_url(runtime_config, "nats://127.0.0.1:9"), workers=NAMES, command=fake_command)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        await supervisor.start()


async def test_secrets_reach_the_workers_through_memory_alone(runtime_config: Config) -> None:
    manager = runtime_config.system_manager.model_copy(
        update={"token": type(runtime_config.system_manager.token)("a-very-secret-token")}
    )
    config = runtime_config.model_copy(update={"system_manager": manager})
    supervisor = Supervisor(config, workers=NAMES, command=fake_command)
    await supervisor.start()
    try:
        path = config.run_directory / "config.toml"
        assert "a-very-secret-token" not in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        process = Path(f"/proc/{supervisor.workers['executor'].pid}")
        environment = (process / "environ").read_text()
        assert "a-very-secret-token" not in environment
        (handed,) = re.findall(r"PIPELINE_SYSTEM_MANAGER__TOKEN_FILE=/proc/self/(fd/\d+)", environment)
        assert (process / handed).read_text() == "a-very-secret-token"
    finally:
        await supervisor.stop()


async def test_the_children_end_with_a_killed_supervisor(runtime_config: Config, tmp_path: Path) -> None:
    from pipeline.config import to_toml

    script = tmp_path / "supervise.py"
    script.write_text(
        "import asyncio, sys\n"
        f"sys.path.insert(0, {str(FAKE.parent)!r})\n"
        "from fake_process import fake_command\n"
        "from pipeline.config import load_config\n"
        "from pipeline.supervisor import Supervisor\n"
        "async def main():\n"
        f"    supervisor = Supervisor(load_config(), workers={NAMES!r}, command=fake_command)\n"
        "    await supervisor.start()\n"
        "    print(*supervisor.pids(), flush=True)\n"
        "    await supervisor.wait()\n"
        "asyncio.run(main())\n"
    )
    path = tmp_path / "given.toml"
    path.write_text(to_toml(runtime_config))
    process = subprocess.Popen(  # noqa: ASYNC220 - begins at once
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PIPELINE_CONFIG": str(path)},
        text=True,
    )
    assert process.stdout is not None
    pids = [int(word) for word in (await asyncio.to_thread(process.stdout.readline)).split()]
    assert len(pids) == 4
    process.kill()
    process.wait()
    process.stdout.close()
    await until(lambda: not any(alive(pid) for pid in pids))
