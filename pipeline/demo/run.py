"""Run the demonstration: start everything, follow it, stop it, check it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import run_files
from pipeline.bus import Bus
from pipeline.clock import wall_ns
from pipeline.config import Config
from pipeline.demo.chain import Node, Rivalry, open_session, read_facts, read_rivalry
from pipeline.demo.proof import ChainFacts, proof_checks, proved
from pipeline.demo.quotes import ProviderShare, QuoteSummary, summarise
from pipeline.demo.tally import Booked, Check, Tally, check_run
from pipeline.demo.view import Seen
from pipeline.errors import CheckFailed
from pipeline.ids import deterministic_id
from pipeline.ledger import LedgerError
from pipeline.ledger.queries import open_report
from pipeline.messages import Command, CommandKind, ExecutionResult, InvalidMessage, SlotUpdate, WorkerHealth
from pipeline.supervisor import SERVER, Event, State, Supervisor
from pipeline.tasks import end_tasks

MARKET = "market"
_PREFIX = "pipeline-demo-"
_WORKERS = ["system_manager", "auditor", "executor", "planner", "quote_core", "scanner", "providers", "market"]
_FOLLOWED = (
    ("OPPORTUNITIES", None),
    ("PLANNED", None),
    ("EXECUTED", None),
    ("METRICS", "metrics.pnl.>"),
    ("METRICS", "metrics.dead_letter"),
    ("METRICS", "metrics.reconciliation.>"),
    ("METRICS", "metrics.anomaly.>"),
)
_POLL_S = 0.1
_SETTLE_TIMEOUT_S = 60.0


@dataclass
class Run:
    """A demonstration under way or finished."""

    config: Config
    tally: Tally = field(default_factory=Tally)
    seen: Seen = field(default_factory=Seen)
    events: list[Event] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    started_s: float = 0.0
    elapsed_s: float = 0.0
    interrupted: bool = False
    quotes: QuoteSummary = field(default_factory=QuoteSummary)
    trading: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the market's first slot."""
    facts: ChainFacts | None = None
    """What the chain said at the end; None where there is none."""
    rivalry: Rivalry | None = None
    """What the rival did; None where there is none."""

    @property
    def on_chain(self) -> bool:
        """Tell whether transactions are executed, and not only computed."""
        return self.config.executor.mode == "localnet"

    @property
    def held(self) -> bool:
        """Tell whether every invariant held."""
        return bool(self.checks) and all(check.held for check in self.checks)


class Folders:
    """The temporary folders of one run: one on disk, one in shared memory. Gone when it ends."""

    def __init__(self) -> None:
        """Make both, and remove those of runs that were killed."""
        places = [Path(tempfile.gettempdir()), *[place for place in [Path("/dev/shm")] if place.is_dir()]]
        for place in places:
            _remove_abandoned(place)
        self.disk, self.shared = (
            Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place)) for place in (places[0], places[-1])
        )

    def overrides(self) -> dict[str, object]:
        """Return the settings that keep a run to itself: its own folders, free ports, its own server."""
        return {
            "nats.url": "embedded",
            "nats.embedded_port": 0,
            "nats.embedded_store": "",
            "shm.directory": str(self.shared),
            "worker.run_dir": str(self.disk / "run"),
            "worker.data_dir": str(self.disk / "data"),
            "auditor.database_url": "",
            "telemetry.http_port_base": 0,
            "system_manager.port": 0,
            "localnet.rpc_port": 0,
            # Who has configured live trading must not have real keys sign, or a real block engine hear of it, here.
            "wallets.source": "localnet",
            "wallets.addresses": [],
            "block_engine.url": "",
            "block_engine.tip_floor_url": "",
            "block_engine.auth": "",
            "rpc.endpoints": "",
            "quote_core.source": "stream",
            "supervisor.workers": _WORKERS,
            # A starved machine must not turn a seeded plan into a refusal at the gate.
            "permit.lease_ms": 3000,
        }

    def keep_logs(self) -> Path | None:
        """Move the workers' logs out of the way of `remove`; return where they are, or None where there are none."""
        logs = self.disk / "run" / "logs"
        if not logs.is_dir():
            return None
        kept = Path(tempfile.mkdtemp(prefix="pipeline-demo-logs-"))
        return Path(shutil.copytree(logs, kept, dirs_exist_ok=True))

    def remove(self) -> None:
        """Remove both, whatever is in them."""
        shutil.rmtree(self.disk, ignore_errors=True)
        shutil.rmtree(self.shared, ignore_errors=True)


