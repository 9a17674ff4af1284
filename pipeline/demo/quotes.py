"""What the quote core came to in a run: pools, quotes by band, and what the external providers were worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.messages import ConfidenceBand
from pipeline.shm import QUOTES_EXTERNAL, QUOTES_INTERNAL, QuoteEntry, QuoteTable, SharedMemoryError


@dataclass(frozen=True, slots=True)
class ProviderShare:
    """One external provider in a run."""

    name: str
    asked: int
    good: int
    refused: int
    breaker: str


@dataclass(slots=True)
class QuoteSummary:
    """The quote core at the end of a run."""

    pools: int = 0
    bands: dict[str, int] = field(default_factory=dict)
    """Quotes computed here, by what their confidence allows."""
    void: int = 0
    external: int = 0
    """Quotes of external providers that count now."""
    providers: list[ProviderShare] = field(default_factory=list)


def summarise(directory: Path, providers: Iterable[ProviderShare]) -> QuoteSummary:
    """Read the tables in a directory; what cannot be read is left out."""
    found = QuoteSummary(providers=list(providers))
    internal = _entries(directory / QUOTES_INTERNAL)
    found.pools = len({entry.pool for entry in internal if not entry.void})
    found.void = sum(entry.void for entry in internal)
    found.bands = dict(Counter(ConfidenceBand(entry.band).name for entry in internal if not entry.void).most_common())
    found.external = sum(not entry.void for entry in _entries(directory / QUOTES_EXTERNAL))
    return found


def _entries(path: Path) -> list[QuoteEntry]:
    try:
        table = QuoteTable(path)
    except SharedMemoryError:
        return []
    return [entry for entry in map(table.read, range(len(table))) if entry is not None]
