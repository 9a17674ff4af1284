"""`pipeline worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import settings
from pipeline.cli.output import JsonOption


def worker(
    name: Annotated[str, typer.Argument(help="Worker name, such as planner.", show_default=False)],
    parent: Annotated[int, typer.Option(hidden=True, help="Drain when this process ends.")] = 0,
    json: JsonOption = False,
) -> None:
    """Run one worker in this process."""
    if parent:
        from pipeline.parent import end_with

        end_with(parent)
    from pipeline.worker import find_worker, run_worker

    config = settings.config({"telemetry.log_format": "json"} if json else None)
    find_worker(name)
    raise typer.Exit(run_worker(name, config))
