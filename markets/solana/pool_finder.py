"""The list of pools over time: from the file at the start, from the chain after, and again every so often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from markets.solana.discovery import Chain, Changes, Found, Limits, changes, find_pools
from markets.solana.pool_cache import CacheRefused, fingerprint, load, save
from markets.tokens import Registry

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look gave, and what is to be said about it."""

    found: Found
    changes: Changes
    from_file: bool
    notes: tuple[str, ...]
    """Why the file was not used or could not be written."""


class PoolFinder:
    """Keeps the list of pools of one chain. Holds no connection and starts nothing by itself."""

    def __init__(
        self,
        chain: Chain,
        registry: Registry,
        limits: Limits,
        path: Path,
        *,
        refresh_s: float,
        clock: Callable[[], int],
    ) -> None:
        """Begin with nothing; `clock` is wall-clock time in ns."""
        self._chain, self._registry, self._limits, self._path = chain, registry, limits, path
        self._refresh_ns = int(refresh_s * NS_PER_S)
        self._clock = clock
        self._asked = fingerprint(registry, limits)
        self.found: Found | None = None

    async def begin(self, genesis: str) -> Looked:
        """Return the pools from the file if it is young, whole and of this chain, else from the chain."""
        try:
            found = load(self._path, chain=genesis, asked=self._asked)
        except CacheRefused as refusal:
            notes = () if refusal.reason == "missing" else (f"{refusal}; looking anew",)
            return await self.look(genesis, notes)
        age_ns = self._clock() - found.found_ns
        if not 0 <= age_ns < self._refresh_ns:
            # Old or from the future: not to be relied on, but it tells what a question without an answer keeps.
            self.found = found
            return await self.look(genesis)
        before, self.found = self.found, found
        return Looked(found, changes(before, found), from_file=True, notes=())

    async def look(self, genesis: str, notes: tuple[str, ...] = ()) -> Looked:
        """Ask the chain, and write down what it told."""
        now_ns = self._clock()
        before = self.found
        known = before.pools if before is not None else ()
        found = await find_pools(
            self._chain, self._registry, self._limits, known, unix_time=now_ns // NS_PER_S, now_ns=now_ns
        )
        self.found = found
        try:
            save(self._path, found, chain=genesis, asked=self._asked)
        except OSError as error:
            notes += (f"{self._path} cannot be written: {error.strerror}",)
        return Looked(found, changes(before, found), from_file=False, notes=notes)

    @property
    def due_in_s(self) -> float:
        """Return in how many seconds the next look is due; 0 where it is overdue or nothing is known."""
        if self.found is None:
            return 0.0
        # A look with failed questions is repeated sooner.
        wait_ns = self._refresh_ns // 4 if self.found.failed else self._refresh_ns
        return max(0.0, (self.found.found_ns + wait_ns - self._clock()) / NS_PER_S)
