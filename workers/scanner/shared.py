"""The scanner's side of shared memory: which pools changed, and their newest snapshots."""

from __future__ import annotations

from pathlib import Path

from pipeline.shm import POOLS, QUOTES_INTERNAL, PoolBlob, PoolBlobTable, QuoteEntry, QuoteTable


class SharedQuotes:
    """An open quote table with its pool snapshots, and this reader's place in the change ring."""

    def __init__(self, directory: Path) -> None:
        """Open the files.

        Raises:
            SharedMemoryMissing: if their writer has not started yet.
        """
        self.table = QuoteTable(directory / QUOTES_INTERNAL)
        self.blobs = PoolBlobTable(directory / POOLS)
        self._cursor = self.table.cursor()
        self._epoch = -1
        self._entries_of: dict[tuple[int, int], list[int]] = {}
        self._listed = 0
        self.laps = 0
        self.behind = 0
        """Most changes that this reader was behind since `take_behind`; the ring holds `table.ring`."""

    @property
    def replaced(self) -> bool:
        """Tell whether the files were replaced by others: open them anew."""
        return self.table.replaced or self.blobs.replaced

    @property
    def alive(self) -> bool:
        """Tell whether their writer shows signs of life."""
        return self.table.writer_alive

    @property
    def settled(self) -> bool:
        """Tell whether something was committed, and nothing was written since."""
        return self.table.slot > 0 and self.table.snapshot().whole

    def changed(self) -> list[int] | None:
        """Return the ids of the pools that changed since the last call; None where everything has to be read again.

        Everything: at the first call, after a lap of the ring, and when another process has become the writer.
        """
        epoch = self.table.epoch
        self.behind = max(self.behind, self._cursor.behind)
        pools = self._cursor.poll_pools()
        if pools is None:
            self.laps += 1
        if pools is None or epoch != self._epoch:
            self._epoch = epoch
            self._entries_of.clear()
            self._listed = 0
            return None
        return sorted(pools)

    def take_behind(self) -> int:
        """Return the most changes that this reader was behind since the last call."""
        behind, self.behind = self.behind, 0
        return behind

    def all_pools(self) -> list[int]:
        """Return the ids of all pools that the directory names."""
        ids = (self.table.id("pool", name) for name in self.table.names("pool"))
        return sorted(id_ for id_ in ids if id_ is not None)

    def snapshot(self, pool_id: int) -> PoolBlob | None:
        """Return a pool's newest snapshot; None where there is none."""
        return self.blobs.read(pool_id)

    def quotes(self, pool_id: int, token_in: str) -> list[QuoteEntry]:
        """Return the quotes of a pool in one direction, of every amount that could be read whole."""
        for index in range(self._listed, len(self.table)):
            entry = self.table.read(index)
            if entry is None:
                break
            self._entries_of.setdefault((entry.pool, entry.token_in), []).append(index)
            self._listed = index + 1
        token = self.table.id("token", token_in)
        found = (self.table.read(index) for index in self._entries_of.get((pool_id, token or 0), ()))
        return [entry for entry in found if entry is not None]
