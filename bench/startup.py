"""Command line: how long `pipeline --help` takes, as a new process, against a bare interpreter."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter_ns

from bench.report import Report, row

ROUNDS = 11
GOAL_MS = 300.0


def _timed(command: list[str], expected: str) -> float:
    begun = perf_counter_ns()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken = (perf_counter_ns() - begun) / 1e6
    assert expected in done.stdout, done.stdout
    return taken


def run(rounds: int = ROUNDS) -> Report:
    """Measure, bare interpreter and command in turn."""
    bare: list[float] = []
    ours: list[float] = []
    for _ in range(rounds):
        bare.append(_timed([sys.executable, "-c", "print('ready')"], "ready"))
        ours.append(_timed([sys.executable, "-m", "pipeline", "--help"], "init-streams"))
    middle = median(ours)
    rows = [
        row("pipeline --help, median", "ms", middle, "python -c", median(bare), goal="< 300 ms", met=middle < GOAL_MS),
        row("pipeline --help, slowest", "ms", max(ours), "python -c", max(bare)),
    ]
    return {"bench": "startup", "what": f"A new process each time, {rounds} times", "rows": rows}
