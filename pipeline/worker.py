"""The life of a worker process.

config -> connect -> check streams -> read the permit -> run -> drain -> end. SIGTERM, SIGINT and a DRAIN command begin
the drain; it ends within `worker.drain_s`; a second signal ends the process at once. What was not finished is delivered
again.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import pkgutil
import re
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Literal

from nats.errors import Error as NatsError

from pipeline import logs, run_files, telemetry
from pipeline.bus import Bus, Stored
from pipeline.bus.errors import PublishFailed, ServerUnreachable
from pipeline.clock import wall_ns
from pipeline.config import Config
from pipeline.context import WorkerContext
from pipeline.errors import CheckFailed, ExitCode, Failure, UsageFailure
from pipeline.health import Health
from pipeline.health_server import HealthServer
from pipeline.live import EXECUTOR, check_live
from pipeline.logs import Log
from pipeline.messages import Command, CommandKind, PermitState, WorkerState
from pipeline.permit import Gate, GateView, Refused, RefusedBy
from pipeline.streams import reconcile

__all__ = ["WorkerContext", "find_worker", "known_workers", "run_worker"]

Run = Callable[[WorkerContext], Awaitable[None]]
# Workers whose module stands elsewhere than in workers/<name>/worker.py.
_ELSEWHERE = {"market": "localnet.worker", "providers": "localnet.providers"}
_PERMIT_WAIT_S = 2.0
_FORCE_GRACE_S = 1.0
_LAST_WORD_S = 1.0
_STREAMS_WAIT_S = 3.0
_SAY_AGAIN_S = 30.0
_COLLECT_AT = (20_000, 20, 50)
"""Allocations beyond frees until the youngest are collected, and how many of those make one of the next two: a full
collection takes tens of milliseconds, in which nothing is answered."""


def known_workers() -> list[str]:
    """Return the names that `run_worker` accepts."""
    package = importlib.import_module("workers")
    found = {
        info.name
        for info in pkgutil.iter_modules(package.__path__)
        if info.ispkg and importlib.util.find_spec(f"workers.{info.name}.worker") is not None
    }
    return sorted(found | set(_ELSEWHERE))


def find_worker(name: str) -> Run:
    """Return a worker's `run` by the worker's name; `quote_core-local` is the quote core in the role `local`."""
    folder, _, role = name.partition("-")
    if re.fullmatch(r"[a-z][a-z0-9_]*", folder) is None or folder not in known_workers():
        raise UsageFailure(f"there is no worker {name!r}", f"workers: {', '.join(known_workers())}")
    module = importlib.import_module(_ELSEWHERE.get(folder, f"workers.{folder}.worker"))
    roles: tuple[str, ...] = getattr(module, "ROLES", ())
    if role not in ("", *roles) or name.endswith("-"):
        raise UsageFailure(f"{folder} has no role {role!r}", f"roles: {', '.join(roles) or 'none'}")
    run: Run = module.run
    return run


def run_worker(name: str, config: Config, run: Run | None = None, *, live: bool = False) -> int:
    """Run one worker until it is told to stop, and return the exit code of the process.

    `run` replaces the worker's own function, for tests. `live` says that `--live` stood on the command line.
    """
    log = logs.configure(config, worker=name)
    try:
        if name == EXECUTOR:
            check_live(config, live=live)
        body = run or find_worker(name)
    except Failure as failure:
        log.error("cannot start", error=failure.what, fix=failure.fix)
        return int(failure.exit_code)
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if config.worker.uvloop:
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        stop = _Stop(runner.get_loop(), log, config.worker.drain_s, lambda: run_files.remove(config, name))
        stop.listen()
        return runner.run(_Life(name, config, log, stop, trades_live=live).live(body))


class _Stop:
    """Turns signals and commands into one event, and keeps the deadline even where the loop is blocked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log, drain_s: float, last_act: Callable[[], None]) -> None:
        self.event = asyncio.Event()
        self.cause = ""
        self._loop = loop
        self._log = log
        self._drain_s = drain_s
        self._last_act = last_act

    def listen(self) -> None:
        """Take over SIGTERM and SIGINT.

        Plain handlers, not the loop's: they run between two bytecodes, so a handler that blocks the loop does not
        delay them.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def request(self, cause: str) -> None:
        """Begin the drain; asked again, change nothing."""
        if self.cause:
            return
        self.cause = cause
        self._loop.call_soon_threadsafe(self.event.set)
        timer = threading.Timer(
            self._drain_s + _FORCE_GRACE_S, self._force, ("drain deadline passed", ExitCode.CHECK_FAILED)
        )
        timer.daemon = True
        timer.start()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.cause:
            self._force(f"{name} again", 128 + number)
        self.request(name)

    def _force(self, why: str, code: int) -> None:
        self._log.warning("forced end", cause=why, exit_code=int(code))
        self._last_act()
        sys.stdout.flush()
        os._exit(int(code))


class _Stopping(asyncio.Event):
    """The event that workers look at; the first look says that they have set up everything."""

    def __init__(self, looked: Callable[[], None]) -> None:
        super().__init__()
        self._looked = looked

    def is_set(self) -> bool:
        self._looked()
        return super().is_set()

    async def wait(self) -> Literal[True]:
        self._looked()
        return await super().wait()


class _Life:
    """One worker's way from start to end."""

    def __init__(self, name: str, config: Config, log: Log, stop: _Stop, *, trades_live: bool) -> None:
        self.name = name
        self.trades_live = trades_live
        self.config = config
        self.log = log
        self.stop = stop
        self.health = Health(name, memory_limit_bytes=config.worker.memory_limit_bytes)
        self.server = HealthServer(self.health, config.telemetry)
        self.tracing = telemetry.start(config.telemetry, name)
        self.run_file = run_files.RunFile(name, os.getpid(), self.health.started_ns)
        self._news = asyncio.Event()

    async def live(self, run: Run) -> int:
        """Go through the whole life and return the exit code."""
        code = int(ExitCode.INTERNAL)
        try:
            code = await self._live(run)
        except Failure as failure:
            self.log.error("stopped by a failure", error=failure.what, fix=failure.fix)
            code = int(failure.exit_code)
        except Exception:
            self.log.exception("stopped by an internal error")
        finally:
            await self.server.stop()
            run_files.remove(self.config, self.name)
            if self.tracing is not None:
                await asyncio.to_thread(self.tracing.close)
        self.log.info("stopped", exit_code=code, cause=self.stop.cause or "finished")
        return code

    async def _live(self, run: Run) -> int:
        url = await self.server.start(self.name)
        self.run_file = run_files.RunFile(self.name, os.getpid(), self.health.started_ns, url)
        run_files.write(self.config, self.run_file)
        self.log.info("starting", pid=os.getpid(), http=url, mode=self.config.executor.mode)
        self.health.enter(WorkerState.CONNECTING)
        bus = await self._connect()
        if bus is None:
            return ExitCode.OK
        gate: Gate | None = None
        try:
            self.health.counters = bus.counters
            await self._check_streams(bus)
            if self.stop.event.is_set():
                return ExitCode.OK
            gate = await asyncio.to_thread(Gate.open, self.config, name=self.name)
            await self._read_permit(gate)
            return await self._run(run, bus, gate)
        finally:
            if gate is not None:
                await asyncio.to_thread(gate.close)
            if not await bus.close(self.config.worker.drain_s):
                self.log.warning("closed with work unfinished: it will be delivered again")

    async def _connect(self) -> Bus | None:
        """Connect, for ever and with growing pauses; None when told to stop before that."""
        nats = self.config.nats
        wait_s = nats.reconnect_wait_s
        said, said_at = "", 0.0
        stopping = asyncio.create_task(self.stop.event.wait())
        try:
            while not stopping.done():
                attempt = asyncio.create_task(Bus.connect(nats, name=self.name, tracing=self.tracing))
                await asyncio.wait({attempt, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not attempt.done():
                    attempt.cancel()
                    break
                try:
                    return attempt.result()
                except (ServerUnreachable, OSError, TimeoutError) as error:
                    if str(error) != said or time.monotonic() - said_at >= _SAY_AGAIN_S:
                        said, said_at = str(error), time.monotonic()
                        self.log.warning("waiting for the NATS server", url=nats.shown_url, error=said)
                    self.health.degraded(f"no NATS server answers at {nats.shown_url}", cause="nats")
                await asyncio.wait({stopping}, timeout=wait_s)
                wait_s = min(wait_s * 2, nats.reconnect_wait_max_s)
        finally:
            stopping.cancel()
        return None

    async def _check_streams(self, bus: Bus) -> None:
        """Refuse to run on streams that are not as the table says: what they lose, nobody brings back."""
        deadline = time.monotonic() + _STREAMS_WAIT_S
        wait_s = 0.25
        said = ""
        while not self.stop.event.is_set():
            try:
                changes = await reconcile(bus.js, self.config.streams.replicas, check=True)
            except (NatsError, OSError, TimeoutError) as error:
                # The server is there and its JetStream is not: it may be starting, or this server has none.
                if str(error) != said:
                    said = str(error)
                    self.log.warning("waiting for JetStream", error=said, fix="start the server with compose/nats.conf")
                self.health.degraded("the NATS server's JetStream does not answer", cause="nats")
                await self._pause(wait_s)
                wait_s = min(wait_s * 2, self.config.nats.reconnect_wait_max_s)
                deadline = time.monotonic() + _STREAMS_WAIT_S
                continue
            self.health.recovered(cause="nats")
            if not changes:
                return
            if time.monotonic() < deadline:
                await self._pause(0.25)  # perhaps `pipeline init-streams` is at it
                continue
            named = ", ".join(sorted({change.stream for change in changes}))
            raise CheckFailed(f"streams missing or drifted: {named}", "run `pipeline init-streams`")

    async def _pause(self, wait_s: float) -> None:
        """Wait, or until told to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.stop.event.wait()

    async def _read_permit(self, gate: Gate) -> None:
        ready = await gate.ready(_PERMIT_WAIT_S)
        view = gate.view()
        self._note_permit(view)
        self.log.info(
            "permit read" if ready else "permit not yet read; nothing may begin until it is",
            state=view.state.name,
            epoch=view.epoch,
            actor=view.actor,
            reason=view.reason,
            trouble=view.trouble,
        )

    def _note_permit(self, view: GateView) -> None:
        """Report what the gate would do, not what is latched: without a lease it is closed whatever the latch says."""
        closed = isinstance(view.verdict, Refused) and view.verdict.reason is not RefusedBy.REDUCING
        self.health.permit_state = PermitState.HALTED if closed else view.state
        self.health.permit_epoch = view.epoch

    async def _run(self, run: Run, bus: Bus, gate: Gate) -> int:
        stopping = _Stopping(self._now_ready)
        context = WorkerContext(
            name=self.name,
            config=self.config,
            bus=bus,
            gate=gate,
            health=self.health,
            log=self.log,
            clock=wall_ns,
            stopping=stopping,
            live=self.trades_live,
        )
        for target in (self.name, "all"):
            await bus.watch(f"system.command.{target}", self._on_command)
        # What lives from here on dies young: a collection need not walk what was made during the start, nor come often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT_AT)
        reporter = asyncio.create_task(self._report(bus, gate), name="health")
        body = asyncio.ensure_future(run(context))
        told = asyncio.create_task(self.stop.event.wait(), name="told to stop")
        try:
            await asyncio.wait({body, told, reporter}, return_when=asyncio.FIRST_COMPLETED)
            if reporter.done() and not body.done():
                reporter.result()
            stopping.set()
            return await self._drain(body, bus)
        finally:
            for task in (reporter, told, body):
                task.cancel()
            await self._say(bus, WorkerState.STOPPED, wait_s=_LAST_WORD_S)

    def _now_ready(self) -> None:
        """Enter READY, once: the worker has set up its consumption."""
        if self.health.state is not WorkerState.CONNECTING:
            return
        self.health.enter(WorkerState.READY)
        run_files.write(self.config, replace(self.run_file, ready=True))
        self._news.set()
        self.log.info("ready")

    async def _drain(self, body: asyncio.Future[None], bus: Bus) -> int:
        """Let the worker finish; return the exit code."""
        if body.done():
            body.result()
            return ExitCode.OK
        self.log.info("draining", cause=self.stop.cause, within_s=self.config.worker.drain_s)
        await self._say(bus, WorkerState.DRAINING, wait_s=0)
        done, _ = await asyncio.wait({body}, timeout=self.config.worker.drain_s)
        if done:
            body.result()
            return ExitCode.OK
        self.log.warning("drain deadline passed: what is in flight will be delivered again")
        return ExitCode.CHECK_FAILED

    async def _on_command(self, message: object, _delivery: object) -> None:
        if not isinstance(message, Command):
            return
        self.log.info("command", kind=CommandKind(message.kind).name, actor=message.actor, reason=message.reason)
        if message.kind == CommandKind.REPORT:
            self._news.set()
        elif message.kind == CommandKind.DRAIN:
            self.stop.request(f"command of {message.actor}")

    async def _report(self, bus: Bus, gate: Gate) -> None:
        """Publish a health message every `worker.health_s`, and at once when the worker becomes ready or is asked."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._note_permit(gate.view())
            self.health.bus_problems = bus.problems
            await self._say(bus, self.health.state, wait_s=0)
            due = max(due + self.config.worker.health_s, loop.time())
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(due - loop.time()):
                    await self._news.wait()

    async def _say(self, bus: Bus, state: WorkerState, *, wait_s: float) -> None:
        """Publish one health message if that is possible now; the next one says it all again."""
        self.health.enter(state)
        message = self.health.measure()
        if not bus.connected:
            return
        with suppress(PublishFailed, TimeoutError):
            stored = bus.publish_soon(message)
            stored.add_done_callback(_forget)
            if wait_s:
                await asyncio.wait_for(stored, wait_s)


def _forget(future: asyncio.Future[Stored]) -> None:
    """Look at the outcome of a health message, so that a lost one is no unhandled error."""
    if not future.cancelled():
        future.exception()
