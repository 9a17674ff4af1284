"""Book executions: exactly once, in one transaction with the position in the stream.

Everything that a booking depends on (what is booked already, the running totals, the position) is read inside its
transaction, so two auditors, or an auditor and a rebuild, cannot count anything twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, insert, inspect, select, text, update
from sqlalchemy.exc import DatabaseError, DBAPIError, SQLAlchemyError

from pipeline.clock import wall_ns
from pipeline.ledger.chain import ChainBooks, book_step, forget_bookings, hold
from pipeline.ledger.chain_models import ChainBook
from pipeline.ledger.chain_values import Advanced, Step
from pipeline.ledger.corrections import CORRECTION, Correction
from pipeline.ledger.engine import LedgerError, NoBooks, first_line, open_engine
from pipeline.ledger.models import (
    LAYOUT,
    Base,
    Books,
    Execution,
    ExecutionFill,
    Plan,
    Position,
    Submission,
    Token,
    Total,
)
from pipeline.ledger.rows import (
    Entry,
    PlanEntry,
    SubmissionEntry,
    Valuer,
    execution_row,
    fill_rows,
    plan_row,
    submission_row,
)
from pipeline.ledger.settlement import mark_resulted, settle
from pipeline.ledger.sums import Sums, empty_books, read_books, read_totals
from pipeline.messages import ExecutionResult

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
    created_ns: int
    plan_known: bool


class Ledger(ChainBooks):
    """The books in one database. Methods block: call them outside the event loop."""

    def __init__(self, url: str, *, starting_capital_lamports: int, replace_older: bool = False) -> None:
        """Open the database and make the tables that are missing.

        Books of an older layout are refused; `replace_older` throws them away and begins empty ones.
        """
        self._engine = open_engine(url)
        try:
            self._check_layout(replace_older=replace_older)
            Base.metadata.create_all(self._engine)
            with self._engine.begin() as connection:
                row = connection.execute(select(Books).where(Books.id == 1)).mappings().one_or_none()
                if row is None:
                    connection.execute(insert(Books), [empty_books(starting_capital_lamports)])
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

    def _check_layout(self, *, replace_older: bool) -> None:
        if "books" not in inspect(self._engine).get_table_names():
            return
        with self._engine.begin() as connection:
            layout = connection.scalar(select(Books.layout))
        if layout is None or layout == LAYOUT:
            return
        if layout > LAYOUT or not replace_older:
            fix = "use the version that wrote them" if layout > LAYOUT else "make them anew: `pipeline pnl --rebuild`"
            raise NoBooks(f"the books have layout {layout}, this version writes {LAYOUT}", fix)
        Base.metadata.drop_all(self._engine)

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

    def book(
        self, entries: Sequence[Entry], span: Span, value: Valuer, submissions: Sequence[SubmissionEntry] = ()
    ) -> Booked:
        """Book results in the order given, once each, and move the position of EXECUTED, in one transaction.

        What the final chain has decided already is settled with it.

        Raises PositionMoved, and books nothing, where the stored position is not the one the span begins at.
        """
        with self._engine.begin() as connection:
            booked = _book(connection, entries, span, value)
            _book_submissions(connection, submissions)
            mark_resulted(connection, [entry.result.plan_id for entry in entries])
            _book_corrections(connection, settle(connection, value).corrections, booked)
            return booked

    def advance(self, step: Step, value: Valuer) -> Advanced:
        """Book a stretch of the final chain, settle what it decides, and hold the books against the balances.

        Raises ChainMoved, and books nothing, where the stored position is not the one that the step continues.
        """
        with self._engine.begin() as connection:
            booked = Booked(books=read_books(connection, lock=True))
            settled = book_step(connection, step, value)
            _book_corrections(connection, settled.corrections, booked)
            return Advanced(hold(connection, step), booked if settled.corrections else None)

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
            forget_bookings(connection)
            connection.execute(update(Books).values(**empty_books(capital)))

    def totals(self) -> Booked:
        """Return the present totals."""
        with self._engine.begin() as connection:
            found = Booked(totals=read_totals(connection, None), books=read_books(connection, lock=False))
            found.position = connection.scalar(_executed_position()) or 0
            return found

    def unchecked(self, *, booked_before_ns: int, limit: int = 1000) -> list[Unchecked]:
        """Return results booked before then of which nobody has yet noted that their plan is known, or is missing."""
        query = (
            select(
                Execution.id, Execution.plan_id, Execution.opportunity_id, Execution.created_ns, Plan.id.label("known")
            )
            .outerjoin(Plan, Plan.id == Execution.plan_id)
            .where(~Execution.plan_checked, Execution.booked_ns < booked_before_ns)
            .limit(limit)
        )
        with self._engine.begin() as connection:
            rows = connection.execute(query).all()
        return [
            Unchecked(row.id, row.plan_id, row.opportunity_id, row.created_ns, row.known is not None) for row in rows
        ]

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
                query = select(Execution.plan_id, Execution.id).where(
                    Execution.plan_id.in_(chunk), Execution.corrects.is_(None)
                )
                for row in connection.execute(query):
                    found.setdefault(row.plan_id, set()).add(row.id)
        return found


def older_than(url: str, sequence: int, created_ns: int = 0) -> int:
    """Return how many booked results the stream EXECUTED cannot hold any more, in books of any layout.

    They stand before its first sequence, or were booked before it was created: then they are of another one.
    """
    engine = open_engine(url)
    try:
        if "executions" not in inspect(engine).get_table_names():
            return 0
        columns = {column["name"] for column in inspect(engine).get_columns("executions")}
        gone = "sequence < :sequence" + (" OR booked_ns < :created_ns" if "booked_ns" in columns else "")
        query = text(f"SELECT count(*) FROM executions WHERE ({gone}) AND status <> :correction")
        given = {"sequence": sequence, "correction": CORRECTION}
        given |= {"created_ns": created_ns} if "booked_ns" in columns else {}
        with engine.begin() as connection:
            return int(connection.scalar(query, given) or 0)
    finally:
        engine.dispose()


def _book(connection: Connection, entries: Sequence[Entry], span: Span, value: Valuer) -> Booked:
    sums = Sums(connection, {entry.result.token for entry in entries})
    _move(connection, EXECUTED, span)
    known = _known(connection, Execution.id, [entry.result.id for entry in entries])
    booked = Booked(totals=sums.totals, books=sums.books, position=span.end)
    now = wall_ns()
    for entry in entries:
        result = entry.result
        if result.id in known:
            booked.duplicates += 1
            continue
        known.add(result.id)
        sums.add(execution_row(entry, value, now), fill_rows(result))
        booked.results.append(result)
    sums.store()
    return booked


def _book_submissions(connection: Connection, submissions: Sequence[SubmissionEntry]) -> None:
    rows = {entry.submission.signature: submission_row(entry) for entry in submissions}
    known = _known(connection, Submission.signature, list(rows))
    new = [row for signature, row in rows.items() if signature not in known]
    if new:
        plans = {row["plan_id"] for row in new}
        resulted = _known(connection, Execution.plan_id, list(plans))
        connection.execute(insert(Submission), [row | {"resulted": row["plan_id"] in resulted} for row in new])


def _book_corrections(connection: Connection, corrections: Sequence[Correction], booked: Booked) -> None:
    """Book corrections behind whatever was booked before them."""
    if not corrections:
        return
    sums = Sums(connection, {one.row["token"] for one in corrections})
    for one in corrections:
        sums.add(one.row, one.fills)
    sums.store()
    booked.totals |= sums.totals
    booked.books = sums.books
    booked.position = booked.position or connection.scalar(_executed_position()) or 0


def _executed_position() -> Any:
    return select(Position.sequence).where(Position.stream == EXECUTED)


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
    if stream == EXECUTED and row is not None and row["created"] != span.created:
        # Sequences of another creation: no result of the new stream belongs to a chain before this one.
        connection.execute(update(ChainBook).values(after_sequence=0))
    values = {"created": span.created, "sequence": span.end}
    if row is None:
        connection.execute(insert(Position).values(stream=stream, **values))
    else:
        connection.execute(update(Position).where(Position.stream == stream).values(**values))


def _chunks(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
