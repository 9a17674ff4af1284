"""Quotes from shared memory: the pools' own snapshots, asked exactly for the amount that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline._core import Pool, PoolRefused, QuoteError
from pipeline.messages import Leg, Opportunity, RefusalReason
from pipeline.shm import POOLS, QUOTES_INTERNAL, PoolBlobTable, QuoteTable, SharedMemoryError
from workers.planner.cycle import LegQuote, NoQuote
from workers.planner.decide import Moment
from workers.planner.open_plans import Pending, Swap

_MISSING = NoQuote(RefusalReason.QUOTE_MISSING, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class _Known:
    """A pool as it was read last; its tokens stand here because a native pool writes them out anew each time."""

    version: tuple[int, int]
    pool: Pool
    tokens: tuple[str, str]
    observed_ns: int


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A pool after pending swaps: the state they began with, their generation, and how many were applied."""

    base: Pool
    generation: int
    count: int
    pool: Pool


class SharedQuotes:
    """The newest pool states of this host, as the quote core wrote them.

    Files that are not there yet, or were replaced, are opened when the next opportunity is looked at; until then
    nothing has a quote.
    """

    def __init__(self, directory: Path) -> None:
        """Open nothing yet."""
        self._directory = directory
        self._table: QuoteTable | None = None
        self._blobs: PoolBlobTable | None = None
        self._alive = False
        self._ids: dict[str, int] = {}
        self._pools: dict[int, _Known] = {}
        self._ahead: dict[str, _Ahead] = {}
        self.trouble = ""

    def moment(self, opportunity: Opportunity) -> Moment:
        """Look at the table anew for this opportunity; return slot and time, its own where those are ahead."""
        if self._table is None or self._table.replaced:
            self._open()
        table = self._table
        self._alive = table is not None and table.writer_alive
        if table is None or not self._alive:
            return Moment(opportunity.slot, opportunity.found_ns)
        return Moment(max(table.slot, opportunity.slot), max(table.market_ns, opportunity.found_ns))

    def quote(self, leg: Leg, amount_in: int, pending: Pending | None) -> LegQuote | NoQuote:
        """Quote one leg at the newest state of its pool, as it is and after the pending swaps: the worse of both.

        Which of the plans of a slot lands first, and whether the others land at all, is not known.
        """
        known = self._known(leg.pool)
        if known is None:
            return _MISSING
        tokens = (leg.token_in, leg.token_out)
        if tokens == known.tokens:
            a_to_b = True
        elif tokens[::-1] == known.tokens:
            a_to_b = False
        else:
            return _MISSING
        pools = [known.pool] if pending is None else [known.pool, self._after(leg.pool, known, pending)]
        try:
            quote = min((pool.quote_in(a_to_b, amount_in) for pool in pools), key=lambda one: one.amount_out)
        except QuoteError:
            # More than the pool can give, or nothing at all.
            return NoQuote(RefusalReason.AMOUNT_OUT_OF_RANGE, float(amount_in), 0.0)
        return LegQuote(quote.amount_out, quote.price_impact_bps, known.version[0], known.observed_ns)

    def _after(self, address: str, known: _Known, pending: Pending) -> Pool:
        """Return the pool as pending swaps will leave it."""
        found = self._ahead.get(address)
        start, pool = 0, known.pool
        if found is not None and found.base is known.pool and found.generation == pending.generation:
            start, pool = found.count, found.pool
        if start < len(pending.swaps):
            pool = after(pool, known.tokens[0], pending.swaps[start:])
            self._ahead[address] = _Ahead(known.pool, pending.generation, len(pending.swaps), pool)
        return pool

    def _known(self, address: str) -> _Known | None:
        """Return a pool's newest state, read again only where its version moved."""
        if not self._alive or self._table is None or self._blobs is None:
            return None
        pool_id = self._ids.get(address)
        if pool_id is None:
            pool_id = self._table.id("pool", address)
            if pool_id is None:
                return None
            self._ids[address] = pool_id
        version = self._blobs.version(pool_id)
        if version is None:
            return None
        known = self._pools.get(pool_id)
        if known is not None and known.version == version:
            return known
        blob = self._blobs.read(pool_id)
        if blob is None:
            return None
        try:
            pool = Pool.from_snapshot(blob.data)
        except PoolRefused:
            return None
        if pool.address != address:
            return None
        version = (blob.slot, blob.write_version)
        known = self._pools[pool_id] = _Known(version, pool, (pool.token_a, pool.token_b), blob.observed_ns)
        return known

    def _open(self) -> None:
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


def after(pool: Pool, token_a: str, pending: Sequence[Swap]) -> Pool:
    """Return the pool as pending swaps will leave it; one that it cannot give will revert, and changes nothing."""
    for swap in pending:
        try:
            pool, _ = pool.swap(swap.token_in == token_a, swap.amount_in)
        except QuoteError:
            continue
    return pool
