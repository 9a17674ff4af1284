"""`pipeline pnl` and `pipeline trades`: what the auditor booked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli import settings
from pipeline.cli.books import SOL_DECIMALS, USD_DECIMALS, exact, opened_books, sink_to, timestamp, write_rows
from pipeline.cli.held import held_json, print_held
from pipeline.cli.output import JsonOption, print_json, print_line, print_table
from pipeline.cli.tax import tax
from pipeline.errors import UsageFailure
from pipeline.ledger.figures import MIN_HOURS, MIN_TRADES, By, breakdown, causes, ratios
from pipeline.ledger.queries import Report
from pipeline.ledger.trades import Trade

# Column of the export -> what stands in it. Documented in docs/accounting.md; a test holds the two together.
COLUMNS: dict[str, str] = {
    "sequence": "sequence of the result in the stream EXECUTED",
    "finished": "when the outcome was known, ISO 8601, UTC, nanoseconds",
    "slot": "market slot it landed or ended in",
    "status": "what became of the plan, or CORRECTION: then amounts are differences to what was booked before",
    "proof": "what the final chain says: none, pending, proved, corrected or lost",
    "mode": "PAPER, LOCALNET or LIVE",
    "pair": "the cycle's token and the other one",
    "token": "symbol of the cycle's token; the amounts down to expected_profit are in it",
    "amount_in": "put into the first leg",
    "amount_out": "given by the last leg",
    "gross_profit": "amount_out - amount_in",
    "cost": "what was paid in lamports, in the token, rounded up",
    "net_profit": "gross_profit - cost",
    "expected_profit": "net profit that the plan expected",
    "base_fee_sol": "network fee, SOL",
    "priority_fee_sol": "priority fee, SOL",
    "tip_sol": "tip, SOL",
    "net_sol": "net_profit in SOL at the fill's price, rounded down; empty without a price",
    "net_usd": "net_profit in USD at the fill's price, rounded down; empty without a price",
    "sol_price_usd": "USD per SOL at the fill; empty without a price",
    "equity_sol": "net_sol of everything booked up to and with this one",
    "pools": "addresses of the pools, in order, separated by spaces",
    "wallet": "address of the wallet that signed, or empty",
    "signature": "signature of the transaction, or empty",
    "result_id": "id of the execution result, or of the correction",
    "plan_id": "id of its plan",
    "opportunity_id": "id of the opportunity: the correlation id of every message about it",
    "detail": "why it was not filled, or empty",
}

_RATIOS = f"Ratios need {MIN_TRADES} landed trades, annualised ones {MIN_HOURS} hours; -: nothing varied, or was lost."

trades = typer.Typer(help="List and export booked trades.", no_args_is_help=True)


def pnl(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Empty the books first and book the streams again from their beginning.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard-older", help="With --rebuild: even where the stream no longer holds everything.")
    ] = False,
    by: Annotated[By | None, typer.Option("--by", help="Break down by pair, venue or hour (UTC).")] = None,
    reconcile: Annotated[
        bool, typer.Option("--reconcile", help="Show how the books stand against the chain, and nothing else.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show profit and loss.

    Figures are sums over booked executions: amounts in the token's own units, SOL and USD at each fill's price.
    """
    config = settings.config()
    if discard and not rebuild:
        raise UsageFailure("--discard-older without --rebuild", "add --rebuild, or leave it out")
    if rebuild:
        # Booking needs the token list, which belongs to the auditor: loaded by name, like a worker.
        asyncio.run(import_module("workers.auditor.rebuild").rebuild(config, discard_older=discard))
    with opened_books(config.database_url) as reader:
        names = reader.tokens()
        held = reader.reconciliations()
        document = {} if reconcile else report_json(reader.report(), reader.all_trades(), by)
    if as_json:
        print_json(held_json(held, names) if reconcile else document | {"reconciliation": held_json(held, names)})
    elif reconcile:
        print_held(held, names)
    elif by is not None:
        _print_by(by, document["by"], names)
    else:
        _print(document, names)
        if held:
            print_line("")
            print_held(held, names)


