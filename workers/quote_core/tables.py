"""The shared-memory files of the quote core, and how pools and external offers are written to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markets.tokens import Registry
from pipeline.config import Config
from pipeline.errors import BadData, Refused
from pipeline.messages import Staleness
from pipeline.shm import (
    POOLS,
    QUOTE_VOID,
    QUOTES_EXTERNAL,
    QUOTES_INTERNAL,
    PoolBlobWriter,
    QuoteTable,
    QuoteTableWriter,
    SharedMemoryError,
    SharedMemoryOwned,
)
from workers.quote_core.book import Offer
from workers.quote_core.parts import LOCAL, PoolGrid
from workers.quote_core.rating import Rating


@dataclass(slots=True)
class _Written:
    """Where a pool stands in the internal table."""

    pool_id: int
    entries: list[int]
    """One per row of its grid."""
    amounts: list[int]


class Tables:
    """Both quote tables and the pool snapshots, written by this process alone."""

    def __init__(
        self, directory: Path, registry: Registry, amounts: Sequence[int], *, capacity: int, ring: int
    ) -> None:
        """Open or create the files; one of ours with another layout is replaced, old snapshots are removed.

        Raises:
            SharedMemoryError: if a file is not ours, is written by another process, or there is no room for it.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._registry = registry
        self._amounts = {amount: index for index, amount in enumerate(amounts)}
        self._directory = directory
        self.internal = QuoteTableWriter(directory / QUOTES_INTERNAL, capacity, ring, replace=True)
        self.external = QuoteTableWriter(directory / QUOTES_EXTERNAL, capacity, ring, replace=True)
        self.blobs = PoolBlobWriter(directory / POOLS, replace=True)
        self.blobs.clear()
        # Nobody would ever age what an earlier writer left. No commit: readers are woken when there is something new.
        _void_all(self.internal, directory / QUOTES_INTERNAL)
        self.forget_external()
        self._pools: dict[str, _Written] = {}
        self._provider = self.internal.intern("provider", LOCAL)

    def write(self, value: PoolGrid, confirmed_ns: int, ratings: Sequence[Rating], routes: tuple[int, int]) -> None:
        """Write a pool's snapshot and its quotes; they are seen with the next commit.

        `routes` are the ids of the swap from token a to token b and back.

        Raises:
            SharedMemoryFull: if the table has no room for another pool.
        """
        pool = value.pool
        written = self._pools.get(pool.address)
        if written is None or len(written.entries) != len(value.grid):
            written = self._pools[pool.address] = self._enter(value)
        slot, write_version = pool.slot, pool.write_version
        self.blobs.write(written.pool_id, pool.snapshot(), slot, write_version, value.observed_ns)
        write = self.internal.write
        for entry, row, rating in zip(written.entries, value.grid, ratings, strict=True):
            a_to_b, _index, amount_in, amount_out, fee_amount, impact = row
            write(
                entry,
                amount_in,
                amount_out,
                slot,
                confirmed_ns,
                price_impact_bps=impact,
                confidence=rating.confidence if amount_out else 0.0,
                staleness=int(rating.staleness) if amount_out else QUOTE_VOID,
                write_version=write_version,
                fee_amount=fee_amount,
                oracle_amount_out=rating.oracle_amount_out,
                route=routes[0 if a_to_b else 1],
                factors=rating.factors,
            )

    def refresh(self, value: PoolGrid, confirmed_ns: int, ratings: Sequence[Rating]) -> None:
        """Write what time has done to a pool's quotes. Readers are told only where a band has changed."""
        written = self._pools.get(value.pool.address)
        if written is None:
            return
        refresh = self.internal.refresh
        for entry, rating in zip(written.entries, ratings, strict=True):
            worth = rating.oracle_amount_out
            refresh(entry, confirmed_ns, rating.confidence, int(rating.staleness), rating.factors, worth)

    def write_external(self, offer: Offer) -> None:
        """Write an external provider's offer; it is seen with the next `commit_external`.

        Raises:
            SharedMemoryFull: if the table has no room for another direction.
        """
        rating = offer.rating
        self.external.write(
            self._external_entry(offer),
            offer.amount_in,
            offer.amount_out,
            offer.slot,
            offer.quoted_ns,
            price_impact_bps=offer.price_impact_bps,
            confidence=rating.confidence,
            staleness=int(rating.staleness),
            oracle_amount_out=rating.oracle_amount_out,
            route=offer.route,
            hops=offer.hops,
            factors=rating.factors,
        )

    def refresh_external(self, offer: Offer) -> None:
        """Write what time has done to an external offer; the place that several amounts share is left alone."""
        rating = offer.rating
        if offer.amount_in not in self._amounts:
            return
        self.external.refresh(
            self._external_entry(offer),
            offer.quoted_ns,
            rating.confidence,
            int(rating.staleness),
            rating.factors,
            rating.oracle_amount_out,
        )

    def void_external(self, offer: Offer) -> None:
        """Void an external offer that no longer counts; it is seen with the next `commit_external`."""
        entry = self._external_entry(offer)
        self.external.write(entry, offer.amount_in, 0, offer.slot, offer.quoted_ns, staleness=QUOTE_VOID)

    def forget_external(self) -> None:
        """Void every external offer: whoever knew them does no more."""
        _void_all(self.external, self._directory / QUOTES_EXTERNAL)

    def commit_external(self, slot: int, market_ns: int) -> None:
        """Make the external offers visible at once. The internal table's readers are not woken."""
        self.external.commit(slot, market_ns)

    def forget(self, address: str, slot: int, observed_ns: int) -> None:
        """Void what is known of a pool: its newest state cannot be read. One never written takes no room here."""
        written = self._pools.get(address)
        if written is None:
            return
        self.blobs.remove(written.pool_id)
        for entry, amount in zip(written.entries, written.amounts, strict=True):
            self.internal.write(entry, amount, 0, slot, observed_ns, staleness=QUOTE_VOID)

    def forget_all(self, slot: int, observed_ns: int) -> None:
        """Void every pool: another market has begun."""
        for address in self._pools:
            self.forget(address, slot, observed_ns)
        self.blobs.clear()

    def commit(self, slot: int, market_ns: int) -> None:
        """Make everything that was written visible at once and wake the readers."""
        self.external.commit(slot, market_ns)
        self.internal.commit(slot, market_ns)

    def heartbeat(self) -> None:
        """Tell the readers that this process lives."""
        self.internal.heartbeat()
        self.external.heartbeat()
        self.blobs.heartbeat()

    def close(self) -> None:
        """Leave the files for the next writer."""
        self.internal.close()
        self.external.close()
        self.blobs.close()

    def _enter(self, value: PoolGrid) -> _Written:
        pool, table = value.pool, self.internal
        pool_id = table.intern("pool", pool.address)
        token_a, token_b = table.intern("token", pool.token_a), table.intern("token", pool.token_b)
        pair = table.intern("pair", self._registry.pair_name(pool.token_a, pool.token_b))
        entries = [
            table.entry(
                pool_id,
                token_a if a_to_b else token_b,
                token_b if a_to_b else token_a,
                pair=pair,
                provider=self._provider,
                protocol=int(pool.protocol),
                amount_index=index,
            )
            for a_to_b, index, *_ in value.grid
        ]
        return _Written(pool_id, entries, [row[2] for row in value.grid])

    def _external_entry(self, offer: Offer) -> int:
        """Return the entry of a provider's offers for a direction; amounts beside the grid share its last place."""
        table = self.external
        return table.entry(
            0,
            table.intern("token", offer.token_in),
            table.intern("token", offer.token_out),
            pair=table.intern("pair", self._registry.pair_name(offer.token_in, offer.token_out)),
            provider=table.intern("provider", offer.provider),
            protocol=int(offer.protocol),
            amount_index=self._amounts.get(offer.amount_in, len(self._amounts)),
        )


def _void_all(table: QuoteTableWriter, path: Path) -> None:
    reader = QuoteTable(path)
    for index in range(len(reader)):
        entry = reader.read(index)
        if entry is not None and not entry.void:
            table.write(index, entry.amount_in, 0, entry.slot, entry.quoted_ns, staleness=QUOTE_VOID)


def staleness_name(staleness: int) -> str:
    """Return an entry's staleness in words."""
    return "void" if staleness == QUOTE_VOID else Staleness(staleness).name.lower().replace("_", " ")


def open_tables(config: Config, registry: Registry) -> Tables:
    """Open the shared-memory files.

    Raises:
        Failure: if another process writes them, or they cannot be made.
    """
    settings = config.quote_core
    try:
        return Tables(config.shm_directory, registry, settings.amounts, capacity=settings.capacity, ring=settings.ring)
    except SharedMemoryOwned as error:
        raise Refused(str(error), "stop the other quote core, or give this one its own shm.namespace") from error
    except (SharedMemoryError, OSError) as error:
        raise BadData(f"shared memory cannot be written: {error}", "see shm.directory and its free space") from error
