"""Read the books: totals, per token, per pair, and every trade."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Engine, Select, func, literal, select
from sqlalchemy.exc import DBAPIError

from pipeline.ledger.engine import LedgerError, first_line, open_engine
from pipeline.ledger.models import LAYOUT, Books, Execution, Plan, Position, Token, Total

_OTHER = func.coalesce(Execution.other_token, Plan.other_token)


@dataclass(frozen=True, slots=True)
class Report:
    """The books as they stand.

    `tokens` and `pairs` hold rows with the figures of the table `totals` and the names `symbol`, `decimals` and, for
    pairs, `pair`; amounts are base units of the row's token unless the name says lamports or usd.
    """

    books: dict[str, int]
    positions: dict[str, int]
    tokens: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    statuses: dict[str, int]


class Reader:
    """Read the books without writing to them."""

    def __init__(self, url: str) -> None:
        """Open the database; refuse one that holds no books or another layout's."""
        self._engine: Engine = open_engine(url, read_only=True)
        try:
            with self._engine.begin() as connection:
                layout = connection.scalar(select(Books.layout))
        except DBAPIError as error:
            self._engine.dispose()
            raise LedgerError(f"cannot read the books: {first_line(error)}", "check auditor.database_url") from None
        if layout != LAYOUT:
            self._engine.dispose()
            raise LedgerError(f"the books have layout {layout}, this version reads {LAYOUT}")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def report(self) -> Report:
        """Return totals, tokens and pairs of one moment."""
        with self._engine.begin() as connection:
            names = {row["mint"]: row for row in connection.execute(select(Token)).mappings()}
            books = connection.execute(select(Books).where(Books.id == 1)).mappings().one()
            totals = connection.execute(select(Total).order_by(Total.token)).mappings().all()
            pairs = connection.execute(_by_pair()).mappings().all()
            by_status = select(Execution.status, func.count()).group_by(Execution.status)
            statuses = {row[0]: row[1] for row in connection.execute(by_status)}
            positions = {row[0]: row[1] for row in connection.execute(select(Position.stream, Position.sequence))}
        return Report(
            books={name: int(value) for name, value in books.items() if name not in ("id", "layout")},
            positions=positions,
            tokens=[_named(row, names) for row in totals],
            pairs=[_named(_pair(row), names) for row in pairs],
            statuses=dict(sorted(statuses.items())),
        )

    def trades(self, *, newest: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield booked executions in stream order, in base units, with `symbol`, `decimals`, `pair` and `pools`."""
        query = (
            select(*Execution.__table__.columns, _OTHER.label("other"), Plan.pools.label("pools"))
            .select_from(Execution)
            .outerjoin(Plan, Plan.id == Execution.plan_id)
            .order_by(Execution.sequence, Execution.id)
        )
        if newest is not None:
            first = select(Execution.sequence).order_by(Execution.sequence.desc()).limit(newest).subquery()
            query = query.where(Execution.sequence >= select(func.min(first.c.sequence)).scalar_subquery())
        with self._engine.begin() as connection:
            names = {row["mint"]: row for row in connection.execute(select(Token)).mappings()}
            for row in connection.execution_options(yield_per=1000).execute(query).mappings():
                yield _named(row, names)


def open_report(url: str) -> Reader:
    """Open the books for reading."""
    return Reader(url)


_ZERO = literal(0, BigInteger)
_HALF = 2**32
_COUNTS: dict[str, ColumnElement[int]] = {
    "executions": func.sum(Execution.executions),
    "filled": func.sum(Execution.filled),
    "wins": func.sum(Execution.wins),
}
# Figures of a pair -> what is summed. SQLite's sums end at 63 bits: the halves of each amount are summed there, and put
# together in Python.
_SUMS: dict[str, Any] = {
    "gross_profit": Execution.gross_profit,
    "base_fees_lamports": Execution.base_fee,
    "priority_fees_lamports": Execution.priority_fee,
    "tips_lamports": Execution.tip,
    "cost": Execution.cost,
    "net_profit": Execution.net_profit,
    "expected_profit": Execution.expected_profit,
    "expected_of_filled": Execution.expected_of_filled,
    "net_lamports": func.coalesce(Execution.net_lamports, _ZERO),
    "net_usd_e6": func.coalesce(Execution.net_usd_e6, _ZERO),
}


def _by_pair() -> Select[Any]:
    columns: list[Any] = [Execution.token, _OTHER.label("other")]
    columns += [count.label(name) for name, count in _COUNTS.items()]
    half = literal(_HALF, BigInteger)
    for name, value in _SUMS.items():
        columns += [func.sum(value // half).label(f"{name}_high"), func.sum(value % half).label(f"{name}_low")]
    return (
        select(*columns)
        .select_from(Execution)
        .outerjoin(Plan, Plan.id == Execution.plan_id)
        .group_by(Execution.token, _OTHER)
        .order_by(Execution.token, _OTHER)
    )


def _pair(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Put the halves of a pair's sums together."""
    found = {name: row[name] for name in ("token", "other")}
    found |= {name: int(row[name]) for name in _COUNTS}
    found |= {name: int(row[f"{name}_high"]) * _HALF + int(row[f"{name}_low"]) for name in _SUMS}
    found["fees_lamports"] = found.pop("base_fees_lamports") + found.pop("priority_fees_lamports")
    return found


def _named(row: Mapping[Any, Any], names: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    """Return a row with the symbols of its tokens."""
    found = {str(key): value for key, value in row.items()}
    own = names.get(found["token"])
    found["symbol"] = own["symbol"] if own else found["token"]
    found["decimals"] = own["decimals"] if own else None
    if "other" in found:
        other = names.get(found["other"] or "")
        found["pair"] = f"{found['symbol']}/{other['symbol'] if other else found['other'] or '?'}"
    return found
