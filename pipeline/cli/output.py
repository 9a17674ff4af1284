"""What commands print: tables on a terminal, JSON with `--json`, one message for a failure.

Exit codes stand in `pipeline.errors.ExitCode`. A command raises a `Failure` and returns normally otherwise; a check
that failed raises `typer.Exit(ExitCode.CHECK_FAILED)` after it has printed what it found.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from pipeline.errors import ExitCode, Failure

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

# Between two columns, and how narrow a column of several words may become; characters.
_GAP = 2
_WORDS = 24


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

    Numbers and names are never broken over lines, only what has several words. Columns for which a terminal is too
    narrow follow below, beside the first column again; those with nothing in them are left out. Values are escaped,
    never read as markup.
    """
    out = console()
    cells = [[str(cell) for cell in row] for row in rows]
    wide = [max(cell_len(cell) for cell in column) for column in zip(columns, *cells, strict=True)]
    wraps = [
        name not in right and any(" " in row[place] and cell_len(row[place]) > _WORDS for row in cells)
        for place, name in enumerate(columns)
    ]
    shown = [place for place in range(len(columns)) if place == 0 or not cells or any(row[place] for row in cells)]
    if not out.is_terminal:
        out.width = max(out.width, sum(wide) + _GAP * len(wide))
    if title:
        out.print(f"[bold]{escape(title)}[/]")
    least = [min(width, _WORDS) if wrap else width for width, wrap in zip(wide, wraps, strict=True)]
    for number, part in enumerate(_parts(shown, least, out.width)):
        if number:
            out.print()
        table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        for place in part:
            name = columns[place]
            justify: JustifyMethod = "right" if name in right else "left"
            table.add_column(escape(name), justify=justify, overflow="fold", no_wrap=not wraps[place])
        for row in cells:
            table.add_row(*[escape(row[place]) for place in part])
        out.print(table, soft_wrap=False)


def _parts(places: Sequence[int], widths: Sequence[int], room: int) -> list[list[int]]:
    """Return which columns stand beside each other: as many as there is room for, the first one with each part."""
    first, *others = places
    parts = [[first]]
    used = widths[first]
    for place in others:
        if len(parts[-1]) > 1 and used + _GAP + widths[place] > room:
            parts.append([first])
            used = widths[first]
        parts[-1].append(place)
        used += _GAP + widths[place]
    return parts


def print_line(text: str) -> None:
    """Print one line, literally."""
    console().print(escape(text))


def shown_time(at_ns: int) -> str:
    """Return a moment, in ns since the epoch, as people read it: UTC, as in the logs."""
    return f"{datetime.fromtimestamp(at_ns // 10**9, UTC):%Y-%m-%d %H:%M:%S} UTC"


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
