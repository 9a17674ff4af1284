"""`pipeline pools`: find pools on chain, list and show what is known of them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.cli import settings
from pipeline.cli.output import JsonOption, print_json, print_line, print_table
from pipeline.cli.pool_rows import PoolRow, entries_by_pool, pool_rows, read_pool
from pipeline.cli.quote_rows import open_table
from pipeline.cli.token_names import known_tokens
from pipeline.config import Config
from pipeline.errors import ExitCode, Failure, Unreachable, UsageFailure
from pipeline.messages import Anomaly
from pipeline.shm import QUOTES_INTERNAL, QuoteTable

# What knows venues is loaded by name, as workers are: this package knows none.
_DISCOVERING = "workers.quote_core.discovering"
_SHOWN_LEFT_OUT = 40
_REASONS_S = 2.0
_REASONS_LAST = 2_000

app = typer.Typer(no_args_is_help=True, help="Find pools on chain, list and show them.")

# Characters of an address: enough to tell pools from each other, and to name one.
_PREFIX = 12

PairOption = Annotated[
    str | None, typer.Option("--pair", "-p", metavar="BASE/QUOTE", help="Only pools of this pair, in either order.")
]
ProtocolOption = Annotated[
    str | None, typer.Option("--protocol", metavar="NAME", help="Only pools of this venue, such as whirlpool.")
]


@app.callback()
def root() -> None:
    """Find pools on chain, list and show what is known of them."""


@app.command()
def discover(json: JsonOption = False) -> None:
    """Look for pools on chain now, and write the list.

    The quote core starts from that list. Asks the endpoints of rpc.endpoints with one getProgramAccounts call per pair
    and venue, within their rate limits. Pools that nobody can trade with, or that hold too little ([discovery] in the
    configuration), are left out with the reason. A running quote core looks by itself every discovery.refresh_s and is
    not disturbed.

    Exit code 1 when some questions had no answer (what was known of them is kept), 2 without an endpoint, 3 when none
    answers.
    """
    config = settings.config()
    discovering = import_module(_DISCOVERING)
    with Console(stderr=True).status("looking for pools ...") as status:
        found = discovering.discover(
            config, lambda done, asked: status.update(f"looking for pools: {done} of {asked} questions answered")
        )
    if json:
        print_json(found)
    else:
        _print_found(found)
    if found["failed"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command("list")
def list_(
    pair: PairOption = None,
    protocol: ProtocolOption = None,
    left_out: Annotated[bool, typer.Option("--left-out", help="The pools that discovery left out, and why.")] = False,
    json: JsonOption = False,
) -> None:
    """List the known pools.

    Those that the quote core quotes, from shared memory, and those that discovery found, from its file.

    State: quoted; refused: the quote core cannot quote it now, with the reason where the server tells it; found:
    discovered, and unknown to the quote core. Addresses are cut: `pipeline pools show` takes the beginning of one and
    shows the whole, and so does --json. The fee is that of the middle quoted amount. The age counts from when the
    pool's state was last known to hold.
    """
    config = settings.config()
    tokens = known_tokens()
    listed = import_module(_DISCOVERING).remembered(config)
    if left_out:
        _left_out(listed, pair, protocol, as_json=json)
        return
    table = _table(config)
    if table is None and listed is None:
        raise Unreachable(
            "no pools are known: no quote core has run here, and none were discovered",
            "`pipeline up` runs the offline market; `pipeline pools discover` looks on chain",
        )
    rows = _filtered(pool_rows(table, config.shm_directory, listed, _reasons(config, table), tokens), pair, protocol)
    if json:
        print_json({"writer": _writer(table), "file": _file(listed), "pools": [asdict(row) for row in rows]})
        return
    for line in _headlines(table, listed):
        print_line(line)
    columns = ("pool", "venue", "pair", "state", "fee bps", "age", "holds")
    cells = [
        (
            *(
                f"{row.address[:_PREFIX]}..",
                row.protocol,
                row.pair,
                f"{row.state}: {row.reason}" if row.reason else row.state,
            ),
            *("" if row.fee_bps is None else f"{row.fee_bps:.2f}", _age(row.age_s), row.holds),
        )
        for row in rows
    ]
    print_table(f"\n{len(rows)} pools", columns, cells, right=("fee bps", "age"))


@app.command()
def show(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="Address, or the beginning of one that fits one pool.")],
    json: JsonOption = False,
) -> None:
    """Show one pool.

    Everything that is known of it here: the figures it goes by, and what it gives for every quoted amount.
    """
    config = settings.config()
    tokens = known_tokens()
    listed = import_module(_DISCOVERING).remembered(config)
    table = _table(config)
    rows = pool_rows(table, config.shm_directory, listed, _reasons(config, table), tokens)
    row = _one(rows, listed, pool)
    figures, given = _details(table, config.shm_directory, row)
    if json:
        print_json({"writer": _writer(table), **asdict(row), "figures": figures, "quotes": given})
        return
    for line in _headlines(table, listed):
        print_line(line)
    facts = [
        ("pool", row.address),
        ("venue", row.protocol),
        ("pair", row.pair),
        ("token a", f"{tokens.symbol(row.token_a)}  {row.token_a}"),
        ("token b", f"{tokens.symbol(row.token_b)}  {row.token_b}"),
        ("state", f"{row.state}: {row.reason}" if row.reason else row.state),
        ("holds", row.holds),
        ("state's age", _age(row.age_s)),
        ("slot", "" if row.slot is None else f"{row.slot:,}"),
        *((name, _shown(value)) for name, value in figures.items() if name != "protocol"),
    ]
    print_table("", ("", ""), [fact for fact in facts if fact[1]])
    if given:
        columns = ("give", "get", "rate", "impact bps", "fee", "conf")
        print_table(
            "\nquotes",
            columns,
            [
                (
                    tokens.amount(one["token_in"], one["amount_in"]),
                    tokens.amount(one["token_out"], one["amount_out"]),
                    tokens.rate(one["token_in"], one["token_out"], one["amount_in"], one["amount_out"]),
                    f"{one['price_impact_bps']:.2f}",
                    tokens.amount(one["token_in"], one["fee_amount"]),
                    f"{one['confidence']:.3f}",
                )
                for one in given
            ],
            right=columns,
        )


def _details(table: QuoteTable | None, directory: Path, row: PoolRow) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a pool's figures and quotes, as far as shared memory holds them."""
    entries = entries_by_pool(table).get(row.address, []) if table is not None else []
    if table is None or not entries:
        return {}, []
    pool = read_pool(directory, entries[0].pool)
    given = [
        {
            "token_in": table.name("token", entry.token_in),
            "token_out": table.name("token", entry.token_out),
            "amount_in": entry.amount_in,
            "amount_out": entry.amount_out,
            "fee_amount": entry.fee_amount,
            "price_impact_bps": entry.price_impact_bps,
            "confidence": entry.confidence,
        }
        for entry in sorted(entries, key=lambda entry: (entry.token_in, entry.amount_in))
        if not entry.void and entry.amount_out
    ]
    return (dict(pool.info()) if pool is not None else {}), given


