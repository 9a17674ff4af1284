"""`pipeline trades tax`: every disposal with its cost basis, first in, first out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import settings
from pipeline.cli.books import USD_DECIMALS, exact, opened_books, sink_to, timestamp, write_rows
from pipeline.cli.output import print_line
from pipeline.errors import UsageFailure
from pipeline.ledger.lots import Disposal, disposals
from pipeline.ledger.queries import Reader

DOLLAR = "USDC"

# Column of the export -> what stands in it. Documented in docs/accounting.md; a test holds the two together.
TAX_COLUMNS: dict[str, str] = {
    "disposed": "when it was given away, ISO 8601, UTC, nanoseconds",
    "event": "swap, fee, tip, upkeep or withdrawal",
    "token": "symbol of what was given away",
    "amount": "how much of it",
    "acquired": "when this lot was got; empty for what was held when the books began",
    "source": "how it was got: opening, deposit, swap, or unrecorded where no lot covers it",
    "cost_usd": "what this part of the lot had cost, rounded down",
    "proceeds_usd": "what it brought; 0 for fees, tips and upkeep, its cost for a withdrawal",
    "gain_usd": "proceeds_usd - cost_usd",
    "signature": "signature of the transaction, or empty",
    "result_id": "id of the execution result, or empty",
}


def tax(
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header line.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; standard output without it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Export every disposal with its cost basis (first in, first out) for taxes."""
    if as_csv == as_json:
        raise UsageFailure("choose one format", "pipeline trades tax --csv, or --json (one object a line)")
    with opened_books(settings.config().database_url) as reader, sink_to(out) as sink:
        names = reader.tokens()
        rows = (tax_row(one, names) for one in found_disposals(reader))
        count = write_rows(sink, TAX_COLUMNS, rows, as_csv=as_csv)
    if out is not None:
        print_line(f"{count} disposals written to {out}")


def found_disposals(reader: Reader) -> Iterator[Disposal]:
    """Yield the disposals of the books, in the order of the chain, and of the stream where there is none."""
    dollar = next((mint for mint, (symbol, _) in reader.tokens().items() if symbol == DOLLAR), "")
    places = reader.chains_of()
    latest = max((place[0] for place in places.values()), default=0)
    trades = [
        (places.get(trade.row["signature"], (latest, trade.row["slot"], trade.row["sequence"])), trade)
        for trade in reader.all_trades()
    ]
    yield from disposals(trades, reader.transfers(), dollar)


def tax_row(one: Disposal, names: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """Return one disposal under the columns of the export."""
    symbol, decimals = names.get(one.token, (one.token, 0))
    values = {
        "disposed": timestamp(one.disposed_ns),
        "event": one.event,
        "token": symbol,
        "amount": exact(one.amount, decimals),
        "acquired": timestamp(one.acquired_ns) if one.acquired_ns else "",
        "source": one.source,
        "cost_usd": exact(one.cost_usd_e6, USD_DECIMALS),
        "proceeds_usd": exact(one.proceeds_usd_e6, USD_DECIMALS),
        "gain_usd": exact(one.proceeds_usd_e6 - one.cost_usd_e6, USD_DECIMALS),
        "signature": one.signature,
        "result_id": one.reference,
    }
    assert values.keys() == TAX_COLUMNS.keys()
    return values
