"""The figures of the books as messages."""

from __future__ import annotations

from pipeline.ids import deterministic_id
from pipeline.ledger import Booked
from pipeline.messages import PnlSnapshot


def snapshots(booked: Booked, *, cause: str, created_ns: int, producer: str) -> list[PnlSnapshot]:
    """Return one snapshot for each token whose totals are given."""
    books = booked.books
    return [
        PnlSnapshot(
            id=deterministic_id("pnl", token, booked.position, total["executions"]),
            correlation_id=cause,
            causation_id=cause,
            created_ns=created_ns,
            producer=producer,
            token=token,
            executions=total["executions"],
            filled=total["filled"],
            wins=total["wins"],
            gross_profit=total["gross_profit"],
            fees=total["fees_lamports"],
            tips=total["tips_lamports"],
            cost=total["cost"],
            net_profit=total["net_profit"],
            expected_profit=total["expected_profit"],
            net_profit_lamports=books["net_lamports"],
            net_profit_usd_e6=books["net_usd_e6"],
            max_drawdown_lamports=books["max_drawdown_lamports"],
            drawdown_lamports=books["peak_lamports"] - books["net_lamports"],
            starting_capital_lamports=books["starting_capital_lamports"],
            stream_sequence=booked.position,
        )
        for token, total in sorted(booked.totals.items())
    ]
