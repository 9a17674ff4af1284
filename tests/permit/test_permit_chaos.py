"""A seeded run of halts, resumes, kills and stops: between a halt and the next resume no gate is ever open."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field

import pytest
from permit_stage import Stage, closed, eventually, opened

from pipeline.permit import Allowed, Gate, PermitStore, Person
from pipeline.permit.client import connect
from pipeline.permit.halting import halt, resume
from pipeline.permit.word import halt_word, word_epoch, word_path

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@dataclass
class Witness:
    """Asks the gates all the time, as a worker would, and notes when each was last seen open."""

    gates: list[Gate]
    opened: list[tuple[float, int, int]] = field(default_factory=list)
    stop: bool = False

    def run(self) -> None:
        while not self.stop:
            for index, gate in enumerate(self.gates):
                asked = time.monotonic()
                verdict = gate.check()
                if isinstance(verdict, Allowed):
                    self.opened.append((asked, index, verdict.epoch))
            time.sleep(0.001)


@pytest.mark.parametrize("seed", [1])
async def test_between_a_halt_and_a_resume_nothing_is_open(stage: Stage, seed: int) -> None:
    chance = random.Random(seed)
    manager: subprocess.Popen[bytes] = stage.manager(run="m0")
    gates = [stage.gate(), stage.gate(shared_memory=False)]
    witness = Witness(gates)
    thread = threading.Thread(target=witness.run)
    thread.start()
    word = word_path(stage.shm)
    forbidden: list[tuple[float, float, str]] = []
    halted_at: float | None = None
    started = 0
    try:
        for gate in gates:
            await asyncio.to_thread(eventually, opened(gate))
        until = time.monotonic() + 8
        while time.monotonic() < until:
            step = chance.choice(["halt", "resume", "resume", "kill manager", "stop manager", "kill server", "wait"])
            match step:
                case "halt" | "resume":
                    nc = await connect(stage.config().nats, "tests", patient=False)
                    store = PermitStore(nc.jetstream(timeout=2), producer="tests")
                    if step == "halt":
                        report = await halt(nc, store, halt_word(word), Person("ada"), "chaos", producer="tests")
                        assert report.latched is not None
                        # One message's way to the gate on the other host.
                        halted_at = halted_at or time.monotonic() + 0.1
                    else:
                        if halted_at is not None:
                            forbidden.append((halted_at, time.monotonic(), "halted"))
                            halted_at = None
                        await resume(nc, store, Person("ada"), "chaos", above_epoch=word_epoch(word))
                    await nc.close()
                case "kill manager":
                    manager.kill()
                    manager.wait()
                    dead_at = time.monotonic()
                    await asyncio.sleep(chance.uniform(0.0, 1.0))
                    forbidden.append((dead_at + 0.5, time.monotonic(), "manager dead"))
                    started += 1
                    manager = stage.manager(run=f"m{started}")
                case "stop manager":
                    manager.send_signal(signal.SIGSTOP)
                    stopped_at = time.monotonic()
                    await asyncio.sleep(chance.uniform(0.0, 1.5))
                    forbidden.append((stopped_at + 0.5, time.monotonic(), "manager stopped"))
                    manager.send_signal(signal.SIGCONT)
                case "kill server":
                    await asyncio.to_thread(stage.server.kill)
                    down_at = time.monotonic()
                    await asyncio.sleep(chance.uniform(0.0, 0.8))
                    forbidden.append((down_at + 0.5, time.monotonic(), "server down"))
                    await stage.restart_server()
                case "wait":
                    await asyncio.sleep(chance.uniform(0.0, 0.8))
        # What is left standing decides: everything comes back by itself, up to the latch.
        nc = await connect(stage.config().nats, "tests", patient=False)
        store = PermitStore(nc.jetstream(), producer="tests")
        if halted_at is not None:
            for gate in gates:
                await asyncio.to_thread(eventually, closed(gate))
            forbidden.append((halted_at, time.monotonic(), "halted"))
        # A manager that started on a halted word with nothing latched above it halts again; a person has the last word.
        deadline = time.monotonic() + 20
        while not all(opened(gate)() for gate in gates) and time.monotonic() < deadline:
            latched = await store.read()
            if latched is None or latched.state.name != "ACTIVE":
                await resume(nc, store, Person("ada"), "the end", above_epoch=word_epoch(word))
            await asyncio.sleep(0.3)
        for gate in gates:
            assert opened(gate)(), gate.check()
        epochs = [change.epoch for change in await store.history()]
        assert epochs == sorted(set(epochs))
        await nc.close()
    finally:
        witness.stop = True
        thread.join()
    assert len(witness.opened) > 100
    broken = [
        (round(at - begin, 3), gate, epoch, why)
        for begin, end, why in forbidden
        for at, gate, epoch in witness.opened
        if begin < at < end
    ]
    assert broken == []
