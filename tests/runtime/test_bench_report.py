"""The shape of a benchmark's result, and its place in RESULTS.md."""

from pathlib import Path

import pytest

from bench import report as reporting
from bench.report import Report, markdown, missed, record, row
from pipeline.cli.bench import benches


def result(name: str, ours: float) -> Report:
    return {
        "bench": name,
        "what": "a thing | another",
        "rows": [
            row("fast", "us", ours, "slow way", 10.0, goal="<= 1 us", met=ours <= 1),
            row("throughput", "/s", 1000.0, "other", 250.0, more_is_better=True),
            row("alone", "us", 0.0),
        ],
        "notes": ["Measured twice."],
    }


def test_ratios() -> None:
    rows = result("a", 0.5)["rows"]
    assert [item["ratio"] for item in rows] == [20.0, 4.0, None]
    assert missed(result("a", 0.5)) == []
    assert [item["name"] for item in missed(result("a", 2.0))] == ["fast"]


def test_the_newest_run_of_each_benchmark_stands_once(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    for report in (result("b", 0.5), result("a", 0.5), result("b", 2.0)):
        record(report, path)
    text = path.read_text()
    assert text.count("\n## ") == 2
    assert text.index("## a\n") < text.index("## b\n")
    assert "| fast | 2 us | slow way | 10 us | 5x | <= 1 us | **no** |" in text
    assert "| fast | 0.5 us | slow way | 10 us | 20x | <= 1 us | yes |" in text
    assert text.count("Measured twice.") == 2
    assert "Python 3." in text
    before = text
    record(result("a", 0.5), path)
    assert [line for line in path.read_text().splitlines() if "UTC" not in line] == [
        line for line in before.splitlines() if "UTC" not in line
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0, "0"), (0.123456, "0.123"), (12.0, "12"), (65432.1, "65,432")]
)
def test_figures_have_three_digits(value: float | None, text: str) -> None:
    assert reporting.shown(value) == text


def test_markdown_of_every_row() -> None:
    assert len([line for line in markdown(result("a", 1.0)).splitlines() if line.startswith("|")]) == 5


def test_benchmarks_are_found_with_their_first_line() -> None:
    found = benches()
    assert {"codec", "startup"} <= set(found)
    assert "report" not in found
    assert all(found.values())
