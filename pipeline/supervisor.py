"""Every worker as its own process: started in order, watched, restarted with growing pauses, stopped in reverse order.

A library first: `pipeline up` and `pipeline demo` are two callers. Children end with this process, however it ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import run_files
from pipeline.bus import Bus
from pipeline.clock import wall_ns
from pipeline.config import ENV_PREFIX, HANDED, RESERVED_ENV, Config, secrets_of, to_toml
from pipeline.errors import CheckFailed, ExitCode, Failure
from pipeline.live import EXECUTOR, LIVE_FLAG
from pipeline.nats_server import EmbeddedNats
from pipeline.server_keeper import ServerKeeper, State, next_wait_s
from pipeline.streams import reconcile

__all__ = ["SERVER", "Event", "State", "Supervised", "Supervisor", "worker_command"]

SERVER = "nats-server"
_TICK_S = 0.05
_LOG_BYTES = 16 << 20
_KILL_WAIT_S = 5.0
# What signs and sends is for who signs and sends: no other worker is given it.
_OF_THE_EXECUTOR = (f"{ENV_PREFIX}WALLETS__", f"{ENV_PREFIX}BLOCK_ENGINE__")
# Started again, the worker would refuse its configuration or its data again.
_GIVEN_UP = (ExitCode.USAGE, ExitCode.BAD_DATA)


@dataclass(slots=True)
class Supervised:
    """One worker as the supervisor sees it."""

    name: str
    log_path: Path
    state: State = State.WAITING
    pid: int = 0
    restarts: int = 0
    last_exit: int | None = None
    """exit code of the last process; negative: the signal that ended it"""
    started_at: float = 0.0
    """monotonic seconds"""
    process: subprocess.Popen[bytes] | None = None
    wait_s: float = 0.0
    restart_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a supervised process."""

    at_ns: int
    name: str
    state: State
    detail: str = ""


def worker_command(name: str, *, live: bool = False) -> list[str]:
    """Return the command of a worker process that ends with this one; `live` hands `--live` on to the executor."""
    flags = [LIVE_FLAG] if live and name == EXECUTOR else []
    return [sys.executable, "-m", "pipeline", "worker", name, *flags, "--parent", str(os.getpid())]


