"""The auditor's books: tables, booking and queries over SQLAlchemy, on SQLite or PostgreSQL."""

from pipeline.ledger.book import Booked, Ledger, PositionMoved, Span
from pipeline.ledger.engine import LedgerError
from pipeline.ledger.queries import Report, open_report
from pipeline.ledger.rows import Entry, PlanEntry, Value, unbookable

__all__ = [
    "Booked",
    "Entry",
    "Ledger",
    "LedgerError",
    "PlanEntry",
    "PositionMoved",
    "Report",
    "Span",
    "Value",
    "open_report",
    "unbookable",
]
