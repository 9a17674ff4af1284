"""The shared-memory files of the quote core, and how a pool is written to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markets.tokens import Registry
from pipeline._core import Pool, PoolQuote, QuoteError
from pipeline.shm import POOLS, QUOTE_VOID, QUOTES_EXTERNAL, QUOTES_INTERNAL, PoolBlobWriter, QuoteTableWriter

LOCAL = "local"
"""Provider name of quotes that are computed here."""


@dataclass(frozen=True, slots=True)
class QuotedAmount:
    """One quote of a pool: a direction, an amount of the grid, and what comes out, if the pool can give it."""

    a_to_b: bool
    index: int
    amount_in: int
    quote: PoolQuote | None


def quote_grid(pool: Pool, amounts: Sequence[int]) -> list[QuotedAmount]:
    """Return a pool's quotes for every amount, in both directions."""
    return [
        QuotedAmount(a_to_b, index, amount, _quote(pool, a_to_b, amount))
        for a_to_b in (True, False)
        for index, amount in enumerate(amounts)
    ]


def _quote(pool: Pool, a_to_b: bool, amount: int) -> PoolQuote | None:
    try:
        return pool.quote_in(a_to_b, amount)
    except QuoteError:
        return None


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
        self._amounts = amounts
        self.internal = QuoteTableWriter(directory / QUOTES_INTERNAL, capacity, ring, replace=True)
        self.external = QuoteTableWriter(directory / QUOTES_EXTERNAL, capacity, ring, replace=True)
        self.blobs = PoolBlobWriter(directory / POOLS, replace=True)
        self.blobs.clear()
        self._entries: dict[tuple[str, bool, int], int] = {}
        self._pools: dict[str, int] = {}
        self._provider = self.internal.intern("provider", LOCAL)

    def write(self, pool: Pool, observed_ns: int) -> list[QuotedAmount]:
        """Write a pool's snapshot and its quotes; they are seen with the next commit.

        Raises:
            SharedMemoryFull: if the table has no room for another pool.
        """
        pool_id = self._pools[pool.address] = self.internal.intern("pool", pool.address)
        self.blobs.write(pool_id, pool.snapshot(), pool.slot, pool.write_version, observed_ns)
        quotes = quote_grid(pool, self._amounts)
        for quoted in quotes:
            index = self._entry(pool, pool_id, quoted)
            quote = quoted.quote
            self.internal.write(
                index,
                quoted.amount_in,
                quote.amount_out if quote is not None else 0,
                pool.slot,
                observed_ns,
                price_impact_bps=quote.price_impact_bps if quote is not None else 0.0,
                confidence=1.0 if quote is not None else 0.0,
                staleness=0 if quote is not None else QUOTE_VOID,
                write_version=pool.write_version,
                fee_amount=quote.fee_amount if quote is not None else 0,
            )
        return quotes

    def forget(self, address: str, slot: int, observed_ns: int) -> None:
        """Void what is known of a pool: its newest state cannot be read. One never written takes no room here."""
        pool_id = self._pools.get(address)
        if pool_id is None:
            return
        self.blobs.remove(pool_id)
        for (pool, _a_to_b, amount), index in self._entries.items():
            if pool == address:
                self.internal.write(index, self._amounts[amount], 0, slot, observed_ns, staleness=QUOTE_VOID)

    def forget_all(self, slot: int, observed_ns: int) -> None:
        """Void every pool: another market has begun."""
        for address in self._pools:
            self.forget(address, slot, observed_ns)

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

    def _entry(self, pool: Pool, pool_id: int, quoted: QuotedAmount) -> int:
        key = (pool.address, quoted.a_to_b, quoted.index)
        index = self._entries.get(key)
        if index is None:
            token_in, token_out = (pool.token_a, pool.token_b) if quoted.a_to_b else (pool.token_b, pool.token_a)
            table = self.internal
            index = self._entries[key] = table.entry(
                pool_id,
                table.intern("token", token_in),
                table.intern("token", token_out),
                pair=table.intern("pair", self._registry.pair_name(token_in, token_out)),
                provider=self._provider,
                protocol=int(pool.protocol),
                amount_index=quoted.index,
            )
        return index