def _remove_abandoned(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        with contextlib.suppress(FileNotFoundError):  # another demo may be faster
            if owner.isdigit() and not Path(f"/proc/{owner}").exists() and folder.stat().st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)


async def run_demo(
    config: Config,
    *,
    stop: asyncio.Event,
    on_start: Callable[[Run, Supervisor], None] = lambda _run, _supervisor: None,
    providers: Callable[[Config], list[ProviderShare]] = lambda _config: [],
    wallets: Callable[[Config], list[str]] = lambda _config: [],
    rival: Callable[[Config], str] = lambda _config: "",
    during: Callable[[Run, Supervisor], Coroutine[Any, Any, None]] | None = None,
    disturbed: Callable[[ExecutionResult], bool] = lambda _result: False,
) -> Run:
    """Run everything until the market has ended and everything is settled, or until `stop` is set; then check it.

    `providers` asks the running quote core about its external providers, before it is stopped; `wallets` names our
    wallets, whose holdings are then asked of the chain, and `rival` the rival's, "" where there is none. `during` runs
    beside the market, and everything is settled only when it has ended. `disturbed` tells of which results nobody can
    expect that they came out as predicted.

    Raise Failure when it cannot be started; everything is stopped again then.
    """
    run = Run(config, started_s=time.monotonic())

    def note(event: Event) -> None:
        run.events.append(event)
        run.seen.note(event)

    supervisor = Supervisor(config, on_event=note)
    on_start(run, supervisor)
    pids: dict[int, str] = {}
    bus: Bus | None = None
    tasks: list[asyncio.Task[None]] = []
    booked: dict[str, Booked] = {}
    try:
        await _start(supervisor, stop)
        bus = await Bus.connect(supervisor.config.nats, name="demo")
        tasks = [asyncio.create_task(_follow(bus, run, stream, subject)) for stream, subject in _FOLLOWED]
        await _watch(bus, run)
        beside = asyncio.create_task(during(run, supervisor)) if during is not None else None
        if beside is not None:
            tasks.append(beside)
        await _until_settled(run, supervisor, bus, stop=stop, pids=pids, beside=beside)
        if run.on_chain:
            run.facts = await chain_facts(run, wallets(config))
            run.rivalry = await _rivalry(run, rival(config))
        run.quotes = summarise(config.shm_directory, await asyncio.to_thread(providers, supervisor.config))
    finally:
        pids |= _processes(supervisor)
        await end_tasks(tasks)
        if bus is not None:
            await bus.close()
        await supervisor.stop()
        run.elapsed_s = time.monotonic() - run.started_s
    booked = _booked(config)
    run.checks = check_run(
        run.tally, booked, left_running=[f"{name} ({pid})" for pid, name in pids.items() if _alive(pid)]
    )
    if run.facts is not None:
        run.facts.disturbed |= {found.signature for found in run.tally.results.values() if disturbed(found)}
        run.checks += proof_checks(run.tally, run.facts, lockstep=config.market.lockstep)
    return run


async def _start(supervisor: Supervisor, stop: asyncio.Event) -> None:
    """Start everything; give up when `stop` is set before it is ready, for a worker may never be."""
    starting = asyncio.create_task(supervisor.start(), name="start")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            raise CheckFailed("stopped before everything was ready")
        starting.result()
    finally:
        await end_tasks([starting, stopped])


