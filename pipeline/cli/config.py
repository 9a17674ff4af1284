"""`pipeline config`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import settings
from pipeline.cli.output import JsonOption, print_json, print_table
from pipeline.errors import UsageFailure

app = typer.Typer(no_args_is_help=True, help="Show the configuration and where each value comes from.")


@app.callback()
def root() -> None:
    """Show the configuration and where each value comes from."""


@app.command()
def show(
    section: Annotated[
        str | None, typer.Argument(metavar="SECTION", help="Only keys that begin so, such as nats or permit.lease_ms.")
    ] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only keys that are not at their default.")] = False,
    json: JsonOption = False,
) -> None:
    """Show every key with its value and the layer it came from; secrets are hidden."""
    rows = [
        row
        for row in settings.load().rows()
        if section is None or row[0] == section or row[0].startswith(f"{section}.")
    ]
    if not rows:
        raise UsageFailure(f"no key begins with {section!r}", "`pipeline config show` prints every key")
    if changed:
        rows = [row for row in rows if row[2] != "default"]
    if json:
        print_json({key: {"value": value, "source": source} for key, value, source in rows})
    else:
        print_table("", ["key", "value", "from"], rows)
