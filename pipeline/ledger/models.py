"""Tables of the auditor's books.

Amounts are integers in base units, at most 2**63 - 1: the range of the signed profits of an ExecutionResult. What does
not fit is refused before it reaches a table. Sums over many of them have no limit. Times are wall-clock ns since the
Unix epoch.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Boolean, Dialect, ForeignKey, Index, Integer, Numeric, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

# Written into `books.layout`; a database of another layout is refused, never guessed at.
LAYOUT = 2

AMOUNT_MAX = 2**63 - 1


class Whole(TypeDecorator[int]):
    """An integer of any size: exact decimals where the database has them, else text."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        return dialect.type_descriptor(Numeric(78, 0) if dialect.name == "postgresql" else String(80))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Decimal | str | None:
        """Turn an integer into what the column holds."""
        if value is None:
            return None
        return Decimal(value) if dialect.name == "postgresql" else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """Turn what the column holds into an integer."""
        return None if value is None else int(value)


class Base(DeclarativeBase):
    """Base of every table."""


class Proof(StrEnum):
    """Whether the final chain bears an execution out."""

    NONE = "none"
    """It signed nothing, or on no chain."""
    PENDING = "pending"
    """Its transaction may still become final, or fail to."""
    PROVED = "proved"
    CORRECTED = "corrected"
    """The final chain says otherwise; a correction stands in the books."""
    LOST = "lost"
    """Its chain is gone: an offline chain that was begun anew."""


class Books(Base):
    """One row: the running totals over all tokens, in the order of the EXECUTED stream."""

    __tablename__ = "books"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    layout: Mapped[int] = mapped_column(Integer)
    starting_capital_lamports: Mapped[int] = mapped_column(BigInteger)
    # Net profit of everything booked that could be valued, each at its own fill's price.
    net_lamports: Mapped[int] = mapped_column(Whole)
    net_usd_e6: Mapped[int] = mapped_column(Whole)
    peak_lamports: Mapped[int] = mapped_column(Whole)
    max_drawdown_lamports: Mapped[int] = mapped_column(Whole)
    # Executions with a profit or loss that had no price: in no figure of lamports or USD.
    unvalued: Mapped[int] = mapped_column(BigInteger)


class Position(Base):
    """How far a stream is booked. A stream that was created anew starts again at 0."""

    __tablename__ = "positions"

    stream: Mapped[str] = mapped_column(String(32), primary_key=True)
    created: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int] = mapped_column(BigInteger)


class Token(Base):
    """Symbol and decimals of a token, for tables that people read."""

    __tablename__ = "tokens"

    mint: Mapped[str] = mapped_column(String(64), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(32))
    decimals: Mapped[int] = mapped_column(Integer)


class Plan(Base):
    """A plan as the planner published it."""

    __tablename__ = "plans"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    opportunity_id: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int] = mapped_column(BigInteger)
    token: Mapped[str] = mapped_column(String(64))
    other_token: Mapped[str] = mapped_column(String(64))
    pools: Mapped[str] = mapped_column(Text)
    # JSON: one [pool, protocol, token_in, token_out] for each leg.
    legs: Mapped[str] = mapped_column(Text)
    amount_in: Mapped[int] = mapped_column(BigInteger)
    min_amount_out: Mapped[int] = mapped_column(BigInteger)
    expected_amount_out: Mapped[int] = mapped_column(BigInteger)
    expected_profit: Mapped[int] = mapped_column(BigInteger)
    base_fee: Mapped[int] = mapped_column(BigInteger)
    priority_fee: Mapped[int] = mapped_column(BigInteger)
    tip: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[int] = mapped_column(BigInteger)
    slot: Mapped[int] = mapped_column(BigInteger)
    created_ns: Mapped[int] = mapped_column(BigInteger)


