"""Orca Whirlpool: concentrated liquidity in arrays of 88 ticks."""

from __future__ import annotations

import struct

from markets.solana.venues.shape import (
    MEMO_PROGRAM,
    Accounts,
    Instruction,
    Layout,
    Meta,
    Needed,
    Refresh,
    Swap,
    data_of,
    derived,
    discriminator,
    key,
    number_at,
    token_program,
)
from pipeline.messages import Protocol

PROTOCOL = Protocol.WHIRLPOOL
PROGRAM = "whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc"
PROGRAMS = (PROGRAM,)
REFRESH = Refresh.CONCENTRATED
ENFORCES_MINIMUM = True
NATIVE_SOL = False

TICKS_PER_ARRAY = 88
MAX_TICK = 443_636
ARRAYS_EACH_SIDE = 3
"""A swap passes at most three arrays; moving up it may begin in the one after the current."""

_SPACING, _FEE_TIER, _LIQUIDITY, _TICK = 41, 43, 49, 81
_SWAP_V2 = discriminator("swap_v2")
# The lowest and the highest price there is: the least amount out guards the swap, not a price.
_LOWEST, _HIGHEST = 4_295_048_016, 79_226_673_515_401_279_992_447_579_055
_LAYOUT = Layout(
    "Whirlpool",
    discriminator("Whirlpool", "account"),
    653,
    mint_offsets=(101, 181),
    vault_offsets=(133, 213),
    sorted_mints=True,
)
discovery_filters, mints, vaults = _LAYOUT.filters, _LAYOUT.mints, _LAYOUT.vaults


def unusable(data: bytes, unix_time: int, slot: int = 0) -> str | None:
    """Return None: a Whirlpool cannot be paused, and one without liquidity at its price may have some beside it."""
    _LAYOUT.check(data)
    return None


def tick_array(pool: str, start: int) -> str:
    """Return the address of the tick array that starts at a tick."""
    return derived(PROGRAM, b"tick_array", key(pool), str(start).encode())


def oracle(pool: str) -> str:
    """Return the address of the oracle; it exists where the fee moves with volatility."""
    return derived(PROGRAM, b"oracle", key(pool))


def accounts_needed(address: str, data: bytes, known: Accounts) -> tuple[Needed, ...]:
    """Return the tick arrays around the price, the oracle where the fee moves, vaults and mints."""
    _LAYOUT.check(data)
    spacing = number_at(data, _SPACING, "H")
    arrays = [tick_array(address, start) for start in _starts(data, range(-ARRAYS_EACH_SIDE, ARRAYS_EACH_SIDE + 1))]
    return (
        *(Needed(array, "tick_array", PROGRAMS, may_be_absent=True) for array in arrays),
        # The tier a pool was opened with differs from its spacing where the fee moves.
        *([Needed(oracle(address), "oracle", PROGRAMS)] if number_at(data, _FEE_TIER, "H") != spacing else []),
        *_LAYOUT.holdings(data),
    )


def swap_instruction(address: str, accounts: Accounts, swap: Swap) -> Instruction:
    """Return `swap_v2`: exact input, no price limit."""
    data = data_of(accounts, address, "pool")[1]
    mint_a, mint_b = mints(data)
    vault_a, vault_b = vaults(data)
    owner_a, owner_b = (swap.source, swap.destination) if swap.a_to_b else (swap.destination, swap.source)
    return Instruction(
        PROGRAM,
        (
            Meta(token_program(accounts, mint_a)),
            Meta(token_program(accounts, mint_b)),
            Meta(MEMO_PROGRAM),
            Meta(swap.user, signer=True),
            Meta(address, writable=True),
            Meta(mint_a),
            Meta(mint_b),
            Meta(owner_a, writable=True),
            Meta(vault_a, writable=True),
            Meta(owner_b, writable=True),
            Meta(vault_b, writable=True),
            *(Meta(array, writable=True) for array in _sequence(address, data, a_to_b=swap.a_to_b)),
            Meta(oracle(address), writable=True),
        ),
        _SWAP_V2
        + struct.pack("<QQ", swap.amount_in, swap.min_amount_out)
        + (_LOWEST if swap.a_to_b else _HIGHEST).to_bytes(16, "little")
        # Exact input, direction, no accounts for transfer hooks.
        + bytes([1, swap.a_to_b, 0]),
    )


def _starts(data: bytes, offsets: range) -> list[int]:
    """Return where the arrays around the current tick start, those beyond the last tick left out."""
    span = number_at(data, _SPACING, "H") * TICKS_PER_ARRAY
    if not span:
        return []
    home = number_at(data, _TICK, "i") // span * span
    starts = [home + offset * span for offset in offsets]
    return [start for start in starts if start + span > -MAX_TICK and start <= MAX_TICK]


def _sequence(address: str, data: bytes, *, a_to_b: bool) -> list[str]:
    """Return the three arrays that a swap passes, the last one repeated at the end of the price range."""
    if a_to_b:
        starts = _starts(data, range(0, -3, -1))
    else:
        spacing = number_at(data, _SPACING, "H")
        span = spacing * TICKS_PER_ARRAY
        # Moving up from the last slot of an array the search begins in the next.
        shifted = int(number_at(data, _TICK, "i") % span + spacing >= span) if span else 0
        starts = _starts(data, range(shifted, shifted + 3))
    arrays = [tick_array(address, start) for start in starts]
    return arrays + arrays[-1:] * (3 - len(arrays))
