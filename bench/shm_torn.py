"""Torn reads: a writer at full speed and several readers, each its own process, with the protocol and without it."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from bench.report import Row, row
from pipeline._core import _shm_hammer, _shm_inspect
from pipeline.shm import QuoteTable, QuoteTableWriter, open_when_there

READERS = 3
UNPROTECTED_SECONDS = 2.0
_spawn = multiprocessing.get_context("spawn")


def _hammer(pipe: Connection, path: Path, seconds: float) -> None:
    writer = QuoteTableWriter(path)
    entry = writer.entry(0, writer.intern("token", "one"), writer.intern("token", "other"))
    pipe.send("ready")
    begun = time.perf_counter()
    count = _shm_hammer(writer, entry, seconds)
    pipe.send(count / (time.perf_counter() - begun))


def _inspect(pipe: Connection, path: Path, seconds: float, protected: bool) -> None:
    table = open_when_there(QuoteTable, path, 5)
    pipe.send("ready")
    pipe.recv()
    pipe.send((*_shm_inspect(table, 0, seconds, protected), table.retries))


def _inspected(path: Path, seconds: float, protected: bool) -> tuple[list[int], float]:
    """Return whole reads, torn reads, reads given up, retries, of all readers, and the writer's writes per second.

    The writer and every reader are processes of their own. They loop in native code without the GIL: the writer writes
    one entry from a Rust loop, a reader reads it by the same function that `QuoteTable.read` calls.
    """
    readers = []
    for _ in range(READERS):
        here, there = _spawn.Pipe()
        process = _spawn.Process(target=_inspect, args=(there, path, seconds, protected), daemon=True)
        process.start()
        readers.append((process, here))
    here, there = _spawn.Pipe()
    other = _spawn.Process(target=_hammer, args=(there, path, seconds + 0.5), daemon=True)
    other.start()
    assert here.recv() == "ready"
    for _, pipe in readers:
        assert pipe.recv() == "ready"
    for _, pipe in readers:
        pipe.send("go")
    counts = [pipe.recv() for _, pipe in readers]
    rate = here.recv()
    for process in (other, *(process for process, _ in readers)):
        process.join()
    return [sum(column) for column in zip(*counts, strict=True)], rate


def torn_reads_rows(folder: Path, goal: int, seconds: float) -> tuple[list[Row], str]:
    """Return the row about torn reads, after as many reads as the goal speaks of, and what is to be said of it."""
    whole = torn = busy = retries = 0
    rates = []
    # As many reads as the goal speaks of, in at most ten turns.
    for turn in range(10):
        more, rate = _inspected(folder / f"torn-{turn}", seconds, True)
        whole, torn, busy, retries = (old + new for old, new in zip((whole, torn, busy, retries), more, strict=True))
        rates.append(rate)
        if whole >= goal:
            break
    (bare_whole, bare_torn, _, _), _ = _inspected(folder / "bare", UNPROTECTED_SECONDS, False)
    assert bare_torn > 0, "reads without the protocol must show torn ones, else the test proves nothing"
    rows = [
        row(
            f"torn reads in {(whole + torn) / 1e6:,.0f} million",
            "torn",
            torn,
            f"the same without the protocol, in {(bare_whole + bare_torn) / 1e6:,.0f} million",
            bare_torn,
            goal="0 in 10^8",
            met=torn == 0 and whole >= goal,
        )
    ]
    return (
        rows,
        f"Torn reads: one writer ({median(rates) / 1e6:.1f} million writes a second) and {READERS} readers, each a "
        f"process with a loop in native code; {retries:,} retries, {busy:,} reads given up.",
    )
