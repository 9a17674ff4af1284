"""Raydium CLMM: concentrated liquidity in arrays of 60 ticks, with a bitmap of the arrays that exist.

Layouts: raydium-io/raydium-clmm, programs/amm/src/states.
"""

from __future__ import annotations

import struct

from markets.solana.venues.bits import neighbours
from markets.solana.venues.shape import (
    MEMO_PROGRAM,
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
    Accounts,
    Instruction,
    Layout,
    Meta,
    Needed,
    Refresh,
    Swap,
    address_at,
    data_of,
    derived,
    discriminator,
    key,
    number_at,
    sides,
)
from pipeline.messages import Protocol

PROTOCOL = Protocol.RAYDIUM_CLMM
PROGRAM = "CAMMCzo5YL8w4VFF8KVHrK22GGUsp5VTaW7grrKgrWqK"
PROGRAMS = (PROGRAM,)
REFRESH = Refresh.CONCENTRATED
ENFORCES_MINIMUM = True
NATIVE_SOL = False

TICKS_PER_ARRAY = 60
ARRAYS_PER_SWAP = 3
"""Arrays given to one swap. The program takes more; a transaction has no room for many."""

_CONFIG, _OBSERVATION = 9, 201
_SPACING, _LIQUIDITY, _TICK, _STATUS, _BITMAP, _OPEN_TIME = 235, 237, 269, 389, 904, 1080
_NO_SWAP = 1 << 4
_EXTENSION = discriminator("TickArrayBitmapExtension", "account")
_EXTENSION_SIZE = 8 + 32 + 2 * 14 * 64
_SWAP_V2 = discriminator("swap_v2")
_LAYOUT = Layout(
    "CLMM pool",
    discriminator("PoolState", "account"),
    1544,
    mint_offsets=(73, 105),
    vault_offsets=(137, 169),
    sorted_mints=True,
)
discovery_filters, mints, vaults = _LAYOUT.filters, _LAYOUT.mints, _LAYOUT.vaults


def unusable(data: bytes, unix_time: int, slot: int = 0) -> str | None:
    """Return `swap_disabled` or `not_open`, or None."""
    _LAYOUT.check(data)
    if data[_STATUS] & _NO_SWAP:
        return "swap_disabled"
    return "not_open" if unix_time <= number_at(data, _OPEN_TIME, "Q") else None


def tick_array(pool: str, start: int) -> str:
    """Return the address of the tick array that starts at a tick; its seed is big-endian."""
    return derived(PROGRAM, b"tick_array", key(pool), struct.pack(">i", start))


def bitmap_extension(pool: str) -> str:
    """Return the address of the bitmap of arrays far from price one; a pool may live without it."""
    return derived(PROGRAM, b"pool_tick_array_bitmap_extension", key(pool))


def accounts_needed(address: str, data: bytes, known: Accounts) -> tuple[Needed, ...]:
    """Return configuration, bitmap extension, the initialized tick arrays next to the price, vaults and mints.

    Where the price is so far from one that the extension tells the arrays, it must be known to name them all.
    """
    _LAYOUT.check(data)
    starts = {start for a_to_b in (True, False) for start in _starts(address, data, known, a_to_b=a_to_b)}
    return (
        Needed(address_at(data, _CONFIG), "config", PROGRAMS),
        Needed(bitmap_extension(address), "bitmap", PROGRAMS, may_be_absent=True),
        *(Needed(tick_array(address, start), "tick_array", PROGRAMS) for start in sorted(starts)),
        *_LAYOUT.holdings(data),
    )


def swap_instruction(address: str, accounts: Accounts, swap: Swap) -> Instruction:
    """Return `swap_v2`: exact input, no price limit."""
    data = data_of(accounts, address, "pool")[1]
    vault_in, vault_out = sides(swap, *vaults(data))
    mint_in, mint_out = sides(swap, *mints(data))
    extension = bitmap_extension(address)
    arrays = [tick_array(address, start) for start in _starts(address, data, accounts, a_to_b=swap.a_to_b)]
    return Instruction(
        PROGRAM,
        (
            Meta(swap.user, signer=True),
            Meta(address_at(data, _CONFIG)),
            Meta(address, writable=True),
            Meta(swap.source, writable=True),
            Meta(swap.destination, writable=True),
            Meta(vault_in, writable=True),
            Meta(vault_out, writable=True),
            Meta(address_at(data, _OBSERVATION), writable=True),
            Meta(TOKEN_PROGRAM),
            Meta(TOKEN_2022_PROGRAM),
            Meta(MEMO_PROGRAM),
            Meta(mint_in),
            Meta(mint_out),
            *([Meta(extension, writable=True)] if extension in accounts else []),
            *(Meta(array, writable=True) for array in arrays),
        ),
        _SWAP_V2 + struct.pack("<QQ", swap.amount_in, swap.min_amount_out) + bytes(16) + b"\x01",
    )


def _starts(address: str, data: bytes, known: Accounts, *, a_to_b: bool) -> list[int]:
    """Return where the initialized arrays start that a swap passes, in its order."""
    span = number_at(data, _SPACING, "H") * TICKS_PER_ARRAY
    if not span:
        return []
    home = number_at(data, _TICK, "i") // span
    near = data[_BITMAP : _BITMAP + 128]
    extension = known.get(bitmap_extension(address), ("", b""))[1]
    if extension[:8] == _EXTENSION and len(extension) == _EXTENSION_SIZE:
        # Groups of 512 arrays: above in rising order, below in falling order, bits rising in both.
        above, below = extension[40 : 40 + 14 * 64], extension[40 + 14 * 64 :]
        falling = b"".join(below[at : at + 64] for at in range(13 * 64, -1, -64))
        bits, first = int.from_bytes(falling + near + above, "little"), -(512 + 14 * 512)
    else:
        bits, first = int.from_bytes(near, "little"), -512
    found = neighbours(bits, home - first, ARRAYS_PER_SWAP, downwards=a_to_b)
    return [(bit + first) * span for bit in found]
