"""Live mode over the same code as mainnet's, against the offline chain: halted at its start, and trading once a person
resumed; and none of its secrets anywhere.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest
from in_process import Ran, ran
from solders.keypair import Keypair

from markets.solana.wallets import sealing
from markets.solana.wallets.keystore import create_keystore
from pipeline.bus import Bus
from pipeline.config import load_config
from pipeline.ids import deterministic_id
from pipeline.messages import (
    ExecutionPlan,
    ExecutionResult,
    ExecutionStatus,
    ExecutionSubmitted,
    KillSwitch,
    Message,
    Mode,
    Opportunity,
    Permit,
    PermitState,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

WORKERS = "system_manager,auditor,executor,planner,quote_core,scanner"
QUICK = sealing.Derivation(salt="", passes=1, memory_kib=8 << 10, lanes=1)
SENT = (ExecutionStatus.FILLED, ExecutionStatus.REVERTED, ExecutionStatus.DROPPED)


@dataclass
class Secrets:
    """Everything that nobody may see, in every form that it could be seen in."""

    keypairs: list[Keypair] = field(default_factory=lambda: [Keypair(), Keypair()])
    passphrase: str = "correct-horse-battery-4711"
    auth: str = "jito-auth-0815-0815"
    key: str = "endpoint-key-2342-2342"

    def forms(self) -> list[bytes]:
        found = [self.passphrase.encode(), self.auth.encode(), self.key.encode()]
        for keypair in self.keypairs:
            seed = bytes(keypair)[:32]
            arrays = [json.dumps(list(raw)).encode()[1:-1] for raw in (bytes(keypair), seed)]
            found += [str(keypair).encode(), seed, seed.hex().encode(), base64.b64encode(seed), *arrays]
        return found

    def in_bytes(self, raw: bytes) -> list[bytes]:
        return [form for form in self.forms() if form in raw]


class Live:
    """A chain, and a pipeline in live mode over it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.secrets = Secrets()
        self.base = {key: value for key, value in os.environ.items() if not key.startswith(("PIPELINE_", "XDG_"))}
        self.chain = self._start(
            ["localnet", "--port", "0", "--slot-ms", "400", "--json"],
            {"PIPELINE_WORKER__RUN_DIR": str(home / "chain")},
            home / "chain.log",
        )
        self.up: subprocess.Popen[bytes] | None = None

    def _start(self, arguments: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "pipeline", *arguments],
                env={**self.base, "HOME": str(self.home), **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def prepare(self) -> None:
        """Wait for the chain; make, fund and prepare the wallets."""
        said = self.home / "chain.log"

        async def told() -> bool:
            return said.read_text().count("\n") > 0

        await eventually(told)
        places = json.loads(said.read_text().splitlines()[0])
        self.node = places["rpc"]
        (self.home / "data").mkdir()
        labelled = [(one, "") for one in self.secrets.keypairs]
        create_keystore(self.home / "data" / "wallets.json", self.secrets.passphrase, labelled, derivation=QUICK)
        (self.home / "secrets").mkdir(mode=0o700)
        files = {
            "WALLETS__PASSPHRASE": self.secrets.passphrase,
            "BLOCK_ENGINE__AUTH": self.secrets.auth,
            "RPC__ENDPOINTS": f"{self.node}/?api-key={self.secrets.key}",
            "BLOCK_ENGINE__URL": self.node,
        }
        self.environment = {
            "PIPELINE_EXECUTOR__MODE": "live",
            "PIPELINE_EXECUTOR__CHAIN": places["genesis"],
            "PIPELINE_WALLETS__SOURCE": "keystore",
            "PIPELINE_BLOCK_ENGINE__TIP_FLOOR_URL": places["tip_floor"],
            "PIPELINE_QUOTE_CORE__SOURCE": "rpc",
            "PIPELINE_NATS__EMBEDDED_PORT": "0",
            "PIPELINE_TELEMETRY__HTTP_PORT_BASE": "0",
            "PIPELINE_SYSTEM_MANAGER__PORT": "0",
            "PIPELINE_WORKER__RUN_DIR": str(self.home / "run"),
            "PIPELINE_WORKER__DATA_DIR": str(self.home / "data"),
            "PIPELINE_SHM__DIRECTORY": str(self.home / "shm"),
            "PIPELINE_EXTERNAL__ENABLED": "false",
            # The chain is on this machine, and the machine may be starved: neither is what is tested here.
            "PIPELINE_PERMIT__LEASE_MS": "3000",
            "PIPELINE_SUPERVISOR__READY_TIMEOUT_S": "60",
        }
        for limits in ("RPC", "BLOCK_ENGINE"):
            self.environment |= {f"PIPELINE_{limits}__RATE_PER_S": "1000", f"PIPELINE_{limits}__BURST": "1000"}
        for name, value in files.items():
            path = self.home / "secrets" / name.lower()
            path.write_text(value)
            self.environment[f"PIPELINE_{name}_FILE"] = str(path)
        for address in self.addresses:
            self.ask("requestAirdrop", address, 900 * 10**9)

        async def funded() -> bool:
            held = [self.ask("getBalance", one, {"commitment": "confirmed"})["value"] for one in self.addresses]
            return all(held)

        await eventually(funded)
        done = await asyncio.to_thread(self.run, "wallet", "prepare", "--wrapped", "600", "--yes")
        assert done.returncode == 0, done

    @property
    def addresses(self) -> list[str]:
        return [str(one.pubkey()) for one in self.secrets.keypairs]

    def ask(self, method: str, *params: object) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        with urlopen(Request(self.node, body, {"content-type": "application/json"})) as answer:
            return json.load(answer)["result"]

    def landed(self) -> set[str]:
        """Return the signatures of all that the wallets ever paid for."""
        found = [self.ask("getSignaturesForAddress", one, {"commitment": "confirmed"}) for one in self.addresses]
        return {entry["signature"] for entries in found for entry in entries}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            env={**self.base, "HOME": str(self.home), **self.environment},
            capture_output=True,
            check=False,
            timeout=60,
        )

    def said(self, *arguments: str) -> Ran:
        """Run a command within this process."""
        return ran(arguments, {**self.base, "HOME": str(self.home), **self.environment})

    async def begin(self, workers: str = WORKERS) -> Bus:
        """Run `pipeline up --live`; return a connection once all workers are ready."""
        self.environment["PIPELINE_SUPERVISOR__WORKERS"] = workers
        log = self.home / "up.log"
        before = log.read_text().count("all ready") if log.exists() else 0
        up = self.up = self._start(["up", "--live"], self.environment, log)

        async def ready() -> bool:
            assert up.poll() is None, log.read_text()
            return log.read_text().count("all ready") > before

        await eventually(ready, within_s=90)
        url = json.loads((self.home / "run" / "nats-server.json").read_text())["url"]
        return await Bus.connect(load_config({"nats.url": url}, environment={}).nats, name="test")

    def end(self) -> None:
        """Stop the pipeline in order."""
        if self.up is not None and self.up.poll() is None:
            self.up.send_signal(signal.SIGTERM)
            try:
                self.up.wait(60)
            except subprocess.TimeoutExpired:
                self.up.kill()

    def close(self) -> None:
        self.end()
        self.chain.terminate()
        self.chain.wait(20)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    stage = Live(tmp_path)
    try:
        yield stage
    finally:
        stage.close()


