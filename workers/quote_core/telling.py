"""What the quote core tells on the bus for people and other hosts: best quotes, and pools that cannot be quoted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pipeline.bus import Stored
from pipeline.bus.errors import PublishFailed
from pipeline.context import WorkerContext
from pipeline.ids import deterministic_id
from pipeline.messages import Anomaly, Message, Quote, Severity
from workers.quote_core.book import Book, Direction, Offer

# Best quotes are for people and for other hosts: they give way before the publishes of the pipeline do.
MAX_PENDING_QUOTES = 256


class Teller:
    """Publishes what is worth telling, each thing once."""

    def __init__(self, context: WorkerContext) -> None:
        """Begin without having told anything."""
        self.context = context
        self.refused: dict[str, str] = {}
        self._told: dict[Direction, tuple[str, int, int]] = {}

    def best(self, book: Book, directions: Iterable[Direction], amount_in: int) -> None:
        """Publish who is best for an amount, where that is another offer than was told.

        While the server is behind nothing is told: the next change says more.
        """
        bus = self.context.bus
        for token_in, token_out in sorted(directions):
            if bus.pending_publishes >= MAX_PENDING_QUOTES or not bus.connected:
                return
            offer = book.internal(token_in, token_out, amount_in, book.now_ns)
            if offer is None:
                continue
            told = (offer.pool, offer.amount_out, offer.slot)
            if told != self._told.get((token_in, token_out)):
                self._told[(token_in, token_out)] = told
                id_ = deterministic_id("quote", *told, token_in, amount_in, offer.quoted_ns)
                self.send(quote_of(offer, id_=id_, producer=self.context.name, now_ns=self.context.clock()))

    def refuse(self, pool: str, slot: int, reason: str, cause: str) -> None:
        """Report a pool that cannot be quoted, once per reason; the others go on."""
        if self.refused.get(pool) == reason:
            return
        self.refused[pool] = reason
        self.context.log.warning("pool refused", pool=pool, slot=slot, reason=reason)
        self.send(
            Anomaly(
                id=deterministic_id("pool-refused", pool, reason, slot),
                causation_id=cause,
                created_ns=self.context.clock(),
                producer=self.context.name,
                severity=Severity.WARNING,
                rule="pool_refused",
                measured=float(len(self.refused)),
                limit=0.0,
                detail=f"{pool}: {reason}",
            )
        )

    def accept(self, pool: str) -> None:
        """Note that a pool is quoted; say so where it was refused before."""
        if self.refused.pop(pool, None) is not None:
            self.context.log.info("pool quoted again", pool=pool)

    def send(self, message: Message) -> None:
        """Publish without waiting; what cannot be published is logged and left out."""
        try:
            self.context.bus.publish_soon(message).add_done_callback(_seen)
        except PublishFailed as error:
            self.context.log.warning("not published", error=str(error))


def quote_of(offer: Offer, *, id_: str = "", producer: str = "", now_ns: int = 0, route: int = 0) -> Quote:
    """Return an offer as the message that tells it; inside an answer it needs no header of its own."""
    rating = offer.rating
    return Quote(
        id=id_,
        created_ns=now_ns,
        producer=producer,
        pool=offer.pool,
        protocol=offer.protocol,
        provider=offer.provider,
        token_in=offer.token_in,
        token_out=offer.token_out,
        amount_in=offer.amount_in,
        amount_out=offer.amount_out,
        price_impact_bps=offer.price_impact_bps,
        slot=offer.slot,
        quoted_ns=offer.quoted_ns,
        hops=offer.hops,
        route=route or offer.route,
        oracle_amount_out=rating.oracle_amount_out,
        confidence=rating.confidence,
        age_factor=rating.factors.age,
        hops_factor=rating.factors.hops,
        oracle_factor=rating.factors.oracle,
        provider_factor=rating.factors.provider,
        slippage_factor=rating.factors.slippage,
        band=rating.band,
        staleness=rating.staleness,
    )


def _seen(future: asyncio.Future[Stored]) -> None:
    """Look at the outcome of a publish that nothing waits for, so that a lost one is no unhandled error."""
    if not future.cancelled():
        future.exception()
