"""Running totals of the books, kept with every booking."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, insert, select, update

from pipeline.ledger.models import LAYOUT, Books, Execution, ExecutionFill, Total

_TOTALS = tuple(column.name for column in Total.__table__.columns if column.name != "token")
_BOOKS = tuple(column.name for column in Books.__table__.columns if column.name not in ("id", "layout"))
# Columns of executions that are summed under the same name.
_SUMMED = (
    "executions",
    "filled",
    "wins",
    "gross_profit",
    "cost",
    "net_profit",
    "expected_profit",
    "expected_of_filled",
)


def empty_books(capital: int) -> dict[str, int]:
    """Return the row of books that hold nothing."""
    return dict.fromkeys(_BOOKS, 0) | {"id": 1, "layout": LAYOUT, "starting_capital_lamports": capital}


def read_books(connection: Connection, *, lock: bool) -> dict[str, int]:
    """Return the totals over all tokens; `lock` keeps everybody else from booking until the transaction ends."""
    query = select(Books).where(Books.id == 1)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one()
    return {name: row[name] for name in _BOOKS}


def read_totals(connection: Connection, tokens: Collection[str] | None) -> dict[str, dict[str, int]]:
    """Return the totals of these tokens, or of all."""
    query = select(Total) if tokens is None else select(Total).where(Total.token.in_(tokens))
    return {row["token"]: {name: row[name] for name in _TOTALS} for row in connection.execute(query).mappings()}


class Sums:
    """The totals while rows are added to them; `books` and `totals` are as they will be stored."""

    def __init__(self, connection: Connection, tokens: Collection[str]) -> None:
        """Read what the rows will change, and keep everybody else from booking."""
        self._connection = connection
        self.books = read_books(connection, lock=True)
        self.totals = read_totals(connection, tokens)
        self._stored = set(self.totals)
        self._rows: list[dict[str, Any]] = []
        self._fills: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any], fills: list[dict[str, Any]]) -> None:
        """Add a row of executions, and note in it what everything comes to with it."""
        books = self.books
        if row["net_profit"] and (row["net_lamports"] is None or row["net_usd_e6"] is None):
            books["unvalued"] += 1
        books["net_usd_e6"] += row["net_usd_e6"] or 0
        books["net_lamports"] += row["net_lamports"] or 0
        books["peak_lamports"] = max(books["peak_lamports"], books["net_lamports"])
        fall = books["peak_lamports"] - books["net_lamports"]
        books["max_drawdown_lamports"] = max(books["max_drawdown_lamports"], fall)
        total = self.totals.setdefault(row["token"], dict.fromkeys(_TOTALS, 0))
        total["fees_lamports"] += row["base_fee"] + row["priority_fee"]
        total["tips_lamports"] += row["tip"]
        for name in _SUMMED:
            total[name] += row[name]
        total["net_lamports"] += row["net_lamports"] or 0
        total["net_usd_e6"] += row["net_usd_e6"] or 0
        self._rows.append(row | {"equity_lamports": books["net_lamports"]})
        self._fills += fills

    def store(self) -> None:
        """Write the rows, and the totals as they are with them."""
        connection = self._connection
        if not self._rows:
            return
        connection.execute(insert(Execution), self._rows)
        if self._fills:
            connection.execute(insert(ExecutionFill), self._fills)
        connection.execute(update(Books).where(Books.id == 1).values(**self.books))
        for token in {row["token"] for row in self._rows}:
            if token in self._stored:
                connection.execute(update(Total).where(Total.token == token).values(**self.totals[token]))
            else:
                connection.execute(insert(Total).values(token=token, **self.totals[token]))