class Execution(Base):
    """One booked ExecutionResult, or a correction of one: then its amounts are differences, and may be negative."""

    __tablename__ = "executions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plan_id: Mapped[str] = mapped_column(String(64), index=True)
    opportunity_id: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int] = mapped_column(BigInteger, index=True)
    status: Mapped[str] = mapped_column(String(24))
    # What it adds to the counts: a correction adds no execution, and may take a fill or a win back.
    executions: Mapped[int] = mapped_column(Integer)
    filled: Mapped[int] = mapped_column(Integer)
    wins: Mapped[int] = mapped_column(Integer)
    # Id of the execution that a correction is about; NULL for an execution.
    corrects: Mapped[str | None] = mapped_column(String(64), index=True)
    signature: Mapped[str] = mapped_column(String(128), index=True)
    wallet: Mapped[str] = mapped_column(String(64))
    bundle: Mapped[str] = mapped_column(String(128))
    last_valid_block_height: Mapped[int] = mapped_column(BigInteger)
    simulated_amount_out: Mapped[int] = mapped_column(BigInteger)
    compute_units: Mapped[int] = mapped_column(BigInteger)
    # What the final chain says of it: see `Proof`.
    proof: Mapped[str] = mapped_column(String(16))
    mode: Mapped[str] = mapped_column(String(16))
    token: Mapped[str] = mapped_column(String(64))
    # The other token of the cycle, from its fills; NULL where nothing was filled (then the plan knows).
    other_token: Mapped[str | None] = mapped_column(String(64))
    amount_in: Mapped[int] = mapped_column(BigInteger)
    amount_out: Mapped[int] = mapped_column(BigInteger)
    gross_profit: Mapped[int] = mapped_column(BigInteger)
    base_fee: Mapped[int] = mapped_column(BigInteger)
    priority_fee: Mapped[int] = mapped_column(BigInteger)
    tip: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[int] = mapped_column(BigInteger)
    net_profit: Mapped[int] = mapped_column(BigInteger)
    expected_profit: Mapped[int] = mapped_column(BigInteger)
    # Expected profit, as far as it was filled.
    expected_of_filled: Mapped[int] = mapped_column(BigInteger)
    sol_price_usd_e6: Mapped[int] = mapped_column(BigInteger)
    # NULL where the price was unknown, or made it more than the column holds.
    net_lamports: Mapped[int | None] = mapped_column(BigInteger)
    net_usd_e6: Mapped[int | None] = mapped_column(BigInteger)
    # Books.net_lamports after this booking.
    equity_lamports: Mapped[int] = mapped_column(Whole)
    slot: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(BigInteger)
    created_ns: Mapped[int] = mapped_column(BigInteger)
    finished_ns: Mapped[int] = mapped_column(BigInteger)
    booked_ns: Mapped[int] = mapped_column(BigInteger, index=True)
    # False until its plan was found, or its absence reported.
    plan_checked: Mapped[bool] = mapped_column(Boolean)
    detail: Mapped[str] = mapped_column(Text)


class ExecutionFill(Base):
    """One filled leg of an execution."""

    __tablename__ = "fills"

    execution_id: Mapped[str] = mapped_column(ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    pool: Mapped[str] = mapped_column(String(64))
    protocol: Mapped[str] = mapped_column(String(24))
    token_in: Mapped[str] = mapped_column(String(64))
    token_out: Mapped[str] = mapped_column(String(64))
    amount_in: Mapped[int] = mapped_column(BigInteger)
    amount_out: Mapped[int] = mapped_column(BigInteger)
    expected_amount_out: Mapped[int] = mapped_column(BigInteger)
    slot: Mapped[int] = mapped_column(BigInteger)


class Total(Base):
    """Running totals of one token, in its base units unless the column says otherwise."""

    __tablename__ = "totals"

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    executions: Mapped[int] = mapped_column(BigInteger)
    filled: Mapped[int] = mapped_column(BigInteger)
    wins: Mapped[int] = mapped_column(BigInteger)
    gross_profit: Mapped[int] = mapped_column(Whole)
    fees_lamports: Mapped[int] = mapped_column(Whole)
    tips_lamports: Mapped[int] = mapped_column(Whole)
    cost: Mapped[int] = mapped_column(Whole)
    net_profit: Mapped[int] = mapped_column(Whole)
    expected_profit: Mapped[int] = mapped_column(Whole)
    # Expected net profit of the filled ones alone: what the realised profit is compared with.
    expected_of_filled: Mapped[int] = mapped_column(Whole)
    net_lamports: Mapped[int] = mapped_column(Whole)
    net_usd_e6: Mapped[int] = mapped_column(Whole)


class Submission(Base):
    """A transaction that was handed to the network, and the plan it belongs to."""

    __tablename__ = "submissions"

    signature: Mapped[str] = mapped_column(String(128), primary_key=True)
    plan_id: Mapped[str] = mapped_column(String(64), index=True)
    opportunity_id: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int] = mapped_column(BigInteger)
    wallet: Mapped[str] = mapped_column(String(64))
    token: Mapped[str] = mapped_column(String(64))
    mode: Mapped[str] = mapped_column(String(16))
    last_valid_block_height: Mapped[int] = mapped_column(BigInteger)
    slot: Mapped[int] = mapped_column(BigInteger)
    # False until its plan's result is booked.
    resulted: Mapped[bool] = mapped_column(Boolean)


_unchecked = ~Execution.plan_checked
Index("executions_unchecked", Execution.booked_ns, sqlite_where=_unchecked, postgresql_where=_unchecked)
_pending = Execution.proof == Proof.PENDING.value
Index("executions_pending", Execution.sequence, sqlite_where=_pending, postgresql_where=_pending)
_unresulted = ~Submission.resulted
Index("submissions_unresulted", Submission.sequence, sqlite_where=_unresulted, postgresql_where=_unresulted)
