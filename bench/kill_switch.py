"""Kill switch: how soon a halt closes the gate of busy workers, and how many effects begin too late.

Real parts: nats-server, a system manager, worker processes, and the halt that `pipeline halt` makes (word in shared
memory, then the message, then the latch). The workers are busy in bursts, or in handlers that block their event loop.
Three ways to learn of the halt take turns in one run: the gate on the manager's host, the gate of another host (without
shared memory), and the baseline, a core subscription on the worker's own event loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from bench.report import Report, Row, row
from pipeline.config import load_config
from pipeline.messages import PermitState
from pipeline.nats_server import EmbeddedNats
from pipeline.permit import PermitStore, Person
from pipeline.permit.client import connect
from pipeline.permit.halting import halt, resume
from pipeline.permit.word import WordHalt, halt_word, word_path
from pipeline.sections import Config
from pipeline.streams import reconcile
from pipeline.supervisor import worker_command

TRIALS = 100
WORKERS = 2
# 1,000 events per second in bursts of 100; or one handler of 50 ms in 200 ms.
PERIOD_NS = {"bursts": 100_000_000, "blocked": 200_000_000}
BURST = 100
# Trials of one way before the next way's turn.
BLOCK = 10
# The load keeps a worker busy for so long after each whole period: 100 x 200 us, or one handler of 50 ms.
BUSY_NS = {"bursts": 20_000_000, "blocked": 50_000_000}
VARIANTS = ("near", "far", "loop")
NAMED = {"near": "gate, manager's host", "far": "gate, another host", "loop": "core subscription on the loop"}
BENCH = Person("bench")


@dataclass(slots=True)
class _Measured:
    """What one way of learning of a halt came to, under one load."""

    closed_ns: list[int] = field(default_factory=list)
    late_of_trial: list[int] = field(default_factory=list)
    late_of_worker: list[int] = field(default_factory=list)
    effects: int = 0

    def closed_us(self, quantile: float) -> float:
        """Return a quantile of the times from the halt to the first refusal, microseconds."""
        ordered = sorted(self.closed_ns)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] / 1000


class _Stage:
    """Server, manager, load and workers."""

    def __init__(self, nc: Client, store: PermitStore, config: Config) -> None:
        self.nc = nc
        self.store = store
        self.config = config
        self.word = word_path(config.shm_directory)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def launch(self, name: str, *command: str) -> None:
        """Start a process."""
        self.processes[name] = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)

    async def start(self, name: str, *command: str) -> dict[str, Any]:
        """Start a process and wait until it says so."""
        started = await self.nc.subscribe("bench.started")
        await self.nc.flush()
        self.launch(name, *command)
        answer: dict[str, Any] = json.loads((await started.next_msg(timeout=20)).data)
        await started.unsubscribe()
        return answer

    async def start_worker(self, number: int, variant: str) -> int:
        """Start a worker; return how many of its first verdicts allowed an effect."""
        arguments = ("work", str(os.getpid()), str(number), variant)
        answer = await self.start(f"worker {number}", "-m", "bench.kill_switch_worker", *arguments)
        return int(answer["allowed"])

    async def ask(self, what: str, **more: Any) -> list[dict[str, Any]]:
        """Ask every worker and return their answers."""
        order = json.dumps({"what": what, **more}).encode()
        asked = [self.nc.request(f"bench.order.{number}", order, timeout=30) for number in range(WORKERS)]
        return [json.loads(answer.data) for answer in await asyncio.gather(*asked)]

    async def until_open(self) -> None:
        """Wait until effects may begin in every worker."""
        deadline = time.monotonic() + 10
        while not all(answer["open"] for answer in await self.ask("open")):
            if time.monotonic() > deadline:
                raise AssertionError("the gates do not open")
            await asyncio.sleep(0.01)

    async def resume(self) -> None:
        """Lift the halt and wait until every gate is open."""
        await resume(self.nc, self.store, BENCH, "next trial")
        await self.until_open()

    async def trial(self, load: str, random_: random.Random, measured: _Measured) -> bool:
        """Halt once in the middle of one worker's work, and add up what the workers say.

        Return False where a worker had not begun its work when the halt was sent: such a trial shows nothing.
        """
        known = await self.store.read()
        # A moment while one worker is busy, a whole period from now, so that effects of this trial come before it.
        busy_ns, period_ns = BUSY_NS[load], PERIOD_NS[load]
        turn_ns = period_ns * random_.randrange(WORKERS) // WORKERS
        within_ns = random_.randint(busy_ns // 10, busy_ns * 9 // 10)
        at_ns = (time.monotonic_ns() // period_ns + 2) * period_ns + turn_ns + within_ns
        await self.ask("begin", halt_ns=at_ns)
        await asyncio.sleep((at_ns - time.monotonic_ns() - 2_000_000) / 1e9)
        while time.monotonic_ns() < at_ns:
            pass
        halted_ns = time.monotonic_ns()
        word: WordHalt = halt_word(self.word)
        report = await halt(self.nc, self.store, word, BENCH, "trial", producer="bench", known=known)
        assert word.done, word.trouble
        assert report.latched is not None, report.latch_trouble
        # Until the backlog of this burst is worked off and the next one was refused too.
        await asyncio.sleep((busy_ns + PERIOD_NS[load]) / 1e9)
        for _ in range(20):
            answers = await self.ask("report", halted_ns=halted_ns)
            if all(answer["refused_after_ns"] is not None for answer in answers):
                break
            await asyncio.sleep(PERIOD_NS[load] / 1e9)  # a machine with other work: the next burst is late
        else:
            raise AssertionError("a worker was given nothing to do after the halt")
        latched = await self.store.read()
        assert latched is not None
        assert latched.state is PermitState.HALTED
        if not all(answer["before"] for answer in answers):
            return False
        late = 0
        for answer in answers:
            assert not answer["reopened"], "an effect began after the gate had refused"
            measured.effects += answer["before"]
            measured.closed_ns.append(answer["refused_after_ns"])
            measured.late_of_worker.append(len(answer["late"]))
            late += len(answer["late"])
        measured.late_of_trial.append(late)
        return True

    async def restart(self, number: int, variant: str) -> int:
        """Kill a worker while halted and start it again; return how many of its first verdicts allowed an effect."""
        self.processes[f"worker {number}"].kill()
        self.processes[f"worker {number}"].wait()
        return await self.start_worker(number, variant)

    def stop(self) -> None:
        """End every process."""
        for process in self.processes.values():
            process.kill()
            process.wait()


def run(trials: int = TRIALS) -> Report:
    """Measure; `trials` for each way and load, half as many for the baseline."""
    directory = Path(tempfile.mkdtemp(prefix="pipeline-kill-switch-"))
    shm = Path(tempfile.mkdtemp(prefix="pipeline-kill-switch-", dir="/dev/shm"))
    saved = dict(os.environ)
    try:
        with EmbeddedNats(name="bench") as server:
            # Child processes read their configuration from the environment.
            os.environ |= {
                "PIPELINE_NATS__URL": server.url,
                "PIPELINE_SHM__DIRECTORY": str(shm),
                "PIPELINE_WORKER__RUN_DIR": str(directory),
                "PIPELINE_RULES__ENABLED": "false",
                "PIPELINE_SYSTEM_MANAGER__PORT": "0",
                "PIPELINE_TELEMETRY__HTTP_PORT_BASE": "0",
            }
            return asyncio.run(_run(trials))
    finally:
        os.environ.clear()
        os.environ |= saved
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(shm, ignore_errors=True)


async def _run(trials: int) -> Report:
    config = load_config()
    nc = await connect(config.nats, "bench", patient=False)
    await reconcile(nc.jetstream())
    stage = _Stage(nc, PermitStore(nc.jetstream(), producer="bench"), config)
    random_ = random.Random(1)
    results = {(variant, load): _Measured() for load in BUSY_NS for variant in VARIANTS}
    allowed_at_start = 0
    empty = restarted = 0
    try:
        stage.launch("manager", *worker_command("system_manager")[1:])
        await stage.start("load", "-m", "bench.kill_switch_worker", "load", str(os.getpid()), str(BURST), str(WORKERS))
        for number in range(WORKERS):
            await stage.start_worker(number, "near")
        for load in BUSY_NS:
            await nc.publish("bench.load", json.dumps({"load": load, "period_ns": PERIOD_NS[load]}).encode())
            restarts = cycle(range(WORKERS))
            for begin in range(0, trials, BLOCK):
                block = min(BLOCK, trials - begin)
                for variant in VARIANTS:
                    await stage.ask("use", variant=variant)
                    await stage.until_open()
                    for index in range(block if variant != "loop" else (block + 1) // 2):
                        while not await stage.trial(load, random_, results[variant, load]):
                            empty += 1
                            assert empty <= trials + 20, "most halts met no work: the machine is too busy to measure on"
                            await stage.resume()
                        if index == 0 and variant != "loop":
                            allowed_at_start += await stage.restart(next(restarts), variant)
                            restarted += 1
                        await stage.resume()
    finally:
        stage.stop()
        await nc.close()
    assert allowed_at_start == 0, "a worker that started during a halt was allowed an effect"
    return _report(results, trials, empty, restarted)


def _report(results: dict[tuple[str, str], _Measured], trials: int, empty: int, restarted: int) -> Report:
    rows: list[Row] = []
    for load in BUSY_NS:
        baseline = results["loop", load]
        for variant in ("near", "far"):
            ours = results[variant, load]
            name = f"{load}: {NAMED[variant]}"
            p99, slowest, late = ours.closed_us(0.99), ours.closed_us(1.0), max(ours.late_of_worker)
            rows += [
                row(f"{name}, closed p50", "us", ours.closed_us(0.5), NAMED["loop"], baseline.closed_us(0.5)),
                row(
                    *(f"{name}, closed p99", "us", p99, NAMED["loop"], baseline.closed_us(0.99)),
                    goal="<= 1 ms",
                    met=p99 <= 1000,
                ),
                row(
                    *(f"{name}, closed max", "us", slowest, NAMED["loop"], baseline.closed_us(1.0)),
                    goal="<= 5 ms",
                    met=slowest <= 5000,
                ),
                row(
                    *(f"{name}, late effects, worst worker", "", late, NAMED["loop"], max(baseline.late_of_worker)),
                    goal="<= 1",
                    met=late <= 1,
                ),
                row(
                    *(f"{name}, late effects per worker, mean", "", _mean(ours.late_of_worker)),
                    *(NAMED["loop"], _mean(baseline.late_of_worker)),
                ),
            ]
    effects = sum(measured.effects for measured in results.values())
    halts = sum(len(measured.late_of_trial) for measured in results.values())
    notes = [
        f"{halts} halts of {WORKERS} workers, {trials} for each way and load (baseline: half), each in the middle of "
        f"the work; {effects} effects before them; every worker was refused after each halt, and never allowed again. "
        "Times are upper bounds: they run from before the halt was sent to after the first check that refused; a busy "
        "worker checks every 200 us, an idle one all the time.",
        f"{empty} further halts met a worker that had not begun its work yet, and were left out.",
        f"{restarted} workers were killed and started again during a halt: none was allowed anything.",
    ]
    return {"bench": "kill-switch", "what": "Halt sent -> gate closed in every worker", "rows": rows, "notes": notes}


def _mean(counts: list[int]) -> float:
    return sum(counts) / len(counts)
