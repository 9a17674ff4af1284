"""The common shape of a benchmark's result, and its place in bench/RESULTS.md.

A benchmark is a module here with `run() -> Report`. It asserts that the work was really done, and times ours and a
named baseline in turn in the same run; the figure that counts is the ratio.
"""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import NotRequired, TypedDict

RESULTS = Path(__file__).parent / "RESULTS.md"
_HEAD = """# Benchmark results

Written by `pipeline bench NAME --record`: the newest run of each benchmark, with its date and machine. A ratio above 1
is in our favour. A goal that was missed says so.
"""


class Row(TypedDict):
    """One comparison."""

    name: str
    unit: str
    ours: float
    baseline: str
    baseline_value: float | None
    ratio: float | None
    """how many times better ours is"""
    goal: str
    met: bool | None
    """None where there is no goal"""


class Report(TypedDict):
    """One run of one benchmark."""

    bench: str
    what: str
    rows: list[Row]
    notes: NotRequired[list[str]]


def row(
    name: str,
    unit: str,
    ours: float,
    baseline: str = "",
    baseline_value: float | None = None,
    *,
    goal: str = "",
    met: bool | None = None,
    more_is_better: bool = False,
) -> Row:
    """Return one row; the ratio follows from the two figures."""
    ratio = None
    if baseline_value is not None and ours and baseline_value:
        ratio = ours / baseline_value if more_is_better else baseline_value / ours
    return Row(
        name=name,
        unit=unit,
        ours=ours,
        baseline=baseline,
        baseline_value=baseline_value,
        ratio=ratio,
        goal=goal,
        met=met,
    )


def machine() -> str:
    """Return the machine in words: processor, cores, memory, system, Python."""
    model = platform.processor() or platform.machine()
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        model = found.group(1).strip() if found else model
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {system}"


def missed(report: Report) -> list[Row]:
    """Return the rows whose goal was not met."""
    return [item for item in report["rows"] if item["met"] is False]


def shown(value: float | None) -> str:
    """Return a figure with three significant digits."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def markdown(report: Report, *, at: datetime | None = None) -> str:
    """Return one report as a section of RESULTS.md."""
    moment = (at or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        f"## {report['bench']}",
        "",
        f"{report['what']}  ",
        f"{moment}; {machine()}",
        "",
        "| what | ours | baseline | | ratio | goal | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for item in report["rows"]:
        met = {True: "yes", False: "**no**", None: ""}[item["met"]]
        cells = (
            *(item["name"], f"{shown(item['ours'])} {item['unit']}", item["baseline"]),
            f"{shown(item['baseline_value'])} {item['unit']}" if item["baseline_value"] is not None else "",
            *(f"{shown(item['ratio'])}x" if item["ratio"] is not None else "", item["goal"], met),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", *report.get("notes", [])]
    return "\n".join(lines).rstrip() + "\n"


def record(report: Report, path: Path = RESULTS) -> None:
    """Put a report in the place of the last one of the same benchmark."""
    text = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    head, *sections = re.split(r"(?m)^(?=## )", text)
    mine = f"## {report['bench']}\n"
    kept = [section.rstrip() + "\n" for section in sections if not section.startswith(mine)]
    kept.append(markdown(report))
    path.write_text("\n".join([head.rstrip() + "\n", *sorted(kept)]), encoding="utf-8")
