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
    from nats.aio.subscription import Subscription

    from pipeline.sections import Config

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


class Worker:
    """Handle events one after another; note when effects began and when they were refused."""

    def __init__(self, nc: Client, config: Config, number: str) -> None:
        self._nc = nc
        self._config = config
        self._number = number
        self._gate: Gate | None = None
        self._flag: LoopFlag | None = None
        self._flag_subscriptions: list[Subscription] = []
        self._effects: list[int] = []
        self._refusals: list[int] = []
        self._busy = False

    async def use(self, variant: str) -> int:
        """Learn of halts in one way and no other; return how many first verdicts allowed an effect."""
        if self._gate is not None:
            await asyncio.to_thread(self._gate.close)
        for subscription in self._flag_subscriptions:
            await subscription.unsubscribe()
        self._gate, self._flag, self._flag_subscriptions = None, None, []
        if variant == "loop":
            self._flag = LoopFlag()
            for subject in ("system.kill_switch", "system.permit"):
                self._flag_subscriptions.append(await self._nc.subscribe(subject, cb=self._flag.on_message))
            return 0
        shared_memory = "off" if variant == "far" else "required"
        permit = self._config.permit.model_copy(update={"shared_memory": shared_memory})
        self._gate = Gate.open(self._config.model_copy(update={"permit": permit}), name=f"bench {self._number}")
        # Before it knows anything, and once it has read the latch.
        allowed = isinstance(self._gate.check(), Allowed)
        await self._gate.ready(10)
        return allowed + sum(isinstance(self._gate.check(), Allowed) for _ in range(100))

    def may_begin(self) -> bool:
        """Ask what this worker uses at present."""
        if self._gate is not None:
            return isinstance(self._gate.check(), Allowed)
        return self._flag is not None and self._flag.active

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
        """Change the way of learning, begin a trial, say whether effects may begin, or report on the trial."""
        order: dict[str, Any] = json.loads(message.data)
        answer: dict[str, Any] = {}
        match order["what"]:
            case "use":
                answer = {"allowed": await self.use(order["variant"])}
            case "begin":
                self._effects, self._refusals = [], []
                threading.Thread(target=self.probe, args=(order["halt_ns"],), daemon=True).start()
            case "open":
                answer = {"open": self.may_begin()}
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


async def work(number: str, variant: str) -> None:
    """Connect, subscribe, say so, and work until the process is killed."""
    nc = Client()
    config = load_config()
    await nc.connect(config.nats.url, name=f"bench worker {number}")
    worker = Worker(nc, config, number)
    allowed = await worker.use(variant)
    await nc.subscribe(f"bench.event.{number}", cb=worker.on_event)
    await nc.subscribe(f"bench.order.{number}", cb=worker.on_order)
    await nc.flush()
    await nc.publish("bench.started", json.dumps({"allowed": allowed}).encode())
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
    await nc.publish("bench.started", b'{"allowed": 0}')
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
    """Run one role: `work PARENT NUMBER VARIANT` or `load PARENT BURST WORKERS`; end when the parent does."""
    import uvloop

    role, parent, *arguments = sys.argv[1:]
    end_with(int(parent))
    body = work(arguments[0], arguments[1]) if role == "work" else load(int(arguments[0]), int(arguments[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body)


if __name__ == "__main__":
    main()
