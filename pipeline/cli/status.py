"""`pipeline status`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from nats.js.errors import NotFoundError

from pipeline import run_files
from pipeline.bus import Bus
from pipeline.cli import settings
from pipeline.cli.anomaly_rows import Anomalies, read_anomalies
from pipeline.cli.output import JsonOption, console, print_json, print_line, print_table, shown_time
from pipeline.clock import wall_ns
from pipeline.errors import CheckFailed, ExitCode
from pipeline.messages import WorkerHealth, WorkerState, enum_name
from pipeline.permit import LatchError, PermitStore
from pipeline.streams import TABLE

if TYPE_CHECKING:
    from pipeline.config import Config

# A worker that has said nothing for so many reports is silent.
_SILENT_REPORTS = 5
_MIB = 1 << 20
# With --watch all must stand on one screen: --json has more anomalies, whole, and the workers' addresses.
_ANOMALIES = 3
_DETAIL = 200


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker, as its last health message tells."""

    worker: str
    state: str
    ok: bool
    age_s: float | None = None
    instance: str = ""
    handled: int = 0
    rate: float = 0.0
    latency_p50_us: float = 0.0
    latency_p99_us: float = 0.0
    failed: int = 0
    dead_lettered: int = 0
    memory_bytes: int = 0
    cpu_ratio: float = 0.0
    permit: str = ""
    http: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One stream."""

    stream: str
    ok: bool
    messages: int = 0
    bytes: int = 0
    last_sequence: int = 0
    consumers: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PermitRow:
    """The latched state of the permit."""

    state: str
    epoch: int = 0
    actor: str = ""
    reason: str = ""
    at_ns: int = 0


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Show workers, streams, the permit and recent anomalies.

    Exit code 1 when a worker that should run is not READY, or a stream is missing. Anomalies are those of the last
    24 hours; they do not change the exit code. With --json: also where each worker answers over HTTP.
    """
    ok = asyncio.run(_status(settings.config(), watch=watch, as_json=json))
    if not ok:
        raise typer.Exit(ExitCode.CHECK_FAILED)


async def _status(config: Config, *, watch: bool, as_json: bool) -> bool:
    bus = await Bus.connect(config.nats, name="status")
    try:
        await bus.js.account_info()  # raises where the server has no JetStream
        while True:
            workers = await worker_rows(bus, config)
            streams = await stream_rows(bus)
            permit = await permit_row(bus)
            anomalies = await read_anomalies(bus)
            ok = all(row.ok for row in workers) and all(row.ok for row in streams)
            if as_json:
                found = {"workers": [asdict(row) for row in workers], "streams": [asdict(row) for row in streams]}
                more = {"permit": asdict(permit), "anomalies": asdict(anomalies)}
                print_json({"ok": ok, "server": config.nats.shown_url, **found, **more})
            else:
                if watch:
                    console().clear()
                _print(config, workers, streams, permit, anomalies)
            if not watch:
                return ok
            await asyncio.sleep(1.0)
    finally:
        await bus.close(1.0)


async def worker_rows(bus: Bus, config: Config) -> list[WorkerRow]:
    """Return one row for every worker that is expected or has been heard of."""
    try:
        found = await bus.last("metrics.health.*")
    except CheckFailed:
        found = []  # no METRICS stream: the streams' own rows say so
    heard = {message.worker: message for _, message in found if isinstance(message, WorkerHealth)}
    names = [*config.supervisor.workers, *sorted(heard.keys() - set(config.supervisor.workers))]
    now_ns = wall_ns()
    return [_worker_row(name, heard.get(name), config, now_ns) for name in names]


