"""The list of pools over time: from the file at the start, from the chain after, and again every so often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from markets.solana.discovery import NS_PER_S, Chain, Changes, Found, Limits, Progress, changes, find_pools
from markets.solana.pool_cache import CacheRefused, fingerprint, load, save
from markets.tokens import Registry


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

    def recall(self, genesis: str) -> tuple[str, ...]:
        """Take over what the file tells of a chain, however old; return what is to be said about the file.

        An old list is not relied on, but a question without an answer keeps what it tells.
        """
        self.found = None
        try:
            self.found = load(self._path, chain=genesis, asked=self._asked)
        except CacheRefused as refusal:
            return () if refusal.reason == "missing" else (f"{refusal}; looking anew",)
        return ()

    async def begin(self, genesis: str) -> Looked:
        """Return the pools from the file if it is young, whole and of this chain, else from the chain."""
        notes = self.recall(genesis)
        found = self.found
        if found is not None and 0 <= self._clock() - found.found_ns < self._refresh_ns:
            return Looked(found, changes(None, found), from_file=True, notes=notes)
        looked = await self.look(genesis, notes)
        # Nobody follows any pool yet: all of them are new.
        return replace(looked, changes=changes(None, looked.found))

    async def look(self, genesis: str, notes: tuple[str, ...] = (), progress: Progress | None = None) -> Looked:
        """Ask the chain, and write down what it told."""
        now_ns = self._clock()
        before = self.found
        known = before.pools if before is not None else ()
        found = await find_pools(self._chain, self._registry, self._limits, known, now_ns=now_ns, progress=progress)
        self.found = found
        if not found.slot:
            notes += (f"nobody answered: {self._path} stays as it was",)
        else:
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
