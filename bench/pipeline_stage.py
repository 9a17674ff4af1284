"""The stage of the pipeline's benchmark: the real workers as processes, driven and checked from here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.pipeline_world import World
from pipeline.bus import Bus
from pipeline.messages import (
    ExecutionPlan,
    ExecutionResult,
    ExecutionStatus,
    Message,
    Opportunity,
    PlanRefusal,
    RefusalReason,
)
from pipeline.nats_server import EmbeddedNats

WINDOW = 400
"""Changes on their way at once, where the throughput is measured."""
BATCH = 10
PATIENCE_S = 30.0
WORKERS = ("system_manager", "executor", "planner", "scanner")
ENVIRONMENT = {
    "PIPELINE_RULES__ENABLED": "false",
    "PIPELINE_SYSTEM_MANAGER__PORT": "0",
    "PIPELINE_TELEMETRY__HTTP_PORT_BASE": "0",
    "PIPELINE_TELEMETRY__LOG_LEVEL": "warning",
    "PIPELINE_SCANNER__SETTLEMENT": '["SOL"]',
    "PIPELINE_SCANNER__MAX_OPPORTUNITIES": "1024",
    "PIPELINE_PLANNER__MAX_PLANS": "1000000",
    "PIPELINE_PLANNER__SOL__MAX_OPEN": "1000000000000000",
    # Only the pool that changes is written again; the other one of its pair grows old.
    "PIPELINE_PLANNER__MAX_QUOTE_AGE_MS": "100000000",
    # A fill lands in the slot it was gated in: the time to the gate is measured, not the market's pace.
    "PIPELINE_EXECUTOR__PAPER_LANDING_SLOTS": "0",
}


Drive = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds from the change to each station, changes per second, and what became of them."""

    opportunity: list[float]
    plan: list[float]
    received: list[float]
    gated: list[float]
    per_s: float
    outcomes: Counter[str]
    cpu_us: dict[str, float]
    """Processor time per change, microseconds, by process."""


@contextlib.contextmanager
def own_server(environment: Mapping[str, str]) -> Iterator[tuple[EmbeddedNats, Path]]:
    """Run a NATS server, and name it and folders of this run alone to every process; yield it and the shared memory."""
    run_directory = Path(tempfile.mkdtemp(prefix="pipeline-bench-"))
    shm = Path(tempfile.mkdtemp(prefix="pipeline-bench-", dir="/dev/shm"))
    saved = dict(os.environ)
    try:
        with EmbeddedNats(name="bench") as server:
            os.environ |= {
                **environment,
                "PIPELINE_NATS__URL": server.url,
                "PIPELINE_SHM__DIRECTORY": str(shm),
                "PIPELINE_WORKER__RUN_DIR": str(run_directory),
                "PIPELINE_WORKER__DATA_DIR": str(run_directory),
            }
            yield server, shm
    finally:
        os.environ.clear()
        os.environ |= saved
        shutil.rmtree(run_directory, ignore_errors=True)
        shutil.rmtree(shm, ignore_errors=True)


