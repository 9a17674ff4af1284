"""Book executions: exactly once, in one transaction with the position in the stream.

Everything that a booking depends on (what is booked already, the running totals, the position) is read inside its
transaction, so two auditors, or an auditor and a rebuild, cannot count anything twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError, DBAPIError, SQLAlchemyError

from pipeline.clock import wall_ns
from pipeline.ledger.engine import LedgerError, NoBooks, first_line, open_engine
from pipeline.ledger.models import LAYOUT, Base, Books, Execution, ExecutionFill, Plan, Position, Token, Total
from pipeline.ledger.rows import Entry, PlanEntry, Valuer, execution_row, fill_rows, plan_row
from pipeline.messages import ExecutionResult, ExecutionStatus

__all__ = ["Booked", "Ledger", "LedgerError", "PositionMoved", "Span"]

EXECUTED = "EXECUTED"
PLANNED = "PLANNED"
_CHUNK = 500


class PositionMoved(Exception):
    """Another auditor, or a rebuild, moved the position of a stream: read on from `stored`."""

    def __init__(self, stream: str, expected: int, stored: int) -> None:
        """Keep both positions."""
        self.stored = stored
        super().__init__(f"{stream} is booked up to {stored}, not {expected}")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a stream: after one sequence, up to and with another, of the stream created at that time."""

    created: str
    after: int
    end: int


