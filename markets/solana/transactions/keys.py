"""Addresses as solders takes them, made once each."""

from __future__ import annotations

from functools import lru_cache

from solders.pubkey import Pubkey

from markets.solana.venues.shape import BadAccount


@lru_cache(maxsize=65_536)
def pubkey(address: str) -> Pubkey:
    """Return an address as a public key.

    Raises:
        BadAccount: `bad_address` where the text is none.
    """
    try:
        return Pubkey.from_string(address)
    except ValueError:
        raise BadAccount("bad_address", f"{address!r} is not 32 bytes in base58") from None
