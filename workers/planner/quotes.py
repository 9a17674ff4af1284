"""Quotes from shared memory: the pools' own snapshots, asked exactly for the amount that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline._core import Pool, PoolRefused, QuoteError
from pipeline.messages import Leg, Opportunity, RefusalReason
from pipeline.shm import POOLS, QUOTES_INTERNAL, PoolBlobTable, QuoteTable, SharedMemoryError
from workers.planner.cycle import LegQuote, NoQuote
from workers.planner.decide import Moment
from workers.planner.open_plans import Pending, Swap

_MISSING = NoQuote(RefusalReason.QUOTE_MISSING, 0.0, 1.0)


class SharedQuotes:
    """The newest pool states of this host, as the quote core wrote them.

    Files that are not there yet, or were replaced, are opened when they are asked for; until then nothing has a quote.
    """

    def __init__(self, directory: Path) -> None:
        """Open nothing yet."""
        self._directory = directory
        self._table: QuoteTable | None = None
        self._blobs: PoolBlobTable | None = None
        self._ids: dict[str, int] = {}
        # By pool id: the version read last, the pool, and the market time of its state.
        self._pools: dict[int, tuple[tuple[int, int], Pool, int]] = {}
        # By pool: the state begun with, the generation of swaps and how many were applied, the pool after them.
        self._ahead: dict[str, tuple[Pool, int, int, Pool]] = {}
        self.trouble = ""

    def moment(self, opportunity: Opportunity) -> Moment:
        """Return the market's slot and time: shared memory's, or the opportunity's own where that is ahead."""
        table = self._open()
        if table is None:
            return Moment(opportunity.slot, opportunity.found_ns)
        return Moment(max(table.slot, opportunity.slot), max(table.market_ns, opportunity.found_ns))

    def quote(self, leg: Leg, amount_in: int, pending: Pending | None) -> LegQuote | NoQuote:
        """Quote one leg at the newest state of its pool, after the pending swaps."""
        found = self._pool(leg.pool)
        if found is None:
            return _MISSING
        pool, observed_ns = found
        if leg.token_in == pool.token_a and leg.token_out == pool.token_b:
            a_to_b = True
        elif leg.token_in == pool.token_b and leg.token_out == pool.token_a:
            a_to_b = False
        else:
            return _MISSING
        if pending is not None:
            pool = self._after(pool, pending)
        try:
            quote = pool.quote_in(a_to_b, amount_in)
        except QuoteError:
            # More than the pool can give, or nothing at all.
            return NoQuote(RefusalReason.AMOUNT_OUT_OF_RANGE, float(amount_in), 0.0)
        return LegQuote(quote.amount_out, quote.price_impact_bps, pool.slot, observed_ns)

    def _after(self, pool: Pool, pending: Pending) -> Pool:
        """Return the pool as pending swaps will leave it."""
        known = self._ahead.get(pool.address)
        start, ahead = 0, pool
        if known is not None and known[0] is pool and known[1] == pending.generation:
            start, ahead = known[2], known[3]
        if start < len(pending.swaps):
            ahead = after(ahead, pending.swaps[start:])
            self._ahead[pool.address] = (pool, pending.generation, len(pending.swaps), ahead)
        return ahead

    def _pool(self, address: str) -> tuple[Pool, int] | None:
        table = self._open()
        if table is None or self._blobs is None:
            return None
        pool_id = self._ids.get(address)
        if pool_id is None:
            pool_id = table.id("pool", address)
            if pool_id is None:
                return None
            self._ids[address] = pool_id
        version = self._blobs.version(pool_id)
        if version is None:
            return None
        known = self._pools.get(pool_id)
        if known is not None and known[0] == version:
            return known[1], known[2]
        blob = self._blobs.read(pool_id)
        if blob is None:
            return None
        try:
            pool = Pool.from_snapshot(blob.data)
        except PoolRefused:
            return None
        if pool.address != address:
            return None
        self._pools[pool_id] = ((blob.slot, blob.write_version), pool, blob.observed_ns)
        return pool, blob.observed_ns

    def _open(self) -> QuoteTable | None:
        """Return the table of a quote core that lives, or None."""
        table = self._table
        if table is None or table.replaced:
            table = self._reopen()
        return table if table is not None and table.writer_alive else None

    def _reopen(self) -> QuoteTable | None:
        self._ids.clear()
        self._pools.clear()
        self._ahead.clear()
        try:
            self._blobs = PoolBlobTable(self._directory / POOLS)
            self._table = QuoteTable(self._directory / QUOTES_INTERNAL)
            self.trouble = ""
        except SharedMemoryError as error:
            self._table = self._blobs = None
            self.trouble = str(error)
        return self._table


def after(pool: Pool, pending: Sequence[Swap]) -> Pool:
    """Return the pool as pending swaps will leave it; one that it cannot give will revert, and changes nothing."""
    for swap in pending:
        try:
            pool, _ = pool.swap(swap.token_in == pool.token_a, swap.amount_in)
        except QuoteError:
            continue
    return pool
