"""What the parts of the quote core tell each other: values in one process, messages on MARKET_DATA between several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline._core import Grid, Pool, PoolRefused
from pipeline.ids import deterministic_id
from pipeline.messages import Message, OraclePrice, PoolQuotes, Protocol, Quote, QuotedAmount, QuotesSettled

LOCAL = "local"
"""Provider name of quotes that are computed here."""


@dataclass(frozen=True, slots=True)
class PoolGrid:
    """A pool at one state, and what it gives for every amount of the grid in both directions."""

    pool: Pool
    grid: Grid
    observed_ns: int
    """Market time of the state."""
    confirmed_ns: int
    """Market time at which it was last known to be the present one."""
    cause: str
    """Id of the pool state it was computed from."""


@dataclass(frozen=True, slots=True)
class PoolVoid:
    """A pool whose newest state cannot be quoted: what was known of it is void."""

    pool: str
    protocol: Protocol
    slot: int
    observed_ns: int
    reason: str
    cause: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Pools that were seen to be as they were."""

    pools: tuple[str, ...]
    confirmed_ns: int


@dataclass(frozen=True, slots=True)
class Settled:
    """Everything that changed up to a slot has been told: make it visible."""

    slot: int
    market_ns: int
    market: str
    """The market's id; another one than before means that every pool known so far is void."""
    pools: int
    """How many pools were told for it."""
    confirms: bool
    """True when every pool that was not told is known to be as it was."""


Value = PoolGrid | PoolVoid | Confirmed | Settled | OraclePrice | Quote
Emit = Callable[[Value], None]


def to_messages(value: Value, *, producer: str, now_ns: int) -> list[Message]:
    """Return a value as the messages that tell it to another process."""
    match value:
        case PoolGrid():
            return [_pool_quotes(value, producer, now_ns)]
        case PoolVoid():
            return [
                PoolQuotes(
                    id=deterministic_id("pool-void", value.pool, value.slot, value.reason),
                    causation_id=value.cause,
                    created_ns=now_ns,
                    producer=producer,
                    pool=value.pool,
                    protocol=value.protocol,
                    slot=value.slot,
                    observed_ns=value.observed_ns,
                    refusal=value.reason,
                )
            ]
        case Confirmed():
            return [
                PoolQuotes(
                    id=deterministic_id("pool-confirmed", pool, value.confirmed_ns),
                    created_ns=now_ns,
                    producer=producer,
                    pool=pool,
                    confirmed_ns=value.confirmed_ns,
                )
                for pool in value.pools
            ]
        case Settled():
            return [
                QuotesSettled(
                    id=deterministic_id("quotes-settled", value.market, value.slot, value.market_ns),
                    causation_id=value.market,
                    created_ns=now_ns,
                    producer=producer,
                    slot=value.slot,
                    market_ns=value.market_ns,
                    pools=value.pools,
                    confirms=value.confirms,
                )
            ]
        case _:
            return [value]


def _pool_quotes(value: PoolGrid, producer: str, now_ns: int) -> PoolQuotes:
    pool = value.pool
    return PoolQuotes(
        id=deterministic_id("pool-quotes", pool.address, pool.slot, pool.write_version, value.confirmed_ns),
        causation_id=value.cause,
        created_ns=now_ns,
        producer=producer,
        pool=pool.address,
        protocol=Protocol(int(pool.protocol)),
        token_a=pool.token_a,
        token_b=pool.token_b,
        slot=pool.slot,
        write_version=pool.write_version,
        observed_ns=value.observed_ns,
        confirmed_ns=value.confirmed_ns,
        quotes=[
            QuotedAmount(
                a_to_b=a_to_b,
                amount_index=index,
                amount_in=amount_in,
                amount_out=amount_out,
                fee_amount=fee_amount,
                price_impact_bps=impact,
            )
            for a_to_b, index, amount_in, amount_out, fee_amount, impact in value.grid
        ],
        snapshot=pool.snapshot(),
    )


def from_message(message: Message) -> Value | None:
    """Return what a message of another part tells; None where it is none of theirs.

    Raises:
        PoolRefused: if the snapshot in it is not a pool, or not the pool that it is said to be.
    """
    match message:
        case PoolQuotes():
            return _from_pool_quotes(message)
        case QuotesSettled():
            return Settled(
                slot=message.slot,
                market_ns=message.market_ns,
                market=message.causation_id,
                pools=message.pools,
                confirms=message.confirms,
            )
        case OraclePrice() | Quote():
            return message
        case _:
            return None


def _from_pool_quotes(message: PoolQuotes) -> Value:
    if message.refusal:
        return PoolVoid(
            message.pool,
            Protocol(message.protocol),
            message.slot,
            message.observed_ns,
            message.refusal,
            message.causation_id,
        )
    if not message.snapshot:
        return Confirmed((message.pool,), message.confirmed_ns)
    pool = Pool.from_snapshot(message.snapshot)
    if (pool.address, pool.slot, pool.write_version) != (message.pool, message.slot, message.write_version):
        raise PoolRefused(f"the snapshot is of {pool.address} at slot {pool.slot}, not of {message.pool}")
    grid = Grid.of(
        [
            (row.a_to_b, row.amount_index, row.amount_in, row.amount_out, row.fee_amount, row.price_impact_bps)
            for row in message.quotes
        ]
    )
    return PoolGrid(pool, grid, message.observed_ns, message.confirmed_ns, message.causation_id)