def _left_out(listed: dict[str, Any] | None, pair: str | None, protocol: str | None, *, as_json: bool) -> None:
    if listed is None:
        raise Unreachable("no list of discovered pools exists", "`pipeline pools discover` writes one")
    left = [
        one
        for one in listed["left_out"]
        if (pair is None or _same_pair(pair, one["pair"])) and (protocol is None or one["protocol"] == protocol)
    ]
    if as_json:
        print_json({"file": _file(listed), "reasons": listed["reasons"], "left_out": left})
        return
    _print_reasons(listed["reasons"])
    rows = [(one["address"], one["protocol"], one["pair"], one["reason"]) for one in left]
    print_table(f"\n{len(rows)} pools left out", ("pool", "venue", "pair", "reason"), rows)


def _print_found(found: dict[str, Any]) -> None:
    counts: dict[tuple[str, str], int] = {}
    for pool in found["pools"]:
        counts[pool["pair"], pool["protocol"]] = counts.get((pool["pair"], pool["protocol"]), 0) + 1
    venues = sorted({protocol for _, protocol in counts})
    pairs = sorted({pair for pair, _ in counts}, key=str.lower)
    rows = [(pair, *(counts.get((pair, venue), "") for venue in venues)) for pair in pairs]
    print_table(
        f"{len(found['pools'])} pools at slot {found['slot']:,}, {len(found['added'])} new, {len(found['gone'])} gone",
        ("pair", *venues),
        rows,
        right=venues,
    )
    for gone in found["gone"][:_SHOWN_LEFT_OUT]:
        print_line(f"gone  {gone['protocol']} {gone['pair']} {gone['address']}: {gone['reason']}")
    _print_reasons(found["reasons"])
    for note in found["notes"]:
        print_line(f"note: {note}")
    for failed in found["failed"]:
        print_line(f"no answer: {failed}")
    print_line(f"written to {found['file']}; `pipeline pools list` shows them, with --left-out the others")


def _print_reasons(reasons: dict[str, int]) -> None:
    if reasons:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items(), key=lambda one: -one[1]))
        print_line(f"left out: {told}")


