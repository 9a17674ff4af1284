"""What commands print: tables on a terminal, JSON with `--json`, one message for a failure.

Exit codes stand in `pipeline.errors.ExitCode`. A command raises a `Failure` and returns normally otherwise; a check
that failed raises `typer.Exit(ExitCode.CHECK_FAILED)` after it has printed what it found.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.errors import ExitCode, Failure

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def console() -> Console:
    """Return the console of standard output; without a terminal it is wide enough not to break rows."""
    return Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 200, highlight=False)


def print_json(value: object) -> None:
    """Print one JSON document, indented on a terminal."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False, default=_plain) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """Print rows under a title; columns named in `right` are aligned to the right.

    Values are escaped, never read as markup.
    """
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[escape(str(cell)) for cell in row])
    console().print(table)


def print_line(text: str) -> None:
    """Print one line, literally."""
    console().print(escape(text))


def report_failure(error: BaseException, *, as_json: bool) -> int:
    """Print a failure on standard error and return its exit code."""
    what, fix, code = describe_failure(error)
    if as_json:
        sys.stderr.write(
            json.dumps({"error": {"what": what, "fix": fix, "exit_code": int(code), "exit": code.name}}) + "\n"
        )
        return int(code)
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    out.print(f"[bold red]error:[/] {escape(what)}")
    if fix:
        out.print(f"[bold]  fix:[/] {escape(fix)}")
    return int(code)


def describe_failure(error: BaseException) -> tuple[str, str, ExitCode]:
    """Return what happened, what to do, and the exit code."""
    from pipeline.config import ConfigError
    from pipeline.redact import hide_password

    if isinstance(error, Failure):
        return hide_password(error.what), error.fix, ExitCode(error.exit_code)
    if isinstance(error, ConfigError):
        lines = "\n  ".join(str(problem) for problem in error.problems)
        return f"bad configuration:\n  {lines}", "`pipeline config show` prints every key", ExitCode.USAGE
    if type(error).__name__ in ("ServiceUnavailableError", "NoRespondersError"):
        fix = "start it with compose/nats.conf, or with -js and a store"
        return "the NATS server runs without JetStream", fix, ExitCode.UNREACHABLE
    if type(error).__module__.startswith("nats.") or isinstance(error, ConnectionError):
        words = hide_password(str(error)) or type(error).__name__
        return f"NATS: {words}", "`pipeline doctor` checks the server", ExitCode.UNREACHABLE
    words = re.sub(r"\s+", " ", hide_password(str(error)))[:500]
    return (
        f"internal error: {type(error).__name__}: {words}",
        "run it again with --debug to see the traceback",
        ExitCode.INTERNAL,
    )


def _plain(value: Any) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return str(value)
