"""Show how the books stand against the chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.cli.books import exact
from pipeline.cli.output import print_line, print_table
from pipeline.ledger import Held

_AMOUNTS = ("opening", "balance", "traded", "moved", "upkeep", "difference")


def held_json(held: Sequence[Held], names: Mapping[str, tuple[str, int]]) -> list[dict[str, Any]]:
    """Return one object for each token; amounts in base units."""
    return [
        {"token": one.token, "symbol": names.get(one.token, (one.token, 0))[0]}
        | {name: getattr(one, name) for name in _AMOUNTS}
        | {"slot": one.slot, "transactions": one.transactions, "pending": one.pending, "chain": one.genesis}
        for one in held
    ]


def print_held(held: Sequence[Held], names: Mapping[str, tuple[str, int]]) -> None:
    """Print one row for each token there is any of: balance - opening = traded + moved + upkeep, and what is left."""
    if not held:
        print_line("The books have not been held against a chain yet.")
        return
    slot = max(one.slot for one in held)
    every, held = held, [one for one in held if any(getattr(one, name) for name in _AMOUNTS)]
    rows = []
    for one in held:
        symbol, decimals = names.get(one.token, (one.token, 0))
        amounts = [exact(getattr(one, name), decimals) for name in _AMOUNTS]
        rows.append((symbol, *amounts, one.transactions, one.pending))
    columns = ("token", *_AMOUNTS, "transactions", "pending")
    print_table(f"Books against the chain, slot {slot:,}", columns, rows, right=columns[1:])
    if nothing := len(every) - len(held):
        print_line(f"{nothing} tokens more: nothing held, nothing booked.")
    wrong = [str(row[0]) for row, one in zip(rows, held, strict=True) if one.difference]
    if wrong:
        print_line(f"Not explained: {', '.join(wrong)}. The anomaly reconciliation_difference names the transaction.")