def _table(config: Config) -> QuoteTable | None:
    """Return the table of internal quotes; None where no quote core has run.

    Raises:
        Failure: if there is one that cannot be read.
    """
    path = config.shm_directory / QUOTES_INTERNAL
    return open_table(path) if path.exists() else None


def _reasons(config: Config, table: QuoteTable | None) -> dict[str, str]:
    """Return why pools were refused last, as the server's METRICS stream tells; nothing where it cannot be asked."""
    if table is None:
        return {}
    try:
        return asyncio.run(asyncio.wait_for(_read_reasons(config), _REASONS_S))
    except (Failure, OSError, TimeoutError):
        return {}


async def _read_reasons(config: Config) -> dict[str, str]:
    from pipeline.bus import Bus

    bus = await Bus.connect(config.nats, name="pools")
    try:
        reasons: dict[str, str] = {}
        async for message, _ in bus.read("METRICS", "metrics.anomaly.pool_refused", last=_REASONS_LAST):
            if isinstance(message, Anomaly):
                address, _, reason = message.detail.partition(": ")
                reasons[address] = reason
        return reasons
    finally:
        await bus.close(0.2)


def _filtered(rows: list[PoolRow], pair: str | None, protocol: str | None) -> list[PoolRow]:
    """Keep the rows that were asked for.

    Raises:
        UsageFailure: for a pair or a venue that no pool has.
    """
    pairs, protocols = {row.pair for row in rows}, {row.protocol for row in rows}
    if pair is not None and not any(_same_pair(pair, one) for one in pairs):
        raise UsageFailure(f"no pool of {pair!r} is known", f"pairs: {', '.join(sorted(pairs)) or 'none yet'}")
    if protocol is not None and protocol not in protocols:
        raise UsageFailure(f"no pool of {protocol!r} is known", f"venues: {', '.join(sorted(protocols)) or 'none yet'}")
    return [
        row
        for row in rows
        if (pair is None or _same_pair(pair, row.pair)) and (protocol is None or row.protocol == protocol)
    ]


def _one(rows: list[PoolRow], listed: dict[str, Any] | None, given: str) -> PoolRow:
    """Return the one pool that an address, or the beginning of one, names.

    Raises:
        UsageFailure: if there is none, or more than one.
    """
    fitting = [row for row in rows if row.address.startswith(given)]
    exact = [row for row in fitting if row.address == given]
    if len(exact or fitting) == 1:
        return (exact or fitting)[0]
    if fitting:
        shown = ", ".join(row.address for row in fitting[:5])
        raise UsageFailure(f"{len(fitting)} pools begin with {given!r}", f"give more of the address: {shown}")
    for one in (listed or {}).get("left_out", ()):
        if one["address"] == given:
            raise UsageFailure(
                f"{given} was left out when pools were discovered: {one['reason']}", "see docs/discovery.md"
            )
    raise UsageFailure(f"no pool {given!r} is known", "`pipeline pools list` shows the known ones")


def _same_pair(given: str, name: str) -> bool:
    wanted, parts = given.upper().split("/"), name.upper().split("/")
    return parts in (wanted, wanted[::-1])


def _writer(table: QuoteTable | None) -> dict[str, object] | None:
    if table is None:
        return None
    return {"alive": table.writer_alive, "pid": table.writer_pid, "slot": table.slot, "market_ns": table.market_ns}


def _file(listed: dict[str, Any] | None) -> dict[str, object] | None:
    return None if listed is None else {name: listed[name] for name in ("file", "slot", "found_ns")}


def _headlines(table: QuoteTable | None, listed: dict[str, Any] | None) -> list[str]:
    lines = []
    if table is None:
        lines.append("quote core: none has run here")
    elif table.writer_alive:
        lines.append(f"quote core: process {table.writer_pid}, slot {table.slot:,}")
    else:
        silent = _age(table.heartbeat_age_ns / 1e9)
        lines.append(f"quote core: no longer runs, last sign of life {silent} ago; below is what it wrote last")
    if listed is not None:
        moment = datetime.fromtimestamp(listed["found_ns"] / 1e9, UTC)
        lines.append(f"discovered: {len(listed['pools'])} pools, {moment:%Y-%m-%d %H:%M} UTC, slot {listed['slot']:,}")
    return lines


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        text = " and ".join(_shown(one) for one in value) if len(value) == 2 else str(value)
    else:
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    text = "none" if value is None else text
    return text if len(text) <= 200 else f"{text[:180]} ... ({len(text)} characters)"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:,.0f} h"
