"""What the commands about the books share: opening them, exact amounts, times, files to write."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pipeline.errors import UsageFailure
from pipeline.ledger.queries import Reader, open_report

SOL_DECIMALS = 9
USD_DECIMALS = 6


def exact(amount: int | None, decimals: int) -> str:
    """Return an integer amount as a decimal number with all its places; empty for None."""
    if amount is None:
        return ""
    sign, digits = ("-" if amount < 0 else ""), str(abs(amount)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}" if decimals else f"{sign}{digits}"


def timestamp(ns: int) -> str:
    """Return a wall-clock time with its nanoseconds; empty where it cannot be a time."""
    seconds, rest = divmod(ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    except (OverflowError, ValueError, OSError):
        return ""


@contextmanager
def opened_books(url: str) -> Iterator[Reader]:
    """Open the books for reading."""
    reader = open_report(url)
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def sink_to(out: Path | None) -> Iterator[TextIO]:
    """Open a file to write to, or standard output."""
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise UsageFailure(f"cannot write {out}: {error.strerror}", "name a file in a directory that exists") from None


def write_rows(sink: TextIO, columns: Iterable[str], rows: Iterable[Mapping[str, object]], *, as_csv: bool) -> int:
    """Write rows as CSV with a heading, or as one JSON object a line; return how many there were."""
    writer = csv.DictWriter(sink, list(columns), lineterminator="\n")
    if as_csv:
        writer.writeheader()
    count = 0
    for row in rows:
        if as_csv:
            writer.writerow(row)
        else:
            sink.write(json.dumps(row, ensure_ascii=False) + "\n")
        count += 1
    return count
