"""`pipeline worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import settings


def worker(
    name: Annotated[str, typer.Argument(help="Worker name, such as planner.", show_default=False)],
) -> None:
    """Run one worker in this process."""
    from pipeline.worker import find_worker, run_worker

    config = settings.config()
    find_worker(name)
    raise typer.Exit(run_worker(name, config))
