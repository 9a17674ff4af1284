"""The benchmark runs, asserts its own outcome and reports every goal of the design page."""

from __future__ import annotations

import pytest

from bench import shm


@pytest.mark.slow
@pytest.mark.integration
def test_a_short_run_reports_every_goal() -> None:
    report = shm.run(rounds=1, wake_ups=10, torn_reads=100_000, torn_s=0.5)
    with_goal = {row["name"].split(" in ")[0] for row in report["rows"] if row["goal"]}
    assert with_goal == {
        "write",
        "read",
        "nothing changed",
        "snapshot of 2,000",
        "permit word",
        "commit -> other process awake, p50",
        "torn reads",
    }
    torn = next(row for row in report["rows"] if row["name"].startswith("torn reads"))
    assert torn["ours"] == 0
    assert torn["baseline_value"]
