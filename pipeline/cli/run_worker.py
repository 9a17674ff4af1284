"""`pipeline worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import settings
from pipeline.cli.output import JsonOption


def worker(
    name: Annotated[str, typer.Argument(metavar="WORKER", help="Worker name, such as planner.", show_default=False)],
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE",
            help="Only this part of a worker that has several: quote_core has local, external, aggregator and all.",
            show_default=False,
        ),
    ] = "all",
    live: Annotated[
        bool,
        typer.Option(
            "--live", help='Trade on the real chain: only the executor, and only with executor.mode = "live".'
        ),
    ] = False,
    parent: Annotated[int, typer.Option(hidden=True, help="Drain when this process ends.")] = 0,
    json: JsonOption = False,
) -> None:
    """Run one worker in this process."""
    if parent:
        from pipeline.parent import end_with

        end_with(parent)
    from pipeline.config import forget_secrets
    from pipeline.errors import UsageFailure
    from pipeline.live import EXECUTOR
    from pipeline.worker import find_worker, run_worker

    config = settings.config({"telemetry.log_format": "json"} if json else None)
    forget_secrets()
    named = name if role == "all" else f"{name}-{role}"
    find_worker(named)
    if live and named != EXECUTOR:
        raise UsageFailure(f"--live was given to the worker {named}", "only the executor takes it")
    raise typer.Exit(run_worker(named, config, live=live))
