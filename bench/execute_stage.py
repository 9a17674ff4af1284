"""The stage of the execution's benchmark: the whole pipeline as processes, the offline chain in one of them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import aiohttp

from bench.execute_deciding import Deciding
from bench.execute_recorder import Recorder
from localnet.chain_genesis import FIRST_SLOT
from pipeline.bus import Bus
from pipeline.config import load_config
from pipeline.messages import ExecutionPlan, ExecutionResult, ExecutionStatus, ExecutionSubmitted, SlotUpdate
from pipeline.streams import reconcile

WHOLE = ("system_manager", "executor", "planner", "quote_core", "scanner", "market")
ALONE = ("system_manager", "executor", "market")
"""The executor and what it cannot do without; this process finds and decides."""
PATIENCE_S = 240.0
QUIET_S = 3.0
ENVIRONMENT = {
    "PIPELINE_RULES__ENABLED": "false",
    "PIPELINE_SYSTEM_MANAGER__PORT": "0",
    "PIPELINE_TELEMETRY__HTTP_PORT_BASE": "0",
    "PIPELINE_TELEMETRY__LOG_LEVEL": "warning",
    "PIPELINE_EXECUTOR__MODE": "localnet",
    "PIPELINE_MARKET__PACED": "true",
    # What is measured is our own way to the block engine, not who wins its auction.
    "PIPELINE_LOCALNET__RIVAL_CHANCE": "0",
    # The recorder stands before the chain's own block engine, which is not limited either.
    "PIPELINE_BLOCK_ENGINE__RATE_PER_S": "100000",
    "PIPELINE_BLOCK_ENGINE__BURST": "100000",
}
SEED = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds from a received plan to each station, and what became of the plans."""

    built: list[float]
    simulated: list[float]
    """Empty where nothing is simulated."""
    claimed: list[float]
    gated: list[float]
    arrived: list[float]
    """When the last byte of the bundle was read from the other end of the socket."""
    outcomes: Counter[str]


class Stage:
    """Workers, chain and recorder of one run."""

    def __init__(self, *, slots: int, simulate: bool, alone: bool) -> None:
        self.recorder = Recorder()
        self.port = free_port()
        self.engine_url = ""
        self.recorder.forward_to = self.port
        self._slots = slots
        self._simulate = simulate
        self._alone = alone
        self._processes: list[subprocess.Popen[bytes]] = []
        self._slot = 0
        self._told_s = time.monotonic()

    @property
    def chain_url(self) -> str:
        """Return where the chain answers."""
        return f"http://127.0.0.1:{self.port}"

    async def run(self) -> Measured:
        """Trade until the market has closed, then read everything back and check it."""
        self.engine_url = f"http://127.0.0.1:{await self.recorder.start()}"
        os.environ |= {
            "PIPELINE_EXECUTOR__SIMULATE": str(self._simulate).lower(),
            "PIPELINE_MARKET__SEED": str(SEED),
            "PIPELINE_MARKET__SLOTS": str(self._slots),
            # Where nobody reports scans, the market does not wait for them.
            "PIPELINE_MARKET__LOCKSTEP": str(not self._alone).lower(),
            "PIPELINE_LOCALNET__RPC_PORT": str(self.port),
            "PIPELINE_BLOCK_ENGINE__URL": self.engine_url,
        }
        bus = await Bus.connect(load_config().nats, name="bench")
        try:
            await reconcile(bus.js)
            await bus.watch("market_data.slot", self._on_slot)
            if self._alone:
                await Deciding(bus, load_config()).start()
            for name in ALONE if self._alone else WHOLE:
                self._launch(name)
            await self._until_closed()
            return await self._checked(bus)
        finally:
            await bus.close()

    def stop(self) -> None:
        """End every process."""
        for process in self._processes:
            process.kill()
            process.wait()
        self.recorder.stop()

    def _launch(self, name: str) -> None:
        command = [sys.executable, "-c", "from pipeline.cli import main; main()", "worker", name]
        self._processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

    def _on_slot(self, update: SlotUpdate, _delivery: object) -> None:
        self._slot, self._told_s = update.slot, time.monotonic()

    async def _until_closed(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        # A closed market adds slots until everything is final, and then is silent.
        while self._slot < FIRST_SLOT + self._slots or time.monotonic() - self._told_s < QUIET_S:
            assert time.monotonic() < deadline, f"the market stands at slot {self._slot}: see the messages above"
            assert all(process.poll() is None for process in self._processes), "a worker ended: see its message above"
            await asyncio.sleep(0.2)

    async def _checked(self, bus: Bus) -> Measured:
        """Hold the streams, what the recorder saw and what the chain says against each other."""
        plans: dict[str, ExecutionPlan] = {}
        async for message, _ in bus.read("PLANNED", "planned.plan"):
            assert isinstance(message, ExecutionPlan), message
            plans[message.id] = message
        results: dict[str, ExecutionResult] = {}
        submitted: dict[str, str] = {}
        async for message, _ in bus.read("EXECUTED"):
            if isinstance(message, ExecutionResult):
                assert message.plan_id not in results, f"two results of plan {message.plan_id}"
                results[message.plan_id] = message
            elif isinstance(message, ExecutionSubmitted):
                submitted[message.plan_id] = message.signature
            else:
                raise AssertionError(message)
        assert plans.keys() == results.keys(), f"{len(plans)} plans, {len(results)} results"
        arrived: dict[str, int] = {}
        for arrival in self.recorder.arrivals:
            for signature in arrival.signatures:
                assert signature not in arrived, f"{signature} arrived twice"
                arrived[signature] = arrival.at_ns
        assert arrived.keys() == set(submitted.values()), f"{len(arrived)} bundles came of {len(submitted)} submitted"
        sent = [result for result in results.values() if result.plan_id in submitted]
        landed = [result for result in sent if result.status is ExecutionStatus.FILLED]
        assert landed, "nothing landed"
        await self._landed([result.signature for result in landed])
        found = Measured([], [], [], [], [], Counter(ExecutionStatus(one.status).name for one in results.values()))
        for result in sent:
            at_ns = arrived[result.signature]
            simulated_ns = result.simulated_ns if self._simulate else result.built_ns
            # The simulation goes on beside the claim; both are over before the gate.
            for between in (simulated_ns, result.claimed_ns):
                way = [result.received_ns, result.built_ns, between, result.gated_ns, at_ns]
                assert all(one <= other for one, other in pairwise(way)), way
            for station, at in (
                (found.built, result.built_ns),
                (found.claimed, result.claimed_ns),
                (found.gated, result.gated_ns),
                (found.arrived, at_ns),
            ):
                station.append((at - result.received_ns) / 1e6)
            if self._simulate:
                found.simulated.append((result.simulated_ns - result.received_ns) / 1e6)
        return found

    async def _landed(self, signatures: list[str]) -> None:
        """Ask the chain itself: every one of them stands in a final block, without an error."""
        async with aiohttp.ClientSession() as session:
            for start in range(0, len(signatures), 256):
                params = [signatures[start : start + 256], {"searchTransactionHistory": True}]
                request = {"jsonrpc": "2.0", "id": 1, "method": "getSignatureStatuses", "params": params}
                async with session.post(self.chain_url, json=request) as response:
                    statuses = (await response.json())["result"]["value"]
                for status in statuses:
                    assert status is not None, "a filled plan's transaction is not on the chain"
                    assert status["err"] is None, status
                    assert status["confirmationStatus"] == "finalized", status


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
