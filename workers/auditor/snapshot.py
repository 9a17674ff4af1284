"""The figures of the books as messages."""

from __future__ import annotations

from pipeline.ids import deterministic_id
from pipeline.ledger import Booked, Held
from pipeline.ledger.models import AMOUNT_MAX
from pipeline.messages import PnlSnapshot, Reconciliation


def snapshots(booked: Booked, *, cause: str, created_ns: int, producer: str) -> list[PnlSnapshot]:
    """Return one snapshot for each token whose totals are given."""
    books = booked.books
    return [
        PnlSnapshot(
            # By all its figures: a correction changes them where nothing new was executed.
            id=deterministic_id("pnl", token, booked.position, *total.values(), *books.values()),
            correlation_id=cause,
            causation_id=cause,
            created_ns=created_ns,
            producer=producer,
            token=token,
            executions=total["executions"],
            filled=total["filled"],
            wins=total["wins"],
            gross_profit=_long(total["gross_profit"]),
            fees=_long(total["fees_lamports"]),
            tips=_long(total["tips_lamports"]),
            cost=_long(total["cost"]),
            net_profit=_long(total["net_profit"]),
            expected_profit=_long(total["expected_profit"]),
            net_profit_lamports=_long(books["net_lamports"]),
            net_profit_usd_e6=_long(books["net_usd_e6"]),
            max_drawdown_lamports=_long(books["max_drawdown_lamports"]),
            drawdown_lamports=_long(books["peak_lamports"] - books["net_lamports"]),
            starting_capital_lamports=books["starting_capital_lamports"],
            stream_sequence=booked.position,
        )
        for token, total in sorted(booked.totals.items())
    ]


def reconciliation(held: Held, *, created_ns: int, producer: str) -> Reconciliation:
    """Return what the books held against the chain came to, for one token."""
    return Reconciliation(
        id=deterministic_id("reconciliation", held.genesis, held.token, held.slot, created_ns),
        correlation_id="",
        causation_id=held.last_signature,
        created_ns=created_ns,
        producer=producer,
        token=held.token,
        slot=held.slot,
        opening=max(0, _long(held.opening)),
        balance=max(0, _long(held.balance)),
        traded=_long(held.traded),
        moved=_long(held.moved),
        upkeep=_long(held.upkeep),
        difference=_long(held.difference),
        transactions=held.transactions,
        pending=held.pending,
    )


def _long(total: int) -> int:
    """Return a sum as a message can hold it: one that is past 63 bits stays at their end."""
    return max(-AMOUNT_MAX, min(total, AMOUNT_MAX))