@dataclass(slots=True)
class Booked:
    """What one transaction booked."""

    results: list[ExecutionResult] = field(default_factory=list)
    duplicates: int = 0
    totals: dict[str, dict[str, int]] = field(default_factory=dict)
    books: dict[str, int] = field(default_factory=dict)
    position: int = 0


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A booked result, and whether its plan is known."""

    result_id: str
    plan_id: str
    opportunity_id: str
    plan_known: bool


class Ledger:
    """The books in one database. Methods block: call them outside the event loop."""

    def __init__(self, url: str, *, starting_capital_lamports: int) -> None:
        """Open the database and make the tables that are missing."""
        self._engine = open_engine(url)
        try:
            Base.metadata.create_all(self._engine)
            with self._engine.begin() as connection:
                row = connection.execute(select(Books).where(Books.id == 1)).mappings().one_or_none()
                if row is None:
                    connection.execute(insert(Books), [_empty_books(starting_capital_lamports)])
                elif row["layout"] != LAYOUT:
                    raise NoBooks(
                        f"the books have layout {row['layout']}, this version writes {LAYOUT}",
                        "give auditor.database_url another database and run `pipeline pnl --rebuild`",
                    )
                elif row["starting_capital_lamports"] != starting_capital_lamports:
                    connection.execute(update(Books).values(starting_capital_lamports=starting_capital_lamports))
        except DBAPIError as error:
            self._engine.dispose()
            if type(error) is DatabaseError:  # no OperationalError: a file that is no database, or a broken one
                what = f"auditor.database_url holds no books: {first_line(error)}"
                raise NoBooks(what, "name another database") from None
            raise LedgerError(f"cannot open the books: {first_line(error)}", "check auditor.database_url") from None
        except (LedgerError, SQLAlchemyError):
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def name_tokens(self, tokens: Iterable[tuple[str, str, int]]) -> None:
        """Remember (mint, symbol, decimals) for the tables that people read."""
        with self._engine.begin() as connection:
            known = set(connection.scalars(select(Token.mint)))
            for mint, symbol, decimals in tokens:
                if mint in known:
                    connection.execute(update(Token).where(Token.mint == mint).values(symbol=symbol, decimals=decimals))
                else:
                    connection.execute(insert(Token).values(mint=mint, symbol=symbol, decimals=decimals))
                    known.add(mint)

    def position(self, stream: str, created: str) -> int:
        """Return the sequence up to which the stream is booked; 0 for a stream that was created anew."""
        with self._engine.begin() as connection:
            row = connection.execute(select(Position).where(Position.stream == stream)).mappings().one_or_none()
            return int(row["sequence"]) if row is not None and row["created"] == created else 0

    def book(self, entries: Sequence[Entry], span: Span, value: Valuer) -> Booked:
        """Book results in the order given, once each, and move the position of EXECUTED, in one transaction.

        Raises PositionMoved, and books nothing, where the stored position is not the one the span begins at.
        """
        with self._engine.begin() as connection:
            return _book(connection, entries, span, value)

    def book_plans(self, entries: Sequence[PlanEntry], span: Span) -> int:
        """Book plans, once each, and move the position of PLANNED; return how many were new."""
        with self._engine.begin() as connection:
            _move(connection, PLANNED, span)
            rows = {entry.plan.id: plan_row(entry) for entry in entries}
            known = _known(connection, Plan.id, list(rows))
            new = [row for key, row in rows.items() if key not in known]
            if new:
                connection.execute(insert(Plan), new)
            return len(new)

    def clear(self) -> None:
        """Empty the books, positions included, for a rebuild from the streams."""
        with self._engine.begin() as connection:
            capital = connection.scalars(select(Books.starting_capital_lamports).with_for_update()).one()
            for table in (ExecutionFill, Execution, Plan, Total, Position):
                connection.execute(delete(table))
            connection.execute(update(Books).values(**_empty_books(capital)))

    def totals(self) -> Booked:
        """Return the present totals."""
        with self._engine.begin() as connection:
            found = Booked(totals=_totals(connection, None), books=_books(connection, lock=False))
            found.position = connection.scalar(select(Position.sequence).where(Position.stream == EXECUTED)) or 0
            return found

    def older_than(self, sequence: int) -> int:
        """Return how many booked results stand before a sequence of EXECUTED."""
        with self._engine.begin() as connection:
            return connection.scalar(select(func.count()).where(Execution.sequence < sequence)) or 0

    def unchecked(self, *, booked_before_ns: int, limit: int = 1000) -> list[Unchecked]:
        """Return results booked before then of which nobody has yet noted that their plan is known, or is missing."""
        query = (
            select(Execution.id, Execution.plan_id, Execution.opportunity_id, Plan.id.label("known"))
            .outerjoin(Plan, Plan.id == Execution.plan_id)
            .where(~Execution.plan_checked, Execution.booked_ns < booked_before_ns)
            .limit(limit)
        )
        with self._engine.begin() as connection:
            rows = connection.execute(query).all()
        return [Unchecked(row.id, row.plan_id, row.opportunity_id, row.known is not None) for row in rows]

    def mark_checked(self, result_ids: list[str]) -> None:
        """Note that these need not be looked at again."""
        with self._engine.begin() as connection:
            for chunk in _chunks(result_ids):
                connection.execute(update(Execution).where(Execution.id.in_(chunk)).values(plan_checked=True))

    def results_of(self, plan_ids: Iterable[str]) -> dict[str, set[str]]:
        """Return the ids of the results that are booked for these plans."""
        found: dict[str, set[str]] = {}
        with self._engine.begin() as connection:
            for chunk in _chunks(list(plan_ids)):
                query = select(Execution.plan_id, Execution.id).where(Execution.plan_id.in_(chunk))
                for row in connection.execute(query):
                    found.setdefault(row.plan_id, set()).add(row.id)
        return found


def _book(connection: Connection, entries: Sequence[Entry], span: Span, value: Valuer) -> Booked:
    books = _books(connection, lock=True)
    _move(connection, EXECUTED, span)
    known = _known(connection, Execution.id, [entry.result.id for entry in entries])
    totals = _totals(connection, {entry.result.token for entry in entries})
    stored = set(totals)
    booked = Booked()
    rows: list[dict[str, Any]] = []
    fills: list[dict[str, Any]] = []
    now = wall_ns()
    for entry in entries:
        result = entry.result
        if result.id in known:
            booked.duplicates += 1
            continue
        known.add(result.id)
        row = execution_row(entry, value, now)
        _add_to_books(books, row)
        row["equity_lamports"] = books["net_lamports"]
        _add_to_total(totals.setdefault(result.token, dict.fromkeys(_TOTALS, 0)), result, row)
        rows.append(row)
        fills += fill_rows(result)
        booked.results.append(result)
    if rows:
        connection.execute(insert(Execution), rows)
        if fills:
            connection.execute(insert(ExecutionFill), fills)
        connection.execute(update(Books).where(Books.id == 1).values(**books))
        for token in {result.token for result in booked.results}:
            if token in stored:
                connection.execute(update(Total).where(Total.token == token).values(**totals[token]))
            else:
                connection.execute(insert(Total).values(token=token, **totals[token]))
    booked.position = span.end
    booked.totals = totals
    booked.books = books
    return booked


_TOTALS = tuple(column.name for column in Total.__table__.columns if column.name != "token")
_BOOKS = tuple(column.name for column in Books.__table__.columns if column.name not in ("id", "layout"))


def _empty_books(capital: int) -> dict[str, int]:
    return dict.fromkeys(_BOOKS, 0) | {"id": 1, "layout": LAYOUT, "starting_capital_lamports": capital}


def _books(connection: Connection, *, lock: bool) -> dict[str, int]:
    query = select(Books).where(Books.id == 1)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one()
    return {name: row[name] for name in _BOOKS}


def _totals(connection: Connection, tokens: set[str] | None) -> dict[str, dict[str, int]]:
    query = select(Total) if tokens is None else select(Total).where(Total.token.in_(tokens))
    return {row["token"]: {name: row[name] for name in _TOTALS} for row in connection.execute(query).mappings()}


def _add_to_books(books: dict[str, int], row: dict[str, Any]) -> None:
    if row["net_profit"] and (row["net_lamports"] is None or row["net_usd_e6"] is None):
        books["unvalued"] += 1
    books["net_usd_e6"] += row["net_usd_e6"] or 0
    books["net_lamports"] += row["net_lamports"] or 0
    books["peak_lamports"] = max(books["peak_lamports"], books["net_lamports"])
    books["max_drawdown_lamports"] = max(books["max_drawdown_lamports"], books["peak_lamports"] - books["net_lamports"])


def _add_to_total(total: dict[str, int], result: ExecutionResult, row: dict[str, Any]) -> None:
    filled = result.status == ExecutionStatus.FILLED
    total["executions"] += 1
    total["filled"] += filled
    total["wins"] += filled and row["net_profit"] > 0
    total["fees_lamports"] += result.base_fee + result.priority_fee
    total["tips_lamports"] += result.tip
    total["expected_of_filled"] += result.expected_profit if filled else 0
    for name in ("gross_profit", "cost", "net_profit", "expected_profit"):
        total[name] += row[name]
    total["net_lamports"] += row["net_lamports"] or 0
    total["net_usd_e6"] += row["net_usd_e6"] or 0


def _known(connection: Connection, column: Any, ids: list[str]) -> set[str]:
    known: set[str] = set()
    for chunk in _chunks(ids):
        known |= set(connection.scalars(select(column).where(column.in_(chunk))))
    return known


def _move(connection: Connection, stream: str, span: Span) -> None:
    """Move the position from the span's beginning to its end, if that is where it stands."""
    query = select(Position).where(Position.stream == stream).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    stored = row["sequence"] if row is not None and row["created"] == span.created else 0
    if stored != span.after:
        raise PositionMoved(stream, span.after, stored)
    values = {"created": span.created, "sequence": span.end}
    if row is None:
        connection.execute(insert(Position).values(stream=stream, **values))
    else:
        connection.execute(update(Position).where(Position.stream == stream).values(**values))


def _chunks(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
