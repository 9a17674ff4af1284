"""The page and the program say the same."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.cli.pnl import COLUMNS
from workers.auditor import findings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "accounting.md").read_text()


def test_every_column_is_documented_in_order() -> None:
    table = PAGE.split("| column | what stands in it |")[1].split("\n\n")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)) == COLUMNS
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(COLUMNS)


def test_every_anomaly_is_documented() -> None:
    rules = {value for name, value in vars(findings).items() if name.isupper() and isinstance(value, str)}
    table = PAGE.split("| anomaly | when |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == rules