async def eventually(holds: Callable[[], Awaitable[bool]], *, within_s: float = 45.0) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - it is other processes that are waited for
            await asyncio.sleep(0.1)


async def stored(bus: Bus, stream: str) -> list[Message]:
    return [message async for message, _ in bus.read(stream) if not isinstance(message, Exception)]


def by_hand(opportunity: Opportunity, permit: Permit, number: int) -> ExecutionPlan:
    """A plan that the planner did not make, good for an hour."""
    least = opportunity.amount_in + opportunity.cost
    *first, last = opportunity.legs
    return ExecutionPlan(
        id=deterministic_id("by hand", number),
        correlation_id=opportunity.id,
        causation_id=opportunity.id,
        created_ns=opportunity.created_ns,
        producer="a person",
        mode=Mode.LIVE,
        token=opportunity.token,
        amount_in=opportunity.amount_in,
        expected_amount_out=opportunity.amount_out,
        min_amount_out=least,
        expected_profit=opportunity.net_profit,
        base_fee=opportunity.base_fee,
        priority_fee=opportunity.priority_fee,
        tip=opportunity.tip,
        cost=opportunity.cost,
        confidence=opportunity.confidence,
        slot=opportunity.slot,
        planned_ns=opportunity.found_ns,
        expires_ns=opportunity.expires_ns + 3_600 * 10**9,
        permit_epoch=permit.epoch,
        legs=[*first, last.replace(min_amount_out=least)],
    )