class Supervisor:
    """Start, watch, kill and stop the workers of one configuration.

    With `nats.url = "embedded"` it brings the server too: in `server_store`, or in a temporary store that goes with it.
    `environment` adds variables to single workers; `command` replaces what is run, for tests.
    """

    def __init__(
        self,
        config: Config,
        *,
        workers: Sequence[str] | None = None,
        server_store: Path | None = None,
        server_port: int | None = None,
        on_event: Callable[[Event], None] | None = None,
        environment: Mapping[str, Mapping[str, str]] | None = None,
        command: Callable[[str], list[str]] = worker_command,
    ) -> None:
        """Prepare everything; `start` starts it."""
        self.config = config
        self._section = config.supervisor
        self._on_event = on_event or (lambda _event: None)
        self._environment = environment or {}
        self._command = command
        self._logs = run_files.run_directory(config) / "logs"
        self._logs.mkdir(mode=0o700, exist_ok=True)
        names = config.supervisor.workers if workers is None else tuple(workers)
        self.workers = {name: Supervised(name, self._logs / f"{name}.log") for name in names}
        self._keeper: ServerKeeper | None = None
        if config.nats.embedded:
            port = config.nats.embedded_port if server_port is None else server_port
            server = EmbeddedNats(store_dir=server_store, port=port)
            self._keeper = ServerKeeper(server, config.supervisor, lambda state, text: self._say(SERVER, state, text))
        self._stopping = False
        self._watcher: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    # What callers ask

    @property
    def restarts(self) -> int:
        """Return how often anything was restarted, the server included."""
        return sum(worker.restarts for worker in self.workers.values()) + (self._keeper.restarts if self._keeper else 0)

    @property
    def server(self) -> EmbeddedNats | None:
        """Return the embedded server, if this supervisor runs one."""
        return self._keeper.server if self._keeper else None

    def pids(self) -> list[int]:
        """Return the process ids that live now, the server's included."""
        alive = [worker.pid for worker in self.workers.values() if worker.process and worker.process.poll() is None]
        return [*alive, self.server.pid] if self.server and self.server.running else alive

    # What callers do

    async def start(self) -> None:
        """Start the server and the workers; return when all are ready.

        The last worker of the list (the market) starts when all others are ready. Raise Failure, with everything
        stopped again, when the streams are wrong or a worker refuses to start.
        """
        try:
            if self._keeper is not None:
                url = await self._keeper.start()
                self.config = run_files.with_url(self.config, url)
                # The pid is ours: the address holds as long as this supervisor does, over restarts of the server.
                run_files.write(self.config, run_files.RunFile(SERVER, os.getpid(), wall_ns(), url, ready=True))
            await self._check_streams()
            self._write_config()
            self._watcher = asyncio.create_task(self._watch(), name="supervisor")
            *first, last = self.workers.values()
            for worker in first:
                self._spawn(worker)
            await self._ready(first)
            self._spawn(last)
            await self._ready([last])
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Wait until every worker has finished or failed by itself."""
        while not all(worker.state in (State.FINISHED, State.FAILED) for worker in self.workers.values()):
            await self._next_change()

    async def stop(self) -> None:
        """Stop the workers one after another in reverse order, then the server; nothing is left running."""
        self._stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
        for worker in reversed(self.workers.values()):
            await self._stop_one(worker)
        if self._keeper is not None:
            await self._keeper.stop()
            run_files.remove(self.config, SERVER)
        (run_files.run_directory(self.config) / "config.toml").unlink(missing_ok=True)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one worker, or to the embedded server; the supervisor restarts what dies of it."""
        if name == SERVER and self.server is not None:
            if number is signal.SIGKILL:
                self.server.kill()
            else:
                os.kill(self.server.pid, number)
            return
        process = self.workers[name].process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    async def stop_worker(self, name: str) -> None:
        """Stop one worker and keep it stopped."""
        await self._stop_one(self.workers[name])

    async def start_worker(self, name: str) -> None:
        """Start a worker that was stopped, and wait until it is ready."""
        worker = self.workers[name]
        self._spawn(worker)
        await self._ready([worker])

    async def _check_streams(self) -> None:
        """Create the streams of our own server; of another one only see that they are right."""
        bus = await Bus.connect(self.config.nats, name="supervisor")
        try:
            changes = await reconcile(bus.js, self.config.streams.replicas, check=self._keeper is None)
        finally:
            await bus.close()
        wrong = [str(change) for change in changes if not change.done]
        if wrong:
            raise CheckFailed(
                "the streams are not as they should be:\n  " + "\n  ".join(wrong), "run `pipeline init-streams`"
            )

    # The workers

    def _write_config(self) -> None:
        """Write what the children are to run with: whatever made up this configuration, they get exactly this."""
        path = run_files.run_directory(self.config) / "config.toml"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(to_toml(self.config))

    def _child_environment(self, name: str) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX) or key in RESERVED_ENV
        }
        path = run_files.run_directory(self.config) / "config.toml"
        return {**kept, "PIPELINE_CONFIG": str(path), **self._environment.get(name, {})}

    def _secrets_for(self, name: str) -> dict[str, str]:
        """Return the secrets that a worker needs, by the variables that name them."""
        return {
            key: value
            for key, value in secrets_of(self.config).items()
            if name == EXECUTOR or not key.startswith(_OF_THE_EXECUTOR)
        }

    def _spawn(self, worker: Supervised) -> None:
        if worker.log_path.exists() and worker.log_path.stat().st_size > _LOG_BYTES:
            worker.log_path.replace(worker.log_path.with_suffix(".log.1"))
        # Secrets go through memory that has no name: neither a file nor an environment shows them.
        handles = {f"{key}_FILE": _in_memory(value) for key, value in self._secrets_for(worker.name).items()}
        paths = {key: f"{HANDED}{handle}" for key, handle in handles.items()}
        try:
            with open(worker.log_path, "ab") as log_file:
                # A session of its own: Ctrl-C on the terminal reaches the supervisor alone, which stops them in order.
                worker.process = subprocess.Popen(
                    self._command(worker.name),
                    stdin=subprocess.DEVNULL,
                    stdout=log_file,
                    stderr=subprocess.STDOUT,
                    env={**paths, **self._child_environment(worker.name)},
                    pass_fds=tuple(handles.values()),
                    start_new_session=True,
                )
        finally:
            for handle in handles.values():
                os.close(handle)
        worker.pid = worker.process.pid
        worker.started_at = time.monotonic()
        worker.restart_at = 0.0
        self._enter(worker, State.STARTING, f"pid {worker.pid}")

    async def _watch(self) -> None:
        """Look at every process, many times a second."""
        while True:
            if self._keeper is not None:
                await self._keeper.mind()
            for worker in self.workers.values():
                self._look_at(worker)
            await asyncio.sleep(_TICK_S)

    def _look_at(self, worker: Supervised) -> None:
        now = time.monotonic()
        if worker.state is State.RESTARTING:
            if now >= worker.restart_at:
                worker.restarts += 1
                self._spawn(worker)
            return
        if worker.state not in (State.STARTING, State.READY) or worker.process is None:
            return
        code = worker.process.poll()
        if code is None:
            if worker.state is State.STARTING and self._says_ready(worker):
                self._enter(worker, State.READY, f"after {now - worker.started_at:.1f} s")
            return
        worker.last_exit = code
        if code == 0:
            self._enter(worker, State.FINISHED)
        elif code in _GIVEN_UP:
            self._enter(worker, State.FAILED, self.last_words(worker.name))
        else:
            worker.wait_s = next_wait_s(self._section, worker.wait_s, ran_s=now - worker.started_at)
            worker.restart_at = now + worker.wait_s
            self._enter(worker, State.RESTARTING, f"{_described(code)}; again in {worker.wait_s:.1f} s")

    def _says_ready(self, worker: Supervised) -> bool:
        entry = run_files.read(self.config, worker.name)
        return entry is not None and entry.pid == worker.pid and entry.ready

    async def _ready(self, workers: Sequence[Supervised]) -> None:
        """Wait until workers are ready; say so of those that take too long, and raise for one that gave up."""
        deadline = time.monotonic() + self._section.ready_timeout_s
        late = False
        while waiting := [worker for worker in workers if worker.state not in (State.READY, State.FINISHED)]:
            for worker in waiting:
                if worker.state is State.FAILED:
                    raise _start_failure(worker, self.last_words(worker.name))
            if not late and time.monotonic() >= deadline:
                late = True
                for worker in waiting:
                    words = self.last_words(worker.name) or "it has said nothing yet"
                    self._say(
                        worker.name, worker.state, f"not ready after {self._section.ready_timeout_s:g} s: {words}"
                    )
            await self._next_change()

    async def _next_change(self) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), 1.0)
        except TimeoutError:
            return

    async def _stop_one(self, worker: Supervised) -> None:
        process = worker.process
        worker.state = State.STOPPED
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            if not await _ended(process, self._section.stop_timeout_s):
                self._say(worker.name, State.STOPPED, f"did not stop in {self._section.stop_timeout_s:g} s: SIGKILL")
                process.kill()
                await _ended(process, _KILL_WAIT_S)
        worker.last_exit = process.returncode
        self._enter(worker, State.STOPPED, _described(process.returncode))

    def last_words(self, name: str) -> str:
        """Return the last error in a worker's log, in words."""
        return run_files.last_error(self.workers[name].log_path)

    def _enter(self, worker: Supervised, state: State, detail: str = "") -> None:
        worker.state = state
        self._say(worker.name, state, detail)

    def _say(self, name: str, state: State, detail: str = "") -> None:
        self._on_event(Event(wall_ns(), name, state, detail))
        self._changed.set()


def _in_memory(text: str) -> int:
    """Return a handle of a file in memory that holds a text; opened again by its handle, it is read from the start."""
    handle = os.memfd_create("pipeline", os.MFD_CLOEXEC)
    with open(handle, "w", encoding="utf-8", closefd=False) as file:
        file.write(text)
    return handle


async def _ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while process.poll() is None:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def _described(code: int | None) -> str:
    if code is None:
        return "still running"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    known = {int(item) for item in ExitCode}
    return f"exit code {code}" + (f" ({ExitCode(code).name.lower().replace('_', ' ')})" if code in known else "")


def _start_failure(worker: Supervised, words: str) -> Failure:
    failure = Failure(f"worker {worker.name} does not start: {words}", f"its log: {worker.log_path}")
    failure.exit_code = ExitCode(worker.last_exit or ExitCode.USAGE)
    return failure