def _worker_row(name: str, health: WorkerHealth | None, config: Config, now_ns: int) -> WorkerRow:
    entry = run_files.read(config, name)
    http = entry.url if entry else ""
    expected = name in config.supervisor.workers
    if health is None:
        return WorkerRow(name, "NOT RUNNING", not expected, http=http, detail="no health message in METRICS")
    age_s = max(now_ns - health.created_ns, 0) / 1e9
    state, detail = enum_name(health.state), health.detail
    ok = health.state == WorkerState.READY
    if health.state == WorkerState.STOPPED:
        ok = not expected
    elif age_s > _SILENT_REPORTS * config.worker.health_s:
        state, ok, detail = "SILENT", False, f"was {state}; last heard of {age_s:.0f} s ago"
    return WorkerRow(
        worker=name,
        state=state,
        ok=ok,
        age_s=age_s,
        instance=health.instance,
        handled=health.handled,
        rate=health.rate,
        latency_p50_us=health.latency_p50_us,
        latency_p99_us=health.latency_p99_us,
        failed=health.failed,
        dead_lettered=health.dead_lettered,
        memory_bytes=health.memory_bytes,
        cpu_ratio=health.cpu_ratio,
        permit=enum_name(health.permit_state),
        http=http,
        detail=detail,
    )


async def stream_rows(bus: Bus) -> list[StreamRow]:
    """Return one row for every stream of the table."""
    rows = []
    for spec in TABLE:
        try:
            state = (await bus.js.stream_info(spec.name)).state
        except NotFoundError:
            rows.append(StreamRow(spec.name, ok=False, detail="missing: `pipeline init-streams`"))
            continue
        rows.append(StreamRow(spec.name, True, state.messages, state.bytes, state.last_seq, state.consumer_count or 0))
    return rows


async def permit_row(bus: Bus) -> PermitRow:
    """Return what is latched."""
    try:
        latched = await PermitStore(bus.js, producer="status").read()
    except LatchError as error:
        return PermitRow("HALTED", reason=f"unreadable latch: {error}")
    if latched is None:
        return PermitRow("HALTED", reason="never set: no system manager has run yet")
    switch = latched.switch
    return PermitRow(enum_name(latched.state), switch.epoch, switch.actor, switch.reason, switch.created_ns)


def _print(
    config: Config, workers: list[WorkerRow], streams: list[StreamRow], permit: PermitRow, anomalies: Anomalies
) -> None:
    since = f" since {shown_time(permit.at_ns)}, epoch {permit.epoch}, by {permit.actor}" if permit.epoch else ""
    print_line(f"server     {config.nats.shown_url}")
    print_line(f"permit     {permit.state}{since}: {permit.reason}")
    if permit.state != "ACTIVE" and permit.epoch:
        print_line("           `pipeline resume --by NAME --reason WHY` allows trading again")
    print_line(f"anomalies  {anomalies.described}")
    rows: list[tuple[Any, ...]] = [
        (
            *(row.worker, row.state, _age(row.age_s), f"{row.handled:,}", f"{row.rate:,.0f}"),
            *(f"{row.latency_p50_us:,.0f}", f"{row.latency_p99_us:,.0f}", row.failed, row.dead_lettered),
            *(f"{row.memory_bytes / _MIB:,.0f}", f"{row.cpu_ratio:.0%}", row.permit),
        )
        for row in workers
    ]
    columns = [
        *("worker", "state", "heard", "handled", "per s", "p50 us", "p99 us", "failed", "dead", "MiB", "cpu"),
        "permit",
    ]
    print_table("\nworkers", columns, rows, right=columns[2:11])
    for detail in dict.fromkeys(row.detail for row in workers if row.detail):
        print_line(f"{', '.join(row.worker for row in workers if row.detail == detail)}: {detail}")
    print_table(
        "\nstreams",
        ["stream", "messages", "MiB", "last", "consumers", ""],
        [
            (
                row.stream,
                f"{row.messages:,}",
                f"{row.bytes / _MIB:,.1f}",
                f"{row.last_sequence:,}",
                row.consumers,
                row.detail,
            )
            for row in streams
        ],
        right=("messages", "MiB", "last", "consumers"),
    )
    if anomalies.recent:
        print_line("\nnewest anomalies (all of them: `pipeline tap 'metrics.anomaly.>' --all`)")
    for found in anomalies.recent[:_ANOMALIES]:
        print_line(f"{shown_time(found.at_ns)}  {found.severity}  {found.rule}, said by {found.producer}")
        print_line(f"  {found.detail if len(found.detail) <= _DETAIL else found.detail[:_DETAIL] + ' ...'}")


def _age(age_s: float | None) -> str:
    if age_s is None:
        return ""
    return f"{age_s:.1f} s" if age_s < 100 else f"{age_s / 60:,.0f} min"