async def is_halted(bus: Bus) -> Permit:
    """HALTED by the start itself."""
    (switch,) = [message for _, message in await bus.last("system.kill_switch")]
    assert isinstance(switch, KillSwitch)
    assert (switch.state, switch.actor) == (PermitState.HALTED, "start:live")
    (permit,) = [message for _, message in await bus.last("system.permit")]
    assert isinstance(permit, Permit)
    assert permit.state == PermitState.HALTED
    return permit


async def sends_nothing(live: Live, bus: Bus, permit: Permit) -> None:
    """Plans given to the executor are refused, and nothing of ours lands."""
    before = live.landed()
    number = 0
    refused: list[ExecutionResult] = []

    async def a_plan_is_refused_at_the_gate() -> bool:
        nonlocal number
        found = [message for message in await stored(bus, "OPPORTUNITIES") if isinstance(message, Opportunity)]
        if found:
            number += 1
            await bus.publish(by_hand(found[-1], permit, number))
        results = [message for message in await stored(bus, "EXECUTED") if isinstance(message, ExecutionResult)]
        refused[:] = [one for one in results if one.status == ExecutionStatus.REFUSED_BY_GATE]
        await asyncio.sleep(0.5)
        return bool(refused)

    await eventually(a_plan_is_refused_at_the_gate)
    assert "halted" in refused[0].detail
    assert live.landed() == before


def secrets_shown(live: Live) -> list[str]:
    """Return where a secret can be seen: in files, arguments, environments, or memory that is still open."""
    assert live.up is not None
    shown = [
        str(path)
        for folder in ("run", "data", "shm")
        for path in (live.home / folder).rglob("*")
        if path.is_file() and live.secrets.in_bytes(path.read_bytes())
    ]
    shown += [name for name in ("up.log", "chain.log") if live.secrets.in_bytes((live.home / name).read_bytes())]
    up = psutil.Process(live.up.pid)
    family = [up, *up.children(recursive=True)]
    assert len(family) > len(WORKERS.split(","))
    for process in family:
        place = Path(f"/proc/{process.pid}")
        shown += [
            f"{process.name()} {name}"
            for name in ("cmdline", "environ")
            if live.secrets.in_bytes((place / name).read_bytes())
        ]
        for handle in (place / "fd").iterdir():
            with contextlib.suppress(OSError):
                if "memfd:pipeline" in os.readlink(handle):
                    shown.append(f"{process.name()} {handle}")
    return shown


@pytest.mark.timeout(300)
async def test_live_starts_halted_trades_when_resumed_and_shows_no_secret(live: Live) -> None:
    await live.prepare()
    bus = await live.begin()
    try:
        await sends_nothing(live, bus, await is_halted(bus))
        assert secrets_shown(live) == []

        done = await asyncio.to_thread(live.run, "resume", "--by", "tester", "--reason", "the test of live mode")
        assert done.returncode == 0, done
        filled: list[ExecutionResult] = []

        async def one_landed() -> bool:
            results = [message for message in await stored(bus, "EXECUTED") if isinstance(message, ExecutionResult)]
            filled[:] = [one for one in results if one.status == ExecutionStatus.FILLED]
            return bool(filled)

        await eventually(one_landed, within_s=90)
        first = filled[0]
        assert first.mode == Mode.LIVE
        assert first.wallet in live.addresses
        assert first.signature in live.landed()
        told = live.ask(
            "getTransaction", first.signature, {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
        )
        assert told["meta"]["err"] is None
        assert told["meta"]["fee"] == first.base_fee + first.priority_fee
        sent = [message for message in await stored(bus, "EXECUTED") if isinstance(message, ExecutionSubmitted)]
        assert first.signature in {one.signature for one in sent}
        assert secrets_shown(live) == []
        for command in (["config", "show"], ["status"], ["wallet", "list"], ["config", "show", "--json"]):
            said = await asyncio.to_thread(live.said, *command)
            assert said.returncode in (0, 1), said  # 1: a worker is degraded, which is not what is tested here
            assert live.secrets.in_bytes((said.stdout + said.stderr).encode()) == []
    finally:
        await bus.close()

    # Resumed as it was, a new start is halted again.
    await asyncio.to_thread(live.end)
    bus = await live.begin("system_manager,executor")
    try:
        await is_halted(bus)
    finally:
        await bus.close()
    assert live.secrets.in_bytes((live.home / "up.log").read_bytes()) == []
