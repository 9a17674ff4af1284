"""One worker process of the kill-switch benchmark: works on events, and asks a gate before every effect."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nats.aio.client import Client

from pipeline.config import load_config
from pipeline.messages import KillSwitch, Permit, PermitState, decode
from pipeline.parent import end_with
from pipeline.permit import Allowed, Gate

if TYPE_CHECKING:
    from nats.aio.msg import Msg

WORK_NS = 200_000
BLOCKING_STEPS = 250  # of WORK_NS each: 50 ms in which the loop does not run


class LoopFlag:
    """The baseline: what a core subscription on the same event loop last said."""

    def __init__(self) -> None:
        self.epoch = 0
        self.active = False

    async def on_message(self, message: Msg) -> None:
        """Take a kill switch message or a permit."""
        found = decode(message.data)
        if isinstance(found, KillSwitch | Permit) and found.epoch >= self.epoch:
            self.active = found.state == PermitState.ACTIVE and (found.epoch > self.epoch or self.active)
            self.epoch = found.epoch

    def check(self) -> bool:
        """Tell whether an effect may begin."""
        return self.active


class Worker:
    """Handle events one after another; note when effects began and when they were refused."""

    def __init__(self, nc: Client, near: Gate, far: Gate, flag: LoopFlag) -> None:
        self._nc = nc
        self._near, self._far, self._flag = near, far, flag
        self._variant = ""
        self._effects: list[int] = []
        self._refusals: list[int] = []
        self._busy = False

    def may_begin(self) -> bool:
        """Ask the gate of the present trial."""
        match self._variant:
            case "near":
                return isinstance(self._near.check(), Allowed)
            case "far":
                return isinstance(self._far.check(), Allowed)
            case "loop":
                return self._flag.check()
            case _:
                return False

    def step(self) -> None:
        """Work, then begin an effect if the gate allows it."""
        until = time.monotonic_ns() + WORK_NS
        while time.monotonic_ns() < until:
            pass
        if self.may_begin():
            self._effects.append(time.monotonic_ns())
        else:
            self._refusals.append(time.monotonic_ns())

    def probe(self, halt_ns: int) -> None:
        """Ask the gate every 0.1 ms while the worker is idle, from just before the halt until it refuses.

        On a thread, and only while there is no work: a busy worker asks by itself, an idle one would learn of the halt
        only with its next event.
        """
        time.sleep(max(0.0, (halt_ns - time.monotonic_ns()) / 1e9 - 0.002))
        while time.monotonic_ns() < halt_ns + 1_000_000_000:
            if not self._busy and not self.may_begin():
                self._refusals.append(time.monotonic_ns())
                if self._refusals[-1] > halt_ns:
                    return
            time.sleep(0.000_1)

    async def on_event(self, message: Msg) -> None:
        """Handle one event: a short one, one that blocks the loop for 50 ms, or the mark at the end of a burst."""
        if message.data == b"mark":
            self._busy = False
            await self._nc.publish(message.reply, b"")
            return
        self._busy = True
        for _ in range(BLOCKING_STEPS if message.data == b"block" else 1):
            self.step()

    async def on_order(self, message: Msg) -> None:
        """Begin a trial, say whether the gates are open, or report on the trial."""
        order: dict[str, Any] = json.loads(message.data)
        answer: dict[str, Any] = {}
        match order["what"]:
            case "begin":
                self._variant = order["variant"]
                self._effects, self._refusals = [], []
                threading.Thread(target=self.probe, args=(order["halt_ns"],), daemon=True).start()
            case "gates":
                near, far = self._near.check(), self._far.check()
                answer = {
                    "near": isinstance(near, Allowed),
                    "far": isinstance(far, Allowed),
                    "loop": self._flag.check(),
                    "words": [repr(near), repr(far)],
                }
            case "report":
                answer = self._report(order["halted_ns"])
        await self._nc.publish(message.reply, json.dumps(answer).encode())

    def _report(self, halted_ns: int) -> dict[str, Any]:
        refused = min((at for at in self._refusals if at > halted_ns), default=None)
        return {
            "before": sum(at <= halted_ns for at in self._effects),
            "late": [at - halted_ns for at in self._effects if at > halted_ns],
            "refused_after_ns": refused - halted_ns if refused is not None else None,
            "refusals": len(self._refusals),
            "reopened": refused is not None and any(at > refused for at in self._effects),
        }


async def work(number: str) -> None:
    """Connect, subscribe, say so, and work until the process is killed."""
    config = load_config()
    near = Gate.open(config, name=f"bench {number}")
    off = config.model_copy(update={"permit": config.permit.model_copy(update={"shared_memory": "off"})})
    far = Gate.open(off, name=f"bench {number} far")
    nc = Client()
    await nc.connect(config.nats.url, name=f"bench worker {number}")
    flag = LoopFlag()
    worker = Worker(nc, near, far, flag)
    # The first verdicts of a process that has just started, before and after it knows anything.
    first = [isinstance(gate.check(), Allowed) for gate in (near, far)]
    await asyncio.gather(near.ready(10), far.ready(10))
    first += [isinstance(gate.check(), Allowed) for gate in (near, far) for _ in range(100)]
    await nc.subscribe("system.kill_switch", cb=flag.on_message)
    await nc.subscribe("system.permit", cb=flag.on_message)
    await nc.subscribe(f"bench.event.{number}", cb=worker.on_event)
    await nc.subscribe(f"bench.order.{number}", cb=worker.on_order)
    await nc.flush()
    await nc.publish("bench.started", json.dumps({"number": number, "allowed": sum(first)}).encode())
    await asyncio.Event().wait()


async def load(burst: int, workers: int) -> None:
    """Keep every worker busy in turn: they share the period, so that not all of them hold a processor at once."""
    config = load_config()
    nc = Client()
    await nc.connect(config.nats.url, name="bench load")
    order: dict[str, Any] = {"load": "bursts", "period_ns": 1_000_000_000}

    async def on_load(message: Msg) -> None:
        order.update(json.loads(message.data))

    await nc.subscribe("bench.load", cb=on_load)
    await nc.publish("bench.started", b'{"number": "load", "allowed": 0}')
    await asyncio.gather(*(keep_busy(nc, order, number, workers, burst) for number in range(workers)))


async def keep_busy(nc: Client, order: dict[str, Any], number: int, workers: int, burst: int) -> None:
    """Publish a burst, or one blocking event, at each of a worker's turns.

    A worker that is not done with the last one is waited for: on a busy machine the load thins out, and does not pile
    up.
    """
    done = asyncio.Event()

    async def on_done(_: Msg) -> None:
        done.set()

    await nc.subscribe(f"bench.done.{number}", cb=on_done)
    while True:
        period_ns: int = order["period_ns"]
        turn_ns = period_ns * number // workers
        await asyncio.sleep((period_ns - (time.monotonic_ns() - turn_ns) % period_ns) / 1e9)
        if order["load"] == "blocked":
            await nc.publish(f"bench.event.{number}", b"block")
        else:
            for _ in range(burst):
                await nc.publish(f"bench.event.{number}", b"event")
        done.clear()
        await nc.publish(f"bench.event.{number}", b"mark", reply=f"bench.done.{number}")
        await nc.flush()
        with suppress(TimeoutError):  # a worker that is being restarted does not answer
            await asyncio.wait_for(done.wait(), 0.5)


def main() -> None:
    """Run one role: `work PARENT NUMBER` or `load PARENT BURST WORKERS`; end when the parent does."""
    import uvloop

    role, parent, *arguments = sys.argv[1:]
    end_with(int(parent))
    body = work(arguments[0]) if role == "work" else load(int(arguments[0]), int(arguments[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body)


if __name__ == "__main__":
    main()