@trades.command("list")
def list_trades(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the newest booked trades, newest last."""
    with opened_books(settings.config().database_url) as reader:
        rows = [trade_row(row) for row in reader.trades(newest=limit)]
    if as_json:
        print_json(rows)
        return
    columns = ("finished", "status", "pair", "amount_in", "net_profit", "net_sol", "equity_sol", "detail")
    shown = [[row["finished"][:23], *(row[name] for name in columns[1:])] for row in rows]
    print_table("Trades", columns, shown, right=("amount_in", "net_profit", "net_sol", "equity_sol"))


@trades.command("export")
def export(
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header line.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; standard output without it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Export every booked trade in stream order, exact to the last base unit."""
    if as_csv == as_json:
        raise UsageFailure("choose one format", "pipeline trades export --csv, or --json (one object a line)")
    with opened_books(settings.config().database_url) as reader, sink_to(out) as sink:
        count = write_rows(sink, COLUMNS, map(trade_row, reader.trades()), as_csv=as_csv)
    if out is not None:
        print_line(f"{count} trades written to {out}")


trades.command("tax")(tax)


def report_json(found: Report, trades: list[Trade], by: By | None) -> dict[str, Any]:
    """Return the report for machines: integers in base units, and the ratios that the tables show."""
    books = found.books
    document = {
        "totals": {
            **books,
            "drawdown_lamports": books["peak_lamports"] - books["net_lamports"],
            "max_drawdown_ratio": books["max_drawdown_lamports"] / books["starting_capital_lamports"],
            "executions": sum(row["executions"] for row in found.tokens),
            "filled": sum(row["filled"] for row in found.tokens),
            "wins": sum(row["wins"] for row in found.tokens),
            "fees_lamports": sum(row["fees_lamports"] for row in found.tokens),
            "tips_lamports": sum(row["tips_lamports"] for row in found.tokens),
        },
        "ratios": asdict(ratios(trades)),
        "ratios_need": {"trades": MIN_TRADES, "hours": MIN_HOURS},
        "tokens": [row | _ratios(row) for row in found.tokens],
        "pairs": [row | _ratios(row) for row in found.pairs],
        "causes": causes(trades),
        "statuses": found.statuses,
        "proofs": dict(sorted(Counter(str(trade.row["proof"]) for trade in trades).items())),
        "modes": dict(sorted(Counter(str(trade.row["mode"]) for trade in trades).items())),
        "positions": found.positions,
    }
    if by is not None:
        rows = breakdown(trades, by, lambda trade: str(trade.row["pair"]))
        document["by"] = [row | _ratios(row) for row in rows]
    return document


def trade_row(row: dict[str, Any]) -> dict[str, str]:
    """Return one booked execution under the columns of the export."""
    decimals = row["decimals"] or 0

    def token(name: str) -> str:
        return exact(row[name], decimals)

    def sol(name: str) -> str:
        return exact(row[name], SOL_DECIMALS)

    price = row["sol_price_usd_e6"] or None
    values = {
        "sequence": str(row["sequence"]),
        "finished": timestamp(row["finished_ns"]),
        "slot": str(row["slot"]),
        "status": row["status"],
        "proof": row["proof"],
        "mode": row["mode"],
        "pair": row["pair"],
        "token": row["symbol"],
        "amount_in": token("amount_in"),
        "amount_out": token("amount_out"),
        "gross_profit": token("gross_profit"),
        "cost": token("cost"),
        "net_profit": token("net_profit"),
        "expected_profit": token("expected_profit"),
        "base_fee_sol": sol("base_fee"),
        "priority_fee_sol": sol("priority_fee"),
        "tip_sol": sol("tip"),
        "net_sol": sol("net_lamports"),
        "net_usd": exact(row["net_usd_e6"], USD_DECIMALS),
        "sol_price_usd": exact(price, USD_DECIMALS),
        "equity_sol": sol("equity_lamports"),
        "pools": (row["pools"] or "").replace(",", " "),
        "wallet": row["wallet"],
        "signature": row["signature"],
        "result_id": row["id"],
        "plan_id": row["plan_id"],
        "opportunity_id": row["opportunity_id"],
        "detail": row["detail"],
    }
    assert values.keys() == COLUMNS.keys()
    return values


def _ratios(row: dict[str, Any]) -> dict[str, float | int | None]:
    filled = row["filled"]
    return {
        "win_ratio": row["wins"] / filled if filled else None,
        "average_net_profit": row["net_profit"] // filled if filled else None,
        "realised_ratio": row["net_profit"] / row["expected_of_filled"] if row["expected_of_filled"] else None,
    }


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _print(document: dict[str, Any], names: Mapping[str, tuple[str, int]]) -> None:
    totals, risk = document["totals"], document["ratios"]
    share = _percent(totals["max_drawdown_lamports"], totals["starting_capital_lamports"])
    print_table(
        "Profit and loss",
        ("", "value"),
        [
            ("net profit, SOL", exact(totals["net_lamports"], SOL_DECIMALS)),
            ("net profit, USD", exact(totals["net_usd_e6"], USD_DECIMALS)),
            ("fees, SOL", exact(totals["fees_lamports"], SOL_DECIMALS)),
            ("tips, SOL", exact(totals["tips_lamports"], SOL_DECIMALS)),
            ("executions", totals["executions"]),
            ("filled", totals["filled"]),
            ("won", f"{totals['wins']} ({_percent(totals['wins'], totals['filled'])})"),
            ("largest drawdown, SOL", f"{exact(totals['max_drawdown_lamports'], SOL_DECIMALS)} ({share} of capital)"),
            ("present drawdown, SOL", exact(totals["drawdown_lamports"], SOL_DECIMALS)),
            (f"Sharpe, Sortino per trade ({risk['trades']})", ", ".join(_risk(risk, "trade"))),
            (f"Sharpe, Sortino per hour, annualised ({risk['hours']})", ", ".join(_risk(risk, "hour"))),
            ("booked without a price", totals["unvalued"]),
            ("booked up to", f"EXECUTED {document['positions'].get('EXECUTED', 0)}"),
        ],
        right=("value",),
    )
    print_line(_RATIOS)
    for title, first in (("Tokens", "symbol"), ("Pairs", "pair")):
        print_line("")
        _print_rows(title, first, document[title.lower()], names)
    print_line("")
    differing = []
    for row in document["causes"]:
        symbol, decimals = names.get(row["token"], (row["token"], 0))
        differing.append((symbol, row["cause"], row["trades"], exact(row["difference"], decimals)))
    columns = ("token", "cause", "trades", "difference")
    print_table("Realised less expected, by cause", columns, differing, right=columns[2:])
    print_line("")
    print_table("Outcomes", ("status", "bookings"), list(document["statuses"].items()), right=("bookings",))
    if len(document["modes"]) > 1:
        told = ", ".join(f"{name} {count}" for name, count in document["modes"].items())
        print_line(f"of several modes, which are summed here ({told}): give each auditor.database_url of its own")
    if set(document["proofs"]) - {"none"}:
        told = ", ".join(f"{name} {count}" for name, count in document["proofs"].items())
        print_line(f"on the final chain's word: {told}")
    if lost := document["proofs"].get("lost"):
        print_line(f"{lost} were not final when their chain ended: no chain bears them out, and no balance holds them")


def _print_rows(title: str, first: str, rows: Sequence[dict[str, Any]], names: Mapping[str, tuple[str, int]]) -> None:
    counts, sums = ("executions", "filled", "won"), ("gross", "cost", "net", "expected of filled")
    columns = (*counts, *sums, "average net", "net SOL", "net USD")
    shown = []
    for row in rows:
        symbol, decimals = names.get(row["token"], (row["token"], 0))
        of_token = () if first in ("symbol", "pair") else (symbol,)
        shown.append((row[first], *of_token, *_cells(row | {"decimals": decimals})))
    heads = (first,) if first in ("symbol", "pair") else (first, "token")
    print_table(title, (*heads, *columns), shown, right=columns)


def _print_by(by: By, rows: Sequence[dict[str, Any]], names: Mapping[str, tuple[str, int]]) -> None:
    _print_rows(by.title(), by, rows, names)
    risks, differing = [], []
    for row in rows:
        symbol, decimals = names.get(row["token"], (row["token"], 0))
        first, risk = (row[by], symbol), row["ratios"]
        # An hour is one hour long: there is no series of hours in it.
        hours = () if by == "hour" else (risk["hours"], *_risk(risk, "hour"))
        risks.append((*first, exact(row["max_drawdown"], decimals), risk["trades"], *_risk(risk, "trade"), *hours))
        differing += [
            (*first, one["cause"], one["trades"], exact(one["difference"], decimals)) for one in row["causes"]
        ]
    of_hours = () if by == "hour" else ("hours", "Sharpe, annualised", "Sortino, annualised")
    columns = ("largest drawdown", "landed", "Sharpe", "Sortino", *of_hours)
    print_line("")
    print_table(f"Risk, in the token, by {by}", (by, "token", *columns), risks, right=columns)
    print_line(_RATIOS)
    print_line("")
    columns = ("trades", "difference")
    print_table("Realised less expected, by cause", (by, "token", "cause", *columns), differing, right=columns)


def _risk(risk: Mapping[str, Any], period: str) -> tuple[str, str]:
    """Return Sharpe and Sortino as a person reads them."""
    enough = risk["trades"] >= MIN_TRADES if period == "trade" else risk["hours"] >= MIN_HOURS
    if not enough:
        return "too few", "too few"
    sharpe, sortino = (risk[f"{name}_per_{period}"] for name in ("sharpe", "sortino"))
    return ("-" if sharpe is None else f"{sharpe:.2f}"), ("-" if sortino is None else f"{sortino:.2f}")


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    decimals = row["decimals"] or 0
    average = row["net_profit"] // row["filled"] if row["filled"] else None
    return (
        row["executions"],
        row["filled"],
        _percent(row["wins"], row["filled"]),
        exact(row["gross_profit"], decimals),
        exact(row["cost"], decimals),
        exact(row["net_profit"], decimals),
        exact(row["expected_of_filled"], decimals),
        exact(average, decimals),
        exact(row["net_lamports"], SOL_DECIMALS),
        exact(row["net_usd_e6"], USD_DECIMALS),
    )