def processor_time_s(pid: int) -> float:
    """Return the processor time that a process has used since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Stage:
    """Server, workers, and this process as their quote core."""

    def __init__(self, bus: Bus, world: World, server_pid: int) -> None:
        self.bus = bus
        self.server_pid = server_pid
        self.world = world
        self.processes: list[subprocess.Popen[bytes]] = []
        self.settled = 0
        self._progress = asyncio.Event()

    def launch(self, *command: str) -> None:
        """Start a process."""
        self.processes.append(subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL))

    def stop(self) -> None:
        """End every process."""
        for process in self.processes:
            process.kill()
            process.wait()

    async def start_workers(self) -> None:
        """Start the workers and wait until a change makes its way to the end."""
        await self.bus.watch("executed.result", self._on_settled)
        await self.bus.watch("planned.refusal", self._on_settled)
        for state in self.world.keyframes():
            await self.bus.publish(state)
        for name in WORKERS:
            self.launch("-c", "from pipeline.cli import main; main()", "worker", name)
        deadline = time.monotonic() + PATIENCE_S
        while not await self._through():
            assert time.monotonic() < deadline, "no plan came through: see the workers' messages above"

    def _on_settled(self, _message: Message, _delivery: object) -> None:
        self.settled += 1
        self._progress.set()

    async def _through(self) -> bool:
        """Change one quote; tell whether it was filled within a second."""
        self.world.change()
        self.world.commit()
        before = await self._last("EXECUTED")
        for _ in range(10):
            await self._turn(now=True)
            await asyncio.sleep(0.1)
            async for message, _ in self.bus.read("EXECUTED", start_sequence=before + 1):
                if isinstance(message, ExecutionResult) and message.status is ExecutionStatus.FILLED:
                    return True
        return False

    async def _last(self, name: str) -> int:
        info = await self.bus.js.stream_info(name)
        return int(info.state.last_seq)

    async def _turn(self, *, now: bool = False) -> None:
        if (update := self.world.turn(now=now)) is not None:
            self.bus.publish_soon(update)
            self.world.commit()

    def _cpu_s(self) -> dict[str, float]:
        """Return the processor time that each process of the path has used so far."""
        processes = dict(zip(WORKERS, (process.pid for process in self.processes), strict=False))
        processes |= {"nats-server": self.server_pid, "this process": os.getpid()}
        return {name: processor_time_s(pid) for name, pid in processes.items()}

    def _spent(self, before: dict[str, float]) -> dict[str, float]:
        return {name: used - before[name] for name, used in self._cpu_s().items()}

    async def measure(self, drive: Drive, count: int) -> Measured:
        """Drive changes, wait until all are settled, read the streams back and check them."""
        # What was on its way before is not counted.
        await asyncio.sleep(0.3)
        await self._turn(now=True)
        await asyncio.sleep(0.3)
        starts = {name: await self._last(name) + 1 for name in ("OPPORTUNITIES", "PLANNED", "EXECUTED", "METRICS")}
        self.world.changed.clear()
        self.settled = 0
        before = self._cpu_s()
        begun = time.monotonic()
        await drive()
        deadline = time.monotonic() + PATIENCE_S
        while self.settled < count and (left := deadline - time.monotonic()) > 0:
            self._progress.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._progress.wait(), left)
        taken = time.monotonic() - begun
        spent = self._spent(before)
        assert self.settled >= count, f"{count - self.settled} of {count} changes have no answer"
        await asyncio.sleep(0.2)
        return await self._checked(starts, count, taken, {name: s / count * 1e6 for name, s in spent.items()})

    async def _checked(self, starts: dict[str, int], count: int, taken: float, cpu_us: dict[str, float]) -> Measured:
        found: dict[type, list[Message]] = {}
        for name in ("OPPORTUNITIES", "PLANNED", "EXECUTED"):
            async for message, _ in self.bus.read(name, start_sequence=starts[name]):
                assert not isinstance(message, Exception), message
                found.setdefault(type(message), []).append(message)
        async for message, delivery in self.bus.read(
            "METRICS", "metrics.dead_letter", start_sequence=starts["METRICS"]
        ):
            raise AssertionError(f"dead letter: {message} {delivery}")
        opportunities = {one.id: one for one in found[Opportunity] if isinstance(one, Opportunity)}
        plans = {one.correlation_id: one for one in found[ExecutionPlan] if isinstance(one, ExecutionPlan)}
        refused = Counter(
            RefusalReason(reason.reason).name
            for one in found.get(PlanRefusal, [])
            if isinstance(one, PlanRefusal) and one.correlation_id in opportunities
            for reason in one.reasons
        )
        results = {one.plan_id: one for one in found[ExecutionResult] if isinstance(one, ExecutionResult)}
        answers = len(found[ExecutionPlan]) + len(found.get(PlanRefusal, []))
        assert len(found[Opportunity]) == len(opportunities) == count, f"{len(opportunities)} found of {count} changes"
        assert answers == count, f"{answers} answers to {count} opportunities"
        assert len(found[ExecutionResult]) == len(results) == len(plans), f"{len(results)} results"
        assert {plan.id for plan in plans.values()} == set(results), "a result of no plan"
        stations: tuple[list[float], list[float], list[float], list[float]] = ([], [], [], [])
        seen = set()
        for opportunity in opportunities.values():
            change = next(key for leg in opportunity.legs if (key := (leg.pool, leg.slot)) in self.world.changed)
            seen.add(change)
            if (plan := plans.get(opportunity.id)) is None:
                continue
            result = results[plan.id]
            times = (opportunity.created_ns, plan.created_ns, result.received_ns, result.gated_ns or result.finished_ns)
            assert all(one <= other for one, other in pairwise(times)), times
            for station, at in zip(stations, times, strict=True):
                station.append((at - self.world.changed[change]) / 1e6)
        assert len(seen) == len(self.world.changed) == count, "a change was lost"
        statuses = Counter(ExecutionStatus(result.status).name for result in results.values())
        return Measured(*stations, count / taken, statuses + refused, cpu_us)

    def at_rate(self, rate: int, count: int) -> Drive:
        """Return a drive that makes single changes at a steady rate."""

        async def drive() -> None:
            await paced(rate, count, self._one)

        return drive

    async def _one(self, _number: int) -> None:
        self.world.change()
        self.world.commit()
        await self._turn()

    def flat_out(self, count: int) -> Drive:
        """Return a drive that keeps a window of changes on their way."""

        async def drive() -> None:
            for sent in range(0, count, BATCH):
                while sent + BATCH - self.settled > WINDOW:
                    self._progress.clear()
                    await asyncio.wait_for(self._progress.wait(), PATIENCE_S)
                for _ in range(BATCH):
                    self.world.change()
                self.world.commit()
                await self._turn()
                await asyncio.sleep(0)

        return drive


async def paced(rate: int, count: int, step: Callable[[int], Awaitable[None]]) -> None:
    """Take steps at a steady rate; one that comes late does not delay the others."""
    begun = time.perf_counter()
    for number in range(count):
        wait = begun + number / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        await step(number)
