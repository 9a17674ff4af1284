"""Carry a schedule out on a running pipeline, and note what was done."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.chaos.schedule import FAULTS, Step, window_s
from pipeline.clock import wall_ns
from pipeline.config import Config
from pipeline.demo.chain import Node, open_session
from pipeline.demo.run import Run, chain_url
from pipeline.demo.tally import Check
from pipeline.messages import ExecutionResult
from pipeline.permit.change import Person
from pipeline.permit.client import connect
from pipeline.permit.halting import halt, resume
from pipeline.permit.store import PermitStore
from pipeline.permit.word import Word, WordError, halt_word, word_path
from pipeline.supervisor import Supervisor

_PERSON = Person("chaos")
_PRODUCER = "chaos"
# A fault that was on for so long must have met something.
_SURELY_S = 8.0
# A quote of a state that was taken back may be planned with for so long.
_AFTERMATH_NS = 2_000_000_000


@dataclass(slots=True)
class Done:
    """What was really done."""

    kills: Counter[str] = field(default_factory=Counter)
    faults: dict[str, float] = field(default_factory=dict)
    """How long each fault was on, s."""
    happened: dict[str, int] = field(default_factory=dict)
    """How often each fault took effect, by the chain's own count."""
    forks: list[tuple[int, int]] = field(default_factory=list)
    """Wall-clock times, ns, between which forks could happen."""
    halts: list[tuple[int, int]] = field(default_factory=list)
    """Wall-clock times, ns: when a halt was in force everywhere, and when its lifting began."""
    _halted_ns: int = 0
    _forks_ns: int = 0

    def may_have_forked(self, result: ExecutionResult) -> bool:
        """Tell whether a fork may have taken back what a plan was quoted from, or what it landed on."""
        return any(began <= result.finished_ns and result.received_ns <= ended for began, ended in self.forks)


class Driver:
    """Plays the steps; `run` is called with the run and its supervisor."""

    def __init__(self, steps: Sequence[Step], tell: Callable[[Step], None] = lambda _step: None) -> None:
        """`tell` hears of each step as it begins."""
        self.done = Done(faults=window_s(steps))
        self._steps = steps
        self._tell = tell
        self._on: Counter[str] = Counter()

    async def run(self, run: Run, supervisor: Supervisor) -> None:
        """Play every step at its time, counted from the first slot."""
        loop = asyncio.get_running_loop()
        await run.trading.wait()
        began = loop.time()
        async with open_session() as session:
            node = Node(session, chain_url(supervisor.config))
            for step in self._steps:
                await asyncio.sleep(max(0.0, began + step.at_s - loop.time()))
                self._tell(step)
                await self._play(step, supervisor, node)
            self.done.happened = {name: int(count) for name, count in (await node.faults())["happened"].items()}

    async def _play(self, step: Step, supervisor: Supervisor, node: Node) -> None:
        match step.kind:
            case "fault":
                self._on[step.name] += 1
                if step.name == "fork" and not self.done._forks_ns:
                    self.done._forks_ns = wall_ns()
                await node.set_faults(dict(step.values))
            case "clear":
                await self._clear(step.name, node)
                if self.done._forks_ns and not self._on["fork"]:
                    self.done.forks.append((self.done._forks_ns, wall_ns() + _AFTERMATH_NS))
                    self.done._forks_ns = 0
            case "kill":
                process = supervisor.workers[step.name].process
                if process is not None and process.poll() is None:
                    self.done.kills[step.name] += 1
                    supervisor.kill(step.name)
            case "halt":
                await _halt(supervisor.config)
                self.done._halted_ns = wall_ns()
            case "resume":
                self.done.halts.append((self.done._halted_ns, wall_ns()))
                await _resume(supervisor.config)

    async def _clear(self, name: str, node: Node) -> None:
        """Switch one fault off, or all of them where none is named; what another open window needs stays on."""
        if not name:
            self._on.clear()
            await node.set_faults({key: 0 for values in FAULTS.values() for key in values if _is_switch(key)})
            return
        self._on[name] -= 1
        still = [FAULTS[other] for other, windows in self._on.items() if windows > 0]
        await node.set_faults(
            {key: max((values.get(key, 0) for values in still), default=0) for key in FAULTS[name] if _is_switch(key)}
        )


def _is_switch(key: str) -> bool:
    """Tell a fault from how long or how far it goes, which may keep its value."""
    return not key.endswith("_s") and (key == "behind_slots" or not key.endswith("_slots"))


async def _halt(config: Config) -> None:
    word = halt_word(word_path(config.shm_directory))
    nc = await connect(config.nats, _PRODUCER, patient=False)
    try:
        store = PermitStore(nc.jetstream(timeout=2.0), producer=_PRODUCER, replicas=config.streams.replicas)
        await halt(nc, store, word, _PERSON, "a halt of the chaos schedule", producer=_PRODUCER)
    finally:
        await nc.close()


async def _resume(config: Config) -> None:
    try:
        epoch = Word(word_path(config.shm_directory)).read().epoch
    except WordError:
        epoch = 0
    nc = await connect(config.nats, _PRODUCER, patient=False)
    try:
        store = PermitStore(nc.jetstream(timeout=2.0), producer=_PRODUCER, replicas=config.streams.replicas)
        await resume(nc, store, _PERSON, "the chaos schedule goes on", above_epoch=epoch)
    finally:
        await nc.close()


def chaos_checks(done: Done, results: Sequence[ExecutionResult], restarts: Counter[str]) -> list[Check]:
    """Decide whether halts were respected, and whether what was to go wrong did."""
    broken = [
        result.plan_id
        for result in results
        if any(began < result.submitted_ns < lifted for began, lifted in done.halts)
    ]
    missing = [name for name, on_s in done.faults.items() if on_s >= _SURELY_S and not done.happened.get(name)]
    killed = ", ".join(f"{name} {count}" for name, count in sorted(done.kills.items())) or "none"
    fallen = [name for name, count in done.kills.items() if restarts[name] < count]
    return [
        Check(
            "nothing was submitted while trading was halted",
            not broken,
            f"{len(done.halts)} halts, {len(broken)} submissions during them",
        ),
        Check(
            f"every fault that was on for {_SURELY_S:g} s took effect",
            not missing,
            ", ".join(f"{name} {done.happened.get(name, 0)}" for name in sorted(done.faults)) or "none",
        ),
        Check("what was killed came back", not fallen, f"killed: {killed}"),
    ]
