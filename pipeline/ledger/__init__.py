"""The auditor's books: tables, booking and queries over SQLAlchemy, on SQLite or PostgreSQL."""

from pipeline.ledger.book import Booked, Ledger, PositionMoved, Span, older_than
from pipeline.ledger.chain_values import (
    AccountState,
    Advanced,
    ChainMoved,
    ChainPosition,
    Held,
    Movement,
    PlanLink,
    Step,
    WalkedTransaction,
)
from pipeline.ledger.engine import LedgerError
from pipeline.ledger.queries import Report, open_report
from pipeline.ledger.rows import Entry, PlanEntry, SubmissionEntry, Value, unbookable

__all__ = [
    "AccountState",
    "Advanced",
    "Booked",
    "ChainMoved",
    "ChainPosition",
    "Entry",
    "Held",
    "Ledger",
    "LedgerError",
    "Movement",
    "PlanEntry",
    "PlanLink",
    "PositionMoved",
    "Report",
    "Span",
    "Step",
    "SubmissionEntry",
    "Value",
    "WalkedTransaction",
    "older_than",
    "open_report",
    "unbookable",
]
