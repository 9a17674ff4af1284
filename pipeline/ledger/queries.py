"""Read the books: totals, per token, per pair, and every trade."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Select, case, func, select
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
            pairs=[_named(row, names) for row in pairs],
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


def _by_pair() -> Select[Any]:
    filled = Execution.status == "FILLED"
    count = func.count()
    columns: list[Any] = [
        Execution.token,
        _OTHER.label("other"),
        count.label("executions"),
        func.sum(case((filled, 1), else_=0)).label("filled"),
        func.sum(case((filled & (Execution.net_profit > 0), 1), else_=0)).label("wins"),
        func.sum(Execution.gross_profit).label("gross_profit"),
        func.sum(Execution.base_fee + Execution.priority_fee).label("fees_lamports"),
        func.sum(Execution.tip).label("tips_lamports"),
        func.sum(Execution.cost).label("cost"),
        func.sum(Execution.net_profit).label("net_profit"),
        func.sum(Execution.expected_profit).label("expected_profit"),
        func.sum(case((filled, Execution.expected_profit), else_=0)).label("expected_of_filled"),
        func.coalesce(func.sum(Execution.net_lamports), 0).label("net_lamports"),
        func.coalesce(func.sum(Execution.net_usd_e6), 0).label("net_usd_e6"),
    ]
    return (
        select(*columns)
        .select_from(Execution)
        .outerjoin(Plan, Plan.id == Execution.plan_id)
        .group_by(Execution.token, _OTHER)
        .order_by(Execution.token, _OTHER)
    )


def _named(row: Mapping[Any, Any], names: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    """Return a row with the symbols of its tokens; sums that a database answers as decimals become integers again."""
    found = {str(key): _whole(value) for key, value in row.items()}
    own = names.get(found["token"])
    found["symbol"] = own["symbol"] if own else found["token"]
    found["decimals"] = own["decimals"] if own else None
    if "other" in found:
        other = names.get(found["other"] or "")
        found["pair"] = f"{found['symbol']}/{other['symbol'] if other else found['other'] or '?'}"
    return found


def _whole(value: Any) -> Any:
    return value if value is None or isinstance(value, str | bool | int) else int(value)
