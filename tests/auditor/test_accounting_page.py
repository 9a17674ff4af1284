"""The page and the program say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.cli.pnl import COLUMNS
from pipeline.cli.tax import TAX_COLUMNS
from pipeline.ledger.figures import HOURS_A_YEAR, MIN_HOURS, MIN_TRADES
from pipeline.ledger.trades import CAUSES
from workers.auditor import findings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "accounting.md").read_text()


@pytest.mark.parametrize(
    ("head", "documented"),
    [("| column | what stands in it |", COLUMNS), ("| tax column | what stands in it |", TAX_COLUMNS),
     ("| cause | meaning |", CAUSES)],
)  # fmt: skip
def test_every_name_is_documented_in_order(head: str, documented: dict[str, str]) -> None:
    table = PAGE.split(head)[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE) == list(documented.items())


def test_every_anomaly_is_documented() -> None:
    rules = {value for name, value in vars(findings).items() if name.isupper() and isinstance(value, str)}
    table = PAGE.split("| anomaly | when |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == rules


def test_the_samples_are_documented() -> None:
    words = re.sub(r"\s+", " ", PAGE)
    assert f"Per trade: from {MIN_TRADES} trades on" in words
    assert f"from {MIN_HOURS} hours on, times the square root of {HOURS_A_YEAR:,}" in words