async def _follow(bus: Bus, run: Run, stream: str, subject: str | None) -> None:
    """Read a stream from its beginning, for as long as the run lasts: nothing is missed, however late it starts."""
    async for message, _delivery in bus.read(stream, subject, follow=True):
        if not isinstance(message, InvalidMessage):
            run.tally.add(message)


async def _watch(bus: Bus, run: Run) -> None:
    def on_health(message: object, _delivery: object) -> None:
        if isinstance(message, WorkerHealth):
            run.seen.health[message.worker] = (message, time.monotonic())

    def on_slot(message: object, _delivery: object) -> None:
        if isinstance(message, SlotUpdate):
            run.seen.slot = message.slot
            run.trading.set()
            run.seen.closing = run.seen.closing or message.closing

    await bus.watch("metrics.health.>", on_health)
    await bus.watch("market_data.slot", on_slot)


async def chain_facts(run: Run, wallets: list[str]) -> ChainFacts:
    """Ask the offline chain's node what became of every transaction, and what these wallets hold."""
    tally = run.tally
    async with open_session() as session:
        node = Node(session, chain_url(run.config))
        signed = {signature for signatures in tally.signatures.values() for signature in signatures}
        return await read_facts(node, signed, tally.results.values(), tally.plans, wallets)


async def _rivalry(run: Run, rival: str) -> Rivalry | None:
    if not rival:
        return None
    async with open_session() as session:
        return await read_rivalry(
            Node(session, chain_url(run.config)), rival, run.tally.results.values(), run.tally.plans
        )


async def close_market(bus: Bus) -> None:
    """Tell the market to let nothing new happen, and to go on answering."""
    now = wall_ns()
    await bus.publish(
        Command(
            id=deterministic_id("close", now),
            created_ns=now,
            producer="demo",
            kind=CommandKind.CLOSE,
            target=MARKET,
            actor="demo",
            reason="the run was told to stop",
        )
    )


def chain_url(config: Config) -> str:
    """Return where the offline chain's node is.

    Raises:
        CheckFailed: if there is none.
    """
    entry = run_files.read(config, run_files.OFFLINE_CHAIN)
    if entry is None:
        raise CheckFailed("the offline chain's node is gone", "the market's log says why")
    return entry.url


async def _until_settled(
    run: Run,
    supervisor: Supervisor,
    bus: Bus,
    *,
    stop: asyncio.Event,
    pids: dict[int, str],
    beside: asyncio.Task[None] | None,
) -> None:
    """Wait for the market's end, then until everything is answered, executed and booked and stays so."""
    deadline: float | None = None
    quiet = 0
    while quiet < 5:
        await asyncio.sleep(_POLL_S)
        pids |= _processes(supervisor)
        if beside is not None and beside.done():
            beside.result()
        ended = supervisor.workers[MARKET].state in (State.FINISHED, State.FAILED, State.STOPPED)
        if stop.is_set() and not ended and not run.interrupted:
            run.interrupted = True
            if run.on_chain:
                # Its node must go on answering until all is proved.
                await close_market(bus)
            else:
                await supervisor.stop_worker(MARKET)
                ended = True
        if not (ended or run.seen.closing):
            continue
        deadline = deadline or time.monotonic() + _SETTLE_TIMEOUT_S
        settled = run.tally.unsettled() == (0, 0) and run.tally.unbooked() == 0
        settled = settled and (not run.on_chain or proved(run.tally)) and (beside is None or beside.done())
        quiet = quiet + 1 if settled else 0
        if time.monotonic() > deadline:
            return  # the checks say what is missing


def _processes(supervisor: Supervisor) -> dict[int, str]:
    found = {worker.pid: name for name, worker in supervisor.workers.items() if worker.pid}
    if supervisor.server is not None and supervisor.server.pid:
        found[supervisor.server.pid] = SERVER
    return found


def _booked(config: Config) -> dict[str, Booked]:
    try:
        reader = open_report(config.database_url)
    except LedgerError:
        return {}
    try:
        return {row["token"]: Booked(row["executions"], row["net_profit"]) for row in reader.report().tokens}
    finally:
        reader.close()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False
