"""Pyth's price accounts on Solana, read byte by byte.

A price update lies in an account of the receiver program, layout `PriceUpdateV2` of the program's published interface:
8 bytes discriminator, 32 write authority, 1 or 2 verification level, then the message (feed id, price, confidence,
exponent, publish time, previous publish time, averages), then the slot it was posted in; all little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

RECEIVER_PROGRAM = "rec5EKMGg6MxZYaMdyBfgwp4d5rB9T1VQH5pJv5LtFJ"
"""Owns every price update account."""
PUSH_PROGRAM = "pythWSnswVUd12oZpeFP8e9CVaEqJg25g1Vtc2biRsT"
"""The accounts that Pyth itself keeps up to date are derived from it: seeds are the shard (u16) and the feed id."""

Reason = Literal[
    "wrong_owner",
    "legacy_account",
    "wrong_discriminator",
    "short_data",
    "bad_verification",
    "partial_verification",
    "wrong_feed",
    "bad_price",
    "bad_answer",
    "stale",
    "from_the_future",
    "wide_interval",
    "older",
]

DISCRIMINATOR = bytes.fromhex("22f123639d7ef4cd")  # first 8 bytes of SHA-256("account:PriceUpdateV2")
_LEGACY_MAGIC = bytes.fromhex("d4c3b2a1")
_LEGACY_STATUS = 224  # offset of the aggregate's status; 1 is "trading"
_AUTHORITY_END = 40
_PARTIAL, _FULL = 0, 1
_MESSAGE = struct.Struct("<32sqQiqqqQ")
_SLOT = struct.Struct("<Q")
# Outside of these a price has more digits than any market, and would only make large powers of ten.
MIN_EXPONENT, MAX_EXPONENT = -18, 9


class OracleRefused(ValueError):
    """A price that must not be used; `reason` does not change between versions, `detail` is for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """Keep both."""
        self.reason: Reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


@dataclass(frozen=True, slots=True)
class PriceUpdate:
    """One price as an oracle published it: `price` +- `confidence`, both in units of 10^exponent dollars."""

    feed_id: str
    """64 hex digits, lower case."""
    price: int
    confidence: int
    exponent: int
    published_s: int
    """Unix time."""
    slot: int = 0
    """Slot it was posted in; 0 where it did not come from the chain."""


def feed_name(feed_id: str) -> str:
    """Return a feed id as 64 lower-case hex digits.

    Raises:
        OracleRefused: if it is none.
    """
    name = feed_id.lower().removeprefix("0x")
    if len(name) != 64 or any(digit not in "0123456789abcdef" for digit in name):
        raise OracleRefused("wrong_feed", f"{feed_id[:80]!r} is no feed id: 64 hex digits")
    return name


def checked(update: PriceUpdate) -> PriceUpdate:
    """Return the update if its figures can be a price.

    Raises:
        OracleRefused: `bad_price`.
    """
    if not (
        0 < update.price < 2**63
        and 0 <= update.confidence < 2**64
        and MIN_EXPONENT <= update.exponent <= MAX_EXPONENT
        and 0 < update.published_s < 2**33
        and 0 <= update.slot < 2**64
    ):
        raise OracleRefused(
            "bad_price",
            f"{update.price} +- {update.confidence} e{update.exponent} published at {update.published_s}",
        )
    return update


def parse_price_update(
    data: bytes, owner: str, *, feed_id: str, programs: Collection[str] = (RECEIVER_PROGRAM,)
) -> PriceUpdate:
    """Return the price in a `PriceUpdateV2` account, fully verified and of the feed asked for.

    Age and interval are not looked at here: they are checked when the price is used (`markets.oracle.fair`).

    Raises:
        OracleRefused: with the reason.
    """
    if owner not in programs:
        raise OracleRefused("wrong_owner", f"the account belongs to {owner}, not to Pyth's receiver")
    if data[:4] == _LEGACY_MAGIC:
        status = data[_LEGACY_STATUS] if len(data) > _LEGACY_STATUS else 0
        raise OracleRefused("legacy_account", f"a price account of the retired layout, status {status}")
    if data[:8] != DISCRIMINATOR:
        raise OracleRefused("wrong_discriminator", f"{data[:8].hex()} is not PriceUpdateV2")
    level = data[_AUTHORITY_END : _AUTHORITY_END + 2]
    if len(level) < 2:
        raise OracleRefused("short_data", f"{len(data)} bytes")
    if level[0] == _PARTIAL:
        raise OracleRefused("partial_verification", f"only {level[1]} signatures were verified")
    if level[0] != _FULL:
        raise OracleRefused("bad_verification", f"verification level {level[0]}")
    start = _AUTHORITY_END + 1
    if len(data) < start + _MESSAGE.size + _SLOT.size:
        raise OracleRefused("short_data", f"{len(data)} bytes")
    feed, price, confidence, exponent, published_s, _previous, _average, _deviation = _MESSAGE.unpack_from(data, start)
    (slot,) = _SLOT.unpack_from(data, start + _MESSAGE.size)
    if feed.hex() != feed_name(feed_id):
        raise OracleRefused("wrong_feed", f"the account holds feed {feed.hex()}")
    return checked(PriceUpdate(feed.hex(), price, confidence, exponent, published_s, slot))
