"""Raydium CPMM: constant product over two vaults, with a shared configuration of fees."""

from __future__ import annotations

import struct

from markets.solana.venues.shape import (
    TOKEN_PROGRAMS,
    Accounts,
    Filters,
    Instruction,
    Memcmp,
    Meta,
    Needed,
    Refresh,
    Swap,
    address_at,
    check,
    data_of,
    derived,
    discriminator,
    mints_needed,
    number_at,
    ordered,
    sides,
)
from pipeline.messages import Protocol

PROTOCOL = Protocol.RAYDIUM_CPMM
PROGRAM = "CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C"
PROGRAMS = (PROGRAM,)
REFRESH = Refresh.CONSTANT_PRODUCT

_POOL = discriminator("PoolState", "account")
_SIZE = 637
_CONFIG, _VAULTS, _MINTS, _TOKEN_PROGRAMS, _OBSERVATION = 8, (72, 104), (168, 200), (232, 264), 296
_STATUS, _LP_SUPPLY, _OPEN_TIME = 329, 333, 373
_NO_SWAP = 4
_SWAP_BASE_INPUT = discriminator("swap_base_input")


def discovery_filters(mint_a: str, mint_b: str) -> tuple[Filters, ...]:
    """Return one question: a CPMM pool's mints stand in the order of their bytes."""
    first, second = ordered(mint_a, mint_b)
    return (Filters((Memcmp(0, _POOL), Memcmp(_MINTS[0], first), Memcmp(_MINTS[1], second)), _SIZE),)


def mints(data: bytes) -> tuple[str, str]:
    """Return token 0 and token 1."""
    check(data, _POOL, "CPMM pool", _SIZE)
    return address_at(data, _MINTS[0]), address_at(data, _MINTS[1])


def unusable(data: bytes, unix_time: int, slot: int = 0) -> str | None:
    """Return `swap_disabled`, `not_open` or `no_liquidity`, or None."""
    check(data, _POOL, "CPMM pool", _SIZE)
    if data[_STATUS] & _NO_SWAP:
        return "swap_disabled"
    if unix_time < number_at(data, _OPEN_TIME, "Q"):
        return "not_open"
    return None if number_at(data, _LP_SUPPLY, "Q") else "no_liquidity"


def vaults(address: str, data: bytes) -> tuple[str, str]:
    """Return both vaults."""
    check(data, _POOL, "CPMM pool", _SIZE)
    return address_at(data, _VAULTS[0]), address_at(data, _VAULTS[1])


def authority() -> str:
    """Return the one address that holds the vaults of all pools."""
    return derived(PROGRAM, b"vault_and_lp_mint_auth_seed")


def accounts_needed(address: str, data: bytes, known: Accounts) -> tuple[Needed, ...]:
    """Return the configuration, both vaults and both mints."""
    check(data, _POOL, "CPMM pool", _SIZE)
    return (
        Needed(address_at(data, _CONFIG), "config", PROGRAMS),
        *(Needed(vault, "vault", TOKEN_PROGRAMS) for vault in vaults(address, data)),
        *mints_needed(*mints(data)),
    )


def swap_instruction(address: str, accounts: Accounts, swap: Swap) -> Instruction:
    """Return `swap_base_input`."""
    data = data_of(accounts, address, "pool")[1]
    vault_in, vault_out = sides(swap, *vaults(address, data))
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
