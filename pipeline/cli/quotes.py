"""`pipeline quotes`: what the running quote core knows, read from shared memory."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Annotated, NamedTuple

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.cli import settings
from pipeline.cli.output import JsonOption, console, print_json
from pipeline.cli.quote_rows import Board, Boards, QuoteRow, Side, Tokens
from pipeline.cli.token_names import known_tokens
from pipeline.errors import ExitCode, UsageFailure

_REFRESH_S = 0.25
_JSON_S = 1.0
_BAND_STYLE = {"execute": "green", "verify": "cyan", "cautious": "yellow", "skip": "red"}
_STALENESS_STYLE = {"fresh": "green", "stale": "yellow", "very stale": "red"}
_WHOLE_ADDRESSES = 180


class _Column(NamedTuple):
    title: str
    from_width: int = 0
    """Left out on narrower terminals."""
    right: bool = False


_COLUMNS = (
    _Column("pair", 100),
    _Column("give"),
    _Column("quote"),
    _Column("get", right=True),
    _Column("rate", 90, right=True),
    _Column("conf", right=True),
    _Column("band"),
    _Column("age", right=True),
    _Column("state", 150),
    _Column("oracle", 140, right=True),
    _Column("source", 110),
)


def quotes(
    pair: Annotated[
        str | None,
        typer.Option("--pair", "-p", metavar="BASE/QUOTE", help="Only this pair, such as SOL/USDC, in either order."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", "-a", help="Every amount of the grid, not the middle one of each direction.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show every change, until Ctrl-C; with --json a line a second.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show the best quotes of the running quote core.

    For every direction and amount: who gives most among its pools (internal) and among other providers (external).
    "Best" is by confidence-weighted output, and a star marks the better of the two. The rate is whole tokens received
    per whole token given, after every fee. The confidence is 0..1, with the band that decides what may be traded on it:
    execute 0.9, verify 0.7, cautious 0.5, else skip. The age counts from when the quote was last known to hold.

    Reads shared memory only; needs no server. Exit code 1 when the quote core that wrote it no longer runs, 3 when none
    has run here.
    """
    tokens = known_tokens()
    boards = Boards(settings.config().shm_directory, tokens)
    name = _pair_name(pair, boards.look().pairs) if pair else None
    amounts = "all" if every else "middle"
    if watch:
        _watch(boards, tokens, name, amounts, as_json=json)
        return
    board = boards.look(name, amounts)
    if json:
        print_json(document(board, tokens))
    else:
        out = console()
        out.print(view(board, tokens, width=out.width))
    if not board.writer.alive:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def document(board: Board, tokens: Tokens) -> dict[str, object]:
    """Return a board as plain values; amounts are base units."""
    return {
        "writer": asdict(board.writer),
        "quotes": [
            {
                "pair": row.pair,
                "token_in": row.token_in,
                "token_out": row.token_out,
                "symbol_in": tokens.symbol(row.token_in),
                "symbol_out": tokens.symbol(row.token_out),
                "amount_in": row.amount_in,
                "best": row.best,
                "internal": asdict(row.internal) if row.internal else None,
                "external": asdict(row.external) if row.external else None,
            }
            for row in board.rows
        ],
    }


def view(board: Board, tokens: Tokens, *, width: int = 200, rows: int | None = None) -> Group:
    """Return a board for a terminal of a width; `rows` is how many quotes there is room for."""
    columns = [column for column in _COLUMNS if width >= column.from_width]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    drawn = 0
    before = ""
    for row in board.rows:
        for side in (row.internal, row.external):
            if side is None or (rows is not None and drawn >= rows):
                continue
            drawn += 1
            first = side is (row.internal or row.external)
            cells = _cells(row, side, tokens, width)
            cells["pair"] = row.pair if row.pair != before else ""
            cells["give"] = tokens.amount(row.token_in, row.amount_in) if first else ""
            table.add_row(*(cells[column.title] for column in columns))
            before = row.pair
    total = sum((row.internal is not None) + (row.external is not None) for row in board.rows)
    parts: list[Text | Table] = [_headline(board)]
    if total:
        parts.append(table)
    else:
        parts.append(Text("no quotes yet: the quote core has not heard of a pool that can be quoted", style="yellow"))
    if drawn < total:
        parts.append(Text(f"{total - drawn} more: --pair shows one pair", style="dim"))
    return Group(*parts)


