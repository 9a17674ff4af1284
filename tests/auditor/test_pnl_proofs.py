"""What `pipeline pnl` says: about results that no chain bears out, and of samples that are too small."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.cli import pnl
from pipeline.ledger import Entry, Ledger, PlanEntry, Span, open_report
from pipeline.messages import Mode
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


@pytest.mark.parametrize(("count", "said"), [(29, "too few"), (30, "-")])
def test_a_ratio_of_too_few_trades_is_not_shown(
    ledger: Ledger, url: str, capsys: pytest.CaptureFixture[str], count: int, said: str
) -> None:
    """Thirty profits that are all the same: enough of them, and nothing varies."""
    ledger.book_plans([PlanEntry(number, a_plan(number)) for number in range(1, count + 1)], Span("t", 0, count))
    results = [a_result(number, gross=9_000, finished_ns=1_790_000_000_000_000_000) for number in range(1, count + 1)]
    ledger.book([Entry(number, one) for number, one in enumerate(results, 1)], Span("t", 0, count), value_of)
    reader = open_report(url)
    try:
        found, trades, names = reader.report(), reader.all_trades(), reader.tokens()
    finally:
        reader.close()
    for by in ("pair", "venue", "hour"):
        document = pnl.report_json(found, trades, by)
        pnl._print_by(by, document["by"], names)
        text = capsys.readouterr().out
        risk = text.split("Risk, in the token")[1].splitlines()[2]
        head = text.split("Risk, in the token")[1].splitlines()[1]
        assert f" {count} " in risk
        # An hour is no series of hours; a pair's or a venue's one hour is too short a one.
        assert risk.count("too few") == (2 if said == "too few" else 0) + (0 if by == "hour" else 2)
        assert ("annualised" in head) is (by != "hour")
        assert "slippage" in text.split("by cause")[1]
    pnl._print(document, names)
    whole = capsys.readouterr().out.split(f"Sharpe, Sortino per trade ({count})")[1].splitlines()[0]
    assert f"{said}, {said}" in whole


def test_play_money_among_the_sums_is_told(ledger: Ledger, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number, mode in ((1, Mode.LOCALNET), (2, Mode.LOCALNET), (3, Mode.LIVE)):
        result = a_result(number, mode=mode, signature=f"s{number}")
        ledger.book([Entry(number, result)], Span("t", number - 1, number), value_of)
        reader = open_report(url)
        try:
            document: dict[str, Any] = pnl.report_json(reader.report(), reader.all_trades(), None)
            pnl._print(document, reader.tokens())
        finally:
            reader.close()
        assert ("several modes" in capsys.readouterr().out) is (mode == Mode.LIVE)
    assert document["modes"] == {"LIVE": 1, "LOCALNET": 2}
