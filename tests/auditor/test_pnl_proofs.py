"""What `pipeline pnl` says about results that no chain bears out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.cli import pnl
from pipeline.ledger import Entry, Ledger, PlanEntry, Span, open_report
from workers.auditor.valuation import value_of

from .results import a_plan, a_result


@pytest.mark.parametrize(("proof", "said"), [("lost", True), ("proved", False)])
def test_results_that_were_lost_with_their_chain_are_counted(
    ledger: Ledger, url: str, capsys: pytest.CaptureFixture[str], proof: str, said: bool
) -> None:
    ledger.book_plans([PlanEntry(1, a_plan(1))], Span("t", 0, 1))
    ledger.book([Entry(1, a_result(1))], Span("t", 0, 1), value_of)
    reader = open_report(url)
    try:
        found, trades, names = reader.report(), reader.all_trades(), reader.tokens()
    finally:
        reader.close()
    marked = [replace(trade, row={**trade.row, "proof": proof}) for trade in trades]
    document: dict[str, Any] = pnl.report_json(found, marked, None)
    assert document["proofs"] == {proof: 1}
    pnl._print(document, names)
    text = capsys.readouterr().out
    assert f"{proof} 1" in text
    assert ("1 were not final" in text) is said
