"""`pipeline up`."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipeline import run_files
from pipeline.cli import settings
from pipeline.cli.output import JsonOption, print_json, print_line
from pipeline.config import Config, forget_secrets
from pipeline.errors import ExitCode, Failure, Refused, UsageFailure
from pipeline.live import check_live
from pipeline.supervisor import SERVER, Event, State, Supervisor, worker_command
from pipeline.worker import known_workers


def up(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="WORKER", help="Run only these workers. Repeatable.")
    ] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help='Trade on the real chain. Needs executor.mode = "live" and all that docs/live.md names; '
            "starts HALTED, until `pipeline resume`.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Run every worker, supervised, until stopped."""
    config = settings.load().config
    forget_secrets()
    names = list(config.supervisor.workers)
    if unknown := [name for name in only or [] if name not in names]:
        raise UsageFailure(f"no worker {unknown[0]!r} in supervisor.workers", f"it holds: {', '.join(names)}")
    chosen = [name for name in names if not only or name in only]
    known = known_workers()
    if unknown := [name for name in chosen if name.partition("-")[0] not in known]:
        raise UsageFailure(f"there is no worker {unknown[0]!r}", f"workers: {', '.join(known)}")
    check_live(config, live=live, workers=chosen)
    if running := run_files.read(config, SERVER):
        raise Refused(
            f"this pipeline is already up: process {running.pid}, {running.url}",
            "`pipeline status` shows it; a second one beside it needs its own shm.namespace, telemetry.http_port_base "
            "and system_manager.port",
        )
    raise typer.Exit(asyncio.run(_up(config, chosen, as_json=json, live=live)))


async def _up(config: Config, names: list[str], *, as_json: bool, live: bool) -> int:
    def tell(event: Event) -> None:
        if as_json:
            print_json({"at_ns": event.at_ns, "name": event.name, "state": event.state, "detail": event.detail})
        else:
            moment = datetime.fromtimestamp(event.at_ns / 1e9, UTC)
            print_line(f"{moment:%H:%M:%S} {event.name:<15} {event.state:<10} {event.detail}")

    store = Path(config.nats.embedded_store).expanduser() if config.nats.embedded_store else None
    supervisor = Supervisor(
        config,
        workers=names,
        server_store=store or config.data_directory / "jetstream",
        on_event=tell,
        command=partial(worker_command, live=live),
    )
    told = asyncio.Event()

    def on_signal() -> None:
        if told.is_set():
            for name in supervisor.workers:
                supervisor.kill(name)
        told.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    running = asyncio.create_task(_run(supervisor, as_json=as_json))
    stopping = asyncio.create_task(told.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if running.done():
        return running.result()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return ExitCode.OK


async def _run(supervisor: Supervisor, *, as_json: bool) -> int:
    """Run until cancelled or until every worker has ended by itself."""
    await supervisor.start()
    try:
        if not as_json:
            where = next(iter(supervisor.workers.values())).log_path.parent
            print_line(f"all ready. Ctrl-C stops them in order; logs: {where}; look with `pipeline status`")
        await supervisor.wait()
        failed = [name for name, worker in supervisor.workers.items() if worker.state is State.FAILED]
    finally:
        await supervisor.stop()
    if failed:
        raise Failure(f"given up: {', '.join(failed)}", "their logs stand in the run directory")
    return ExitCode.OK
