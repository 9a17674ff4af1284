"""The kill-switch benchmark does its work and asserts it; its figures mean something on a quiet machine only."""

from __future__ import annotations

import pytest

from bench.kill_switch import run


@pytest.mark.integration
@pytest.mark.slow
def test_it_measures_every_way_under_every_load() -> None:
    report = run(trials=1)
    names = " ".join(row["name"] for row in report["rows"])
    for load in ("bursts", "blocked"):
        for way in ("manager's host", "another host"):
            assert f"{load}: gate, {way}, closed p99" in names
    # Restarted workers, reopened gates and missing effects are asserted by the run itself.
    assert "none was allowed anything" in " ".join(report["notes"])