def _cells(row: QuoteRow, side: Side, tokens: Tokens, width: int) -> dict[str, str | Text]:
    star = "*" if side.kind == row.best else " "
    source = side.source
    if side.kind == "internal":
        short = source if width >= _WHOLE_ADDRESSES or len(source) < 12 else f"{source[:6]}..{source[-4:]}"
        source = f"{side.protocol} {short}"
    elif side.hops != 1:
        source += f", {side.hops} hops"
    return {
        "quote": f"{star} {side.kind}",
        "get": tokens.amount(row.token_out, side.amount_out),
        "rate": side.rate,
        "conf": f"{side.confidence:.3f}",
        "band": Text(side.band, style=_BAND_STYLE.get(side.band, "")),
        "age": Text(_age(side.age_s), style=_STALENESS_STYLE.get(side.staleness, "")),
        "state": Text(side.staleness, style=_STALENESS_STYLE.get(side.staleness, "")),
        "oracle": "" if side.oracle_bps is None else f"{side.oracle_bps:+.1f} bps",
        "source": source + (f" (+{side.others})" if side.others else ""),
    }


def _headline(board: Board) -> Text:
    writer = board.writer
    market = time.strftime("%H:%M:%S", time.gmtime(writer.market_ns // 10**9)) if writer.market_ns else "-"
    facts = f"slot {writer.slot:,}, market time {market} UTC, {writer.void} quotes void"
    if writer.alive:
        return Text(f"quote core runs (process {writer.pid}): {facts}", style="bold")
    return Text(
        f"the quote core (process {writer.pid}) no longer runs; last sign of life {_age(writer.silent_s)} ago. "
        f"What it wrote last: {facts}",
        style="bold red",
    )


def _watch(boards: Boards, tokens: Tokens, pair: str | None, amounts: str, *, as_json: bool) -> None:
    """Show changes as they are committed; a writer that dies, or is followed by another, is shown as it is."""
    from rich.live import Live

    cursor = boards.internal.cursor()
    try:
        if as_json or not sys.stdout.isatty():
            while True:
                board = boards.look(pair, amounts)
                if as_json:
                    sys.stdout.write(_line(document(board, tokens)))
                    sys.stdout.flush()
                else:
                    console().print(view(board, tokens))
                time.sleep(_JSON_S)
                boards = boards.reopened()
        out = console()
        with Live(console=out, screen=True, auto_refresh=False) as live:
            while True:
                board = boards.look(pair, amounts)
                live.update(view(board, tokens, width=out.width, rows=max(1, out.height - 4)), refresh=True)
                # At most four times a second, and once a second when nothing is committed: ages go on.
                time.sleep(_REFRESH_S)
                cursor.wait(_JSON_S)
                cursor.poll()
                newer = boards.reopened()
                if newer is not boards:
                    boards, cursor = newer, newer.internal.cursor()
    except KeyboardInterrupt:
        return


def _line(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False) + "\n"


def _pair_name(given: str, known: tuple[str, ...]) -> str:
    """Return a pair as the tables name it.

    Raises:
        UsageFailure: if they do not know it.
    """
    wanted = given.upper().split("/")
    for name in known:
        if name.upper().split("/") in (wanted, wanted[::-1]):
            return name
    shown = ", ".join(known) or "none yet"
    raise UsageFailure(f"there are no quotes of {given!r}", f"pairs: {shown}")


def _age(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:,.0f} h"
