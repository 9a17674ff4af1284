"""Raydium CPMM: constant product over two vaults, with a shared configuration of fees."""

from __future__ import annotations

import struct

from markets.solana.venues.shape import (
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
    number_at,
    sides,
)
from pipeline.messages import Protocol

PROTOCOL = Protocol.RAYDIUM_CPMM
PROGRAM = "CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C"
PROGRAMS = (PROGRAM,)
REFRESH = Refresh.CONSTANT_PRODUCT
ENFORCES_MINIMUM = True
NATIVE_SOL = False

_CONFIG, _TOKEN_PROGRAMS, _OBSERVATION = 8, (232, 264), 296
_STATUS, _LP_SUPPLY, _OPEN_TIME = 329, 333, 373
_NO_SWAP = 4
_SWAP_BASE_INPUT = discriminator("swap_base_input")
_LAYOUT = Layout(
    "CPMM pool",
    discriminator("PoolState", "account"),
    637,
    mint_offsets=(168, 200),
    vault_offsets=(72, 104),
    sorted_mints=True,
)
discovery_filters, mints, vaults = _LAYOUT.filters, _LAYOUT.mints, _LAYOUT.vaults


def unusable(data: bytes, unix_time: int, slot: int = 0) -> str | None:
    """Return `swap_disabled`, `not_open` or `no_liquidity`, or None."""
    _LAYOUT.check(data)
    if data[_STATUS] & _NO_SWAP:
        return "swap_disabled"
    if unix_time < number_at(data, _OPEN_TIME, "Q"):
        return "not_open"
    return None if number_at(data, _LP_SUPPLY, "Q") else "no_liquidity"


def authority() -> str:
    """Return the one address that holds the vaults of all pools."""
    return derived(PROGRAM, b"vault_and_lp_mint_auth_seed")


def accounts_needed(address: str, data: bytes, known: Accounts) -> tuple[Needed, ...]:
    """Return the configuration, both vaults and both mints."""
    _LAYOUT.check(data)
    return (
        Needed(address_at(data, _CONFIG), "config", PROGRAMS),
        *_LAYOUT.holdings(data),
    )


def swap_instruction(address: str, accounts: Accounts, swap: Swap) -> Instruction:
    """Return `swap_base_input`."""
    data = data_of(accounts, address, "pool")[1]
    vault_in, vault_out = sides(swap, *vaults(data))
    mint_in, mint_out = sides(swap, *mints(data))
    program_in, program_out = sides(swap, address_at(data, _TOKEN_PROGRAMS[0]), address_at(data, _TOKEN_PROGRAMS[1]))
    return Instruction(
        PROGRAM,
        (
            Meta(swap.user, signer=True),
            Meta(authority()),
            Meta(address_at(data, _CONFIG)),
            Meta(address, writable=True),
            Meta(swap.source, writable=True),
            Meta(swap.destination, writable=True),
            Meta(vault_in, writable=True),
            Meta(vault_out, writable=True),
            Meta(program_in),
            Meta(program_out),
            Meta(mint_in),
            Meta(mint_out),
            Meta(address_at(data, _OBSERVATION), writable=True),
        ),
        _SWAP_BASE_INPUT + struct.pack("<QQ", swap.amount_in, swap.min_amount_out),
    )
