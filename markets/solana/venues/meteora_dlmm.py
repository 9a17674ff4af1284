"""Meteora DLMM: bins of constant price in arrays of 70, with a bitmap of the arrays that hold liquidity.

Layouts: MeteoraAg/dlmm-sdk, the program's IDL and commons.
"""

from __future__ import annotations

import struct

from markets.solana.venues.bits import mirrored, neighbours
from markets.solana.venues.shape import (
    MEMO_PROGRAM,
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
    token_program,
)
from pipeline.messages import Protocol

PROTOCOL = Protocol.METEORA_DLMM
PROGRAM = "LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo"
PROGRAMS = (PROGRAM,)
REFRESH = Refresh.CONCENTRATED
ENFORCES_MINIMUM = True
NATIVE_SOL = False

BINS_PER_ARRAY = 70
ARRAYS_PER_SWAP = 3

_PAIR_TYPE, _ACTIVE_BIN, _STATUS, _ACTIVATION_TYPE = 75, 76, 82, 86
_ORACLE, _BITMAP, _ACTIVATION_POINT = 552, 584, 816
_EXTENSION = discriminator("BinArrayBitmapExtension", "account")
_EXTENSION_SIZE = 8 + 32 + 2 * 12 * 64
_ENABLED, _PERMISSION_TYPES = 0, (1, 2)
_BY_SLOT = 0
_SWAP2 = discriminator("swap2")
_LAYOUT = Layout(
    "DLMM pair",
    discriminator("LbPair", "account"),
    904,
    mint_offsets=(88, 120),
    vault_offsets=(152, 184),
    sorted_mints=False,
)
discovery_filters, mints, vaults = _LAYOUT.filters, _LAYOUT.mints, _LAYOUT.vaults


def unusable(data: bytes, unix_time: int, slot: int = 0) -> str | None:
    """Return `swap_disabled` or `not_open`, or None."""
    _LAYOUT.check(data)
    if data[_STATUS] != _ENABLED:
        return "swap_disabled"
    # Only pairs of these types wait for a point in time; the others keep other things in the field.
    if data[_PAIR_TYPE] in _PERMISSION_TYPES:
        now = slot if data[_ACTIVATION_TYPE] == _BY_SLOT else unix_time
        if now and now < number_at(data, _ACTIVATION_POINT, "Q"):
            return "not_open"
    return None


def bin_array(pool: str, index: int) -> str:
    """Return the address of a bin array."""
    return derived(PROGRAM, b"bin_array", key(pool), struct.pack("<q", index))


def bitmap_extension(pool: str) -> str:
    """Return the address of the bitmap of arrays far from bin 0; most pairs live without it."""
    return derived(PROGRAM, b"bitmap", key(pool))


def accounts_needed(address: str, data: bytes, known: Accounts) -> tuple[Needed, ...]:
    """Return the bitmap extension, the active bin array and the next ones with liquidity, reserves and mints."""
    _LAYOUT.check(data)
    active = number_at(data, _ACTIVE_BIN, "i") // BINS_PER_ARRAY
    indices = {index for a_to_b in (True, False) for index in _indices(address, data, known, a_to_b=a_to_b)}
    return (
        Needed(bitmap_extension(address), "bitmap", PROGRAMS, may_be_absent=True),
        *(
            Needed(bin_array(address, index), "bin_array", PROGRAMS, may_be_absent=index not in indices)
            for index in sorted(indices | {active})
        ),
        *_LAYOUT.holdings(data),
    )


def swap_instruction(address: str, accounts: Accounts, swap: Swap) -> Instruction:
    """Return `swap2`, without a host's fee and without accounts for transfer hooks."""
    data = data_of(accounts, address, "pool")[1]
    mint_x, mint_y = mints(data)
    reserve_x, reserve_y = vaults(data)
    extension = bitmap_extension(address)
    arrays = [bin_array(address, index) for index in _indices(address, data, accounts, a_to_b=swap.a_to_b)]
    return Instruction(
        PROGRAM,
        (
            Meta(address, writable=True),
            # The program's own address stands for "none".
            Meta(extension if extension in accounts else PROGRAM),
            Meta(reserve_x, writable=True),
            Meta(reserve_y, writable=True),
            Meta(swap.source, writable=True),
            Meta(swap.destination, writable=True),
            Meta(mint_x),
            Meta(mint_y),
            Meta(address_at(data, _ORACLE), writable=True),
            Meta(PROGRAM),
            Meta(swap.user, signer=True),
            Meta(token_program(accounts, mint_x)),
            Meta(token_program(accounts, mint_y)),
            Meta(MEMO_PROGRAM),
            Meta(derived(PROGRAM, b"__event_authority")),
            Meta(PROGRAM),
            *(Meta(array, writable=True) for array in arrays),
        ),
        _SWAP2 + struct.pack("<QQI", swap.amount_in, swap.min_amount_out, 0),
    )


def _indices(address: str, data: bytes, known: Accounts, *, a_to_b: bool) -> list[int]:
    """Return the bin arrays with liquidity that a swap passes, in its order. Token x in moves the bin down."""
    active = number_at(data, _ACTIVE_BIN, "i") // BINS_PER_ARRAY
    bits, first = int.from_bytes(data[_BITMAP : _BITMAP + 128], "little"), -512
    extension = known.get(bitmap_extension(address), ("", b""))[1]
    if extension[:8] == _EXTENSION and len(extension) == _EXTENSION_SIZE:
        width = 12 * 512
        above = int.from_bytes(extension[40 : 40 + width // 8], "little")
        # Bit 0 of the lower half is array -513, and so on downwards.
        below = mirrored(int.from_bytes(extension[40 + width // 8 :], "little"), width)
        bits, first = below | bits << width | above << (width + 1024), -512 - width
    found = neighbours(bits, active - first, ARRAYS_PER_SWAP, downwards=a_to_b)
    return [bit + first for bit in found]
