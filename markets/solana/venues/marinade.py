"""Marinade: mSOL, which is token a, against SOL. Deposits mint, the liquidity pool unstakes at once for a fee.

Layouts: marinade-finance/liquid-staking-program, programs/marinade-finance/src/state.
"""

from __future__ import annotations

import struct

from markets.solana.venues.shape import (
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    Accounts,
    BadAccount,
    Filters,
    Instruction,
    Meta,
    Needed,
    Refresh,
    Swap,
    address_at,
    check,
    data_of,
    derived,
    discriminator,
    key,
    mints_needed,
    number_at,
    staked_filters,
)
from markets.tokens import SOL_MINT
from pipeline.messages import Protocol

PROTOCOL = Protocol.MARINADE
PROGRAM = "MarBmsSgKXdrN1egZf5sqe1TMai9K1rChYNDJgjq7aD"
PROGRAMS = (PROGRAM,)
REFRESH = Refresh.STAKE
ENFORCES_MINIMUM = False
NATIVE_SOL = True

_STATE = discriminator("State", "account")
_SIZE = 609
_MINT, _TREASURY, _MSOL_LEG, _SUPPLY, _PAUSED = 8, 104, 420, 504, 608
_DEPOSIT, _LIQUID_UNSTAKE = discriminator("deposit"), discriminator("liquid_unstake")


def discovery_filters(mint_a: str, mint_b: str) -> tuple[Filters, ...]:
    """Return one question where one of the mints is SOL, else none."""
    return staked_filters(_STATE, _MINT, mint_a, mint_b)


def mints(data: bytes) -> tuple[str, str]:
    """Return mSOL and SOL."""
    check(data, _STATE, "Marinade state", _SIZE)
    return address_at(data, _MINT), SOL_MINT


def unusable(data: bytes, unix_time: int, slot: int = 0) -> str | None:
    """Return `paused` or `no_liquidity`, or None."""
    check(data, _STATE, "Marinade state", _SIZE)
    if data[_PAUSED]:
        return "paused"
    return None if number_at(data, _SUPPLY, "Q") else "no_liquidity"


def vaults(data: bytes) -> tuple[str, None]:
    """Return the liquidity pool's mSOL; its SOL lies in a system account."""
    check(data, _STATE, "Marinade state", _SIZE)
    return address_at(data, _MSOL_LEG), None


def sol_leg(state: str) -> str:
    """Return the system account with the liquidity pool's SOL."""
    return derived(PROGRAM, key(state), b"liq_sol")


def reserve(state: str) -> str:
    """Return the system account with the reserve."""
    return derived(PROGRAM, key(state), b"reserve")


def accounts_needed(address: str, data: bytes, known: Accounts) -> tuple[Needed, ...]:
    """Return the liquidity pool's two legs, the treasury's account and mSOL's mint."""
    check(data, _STATE, "Marinade state", _SIZE)
    return (
        Needed(sol_leg(address), "reserve", (SYSTEM_PROGRAM,)),
        Needed(address_at(data, _MSOL_LEG), "vault", (TOKEN_PROGRAM,)),
        Needed(address_at(data, _TREASURY), "fees", (TOKEN_PROGRAM,), may_be_absent=True),
        *mints_needed(address_at(data, _MINT)),
    )


def swap_instruction(address: str, accounts: Accounts, swap: Swap) -> Instruction:
    """Return `deposit` or `liquid_unstake`. Neither can be given a minimum.

    Raises:
        BadAccount: `minimum_not_enforced` where one is asked for.
    """
    if swap.min_amount_out:
        raise BadAccount("minimum_not_enforced", "Marinade enforces no minimum output: it cannot guard a cycle")
    data = data_of(accounts, address, "state")[1]
    check(data, _STATE, "Marinade state", _SIZE)
    mint, leg, state = address_at(data, _MINT), address_at(data, _MSOL_LEG), key(address)
    if swap.a_to_b:
        metas: tuple[Meta, ...] = (
            Meta(address, writable=True),
            Meta(mint, writable=True),
            Meta(sol_leg(address), writable=True),
            Meta(leg, writable=True),
            Meta(address_at(data, _TREASURY), writable=True),
            Meta(swap.source, writable=True),
            Meta(swap.user, signer=True),
            Meta(swap.user, writable=True),
            Meta(SYSTEM_PROGRAM),
            Meta(TOKEN_PROGRAM),
        )
    else:
        metas = (
            Meta(address, writable=True),
            Meta(mint, writable=True),
            Meta(sol_leg(address), writable=True),
            Meta(leg, writable=True),
            Meta(derived(PROGRAM, state, b"liq_st_sol_authority")),
            Meta(reserve(address), writable=True),
            Meta(swap.user, signer=True, writable=True),
            Meta(swap.destination, writable=True),
            Meta(derived(PROGRAM, state, b"st_mint")),
            Meta(SYSTEM_PROGRAM),
            Meta(TOKEN_PROGRAM),
        )
    return Instruction(
        PROGRAM, metas, (_LIQUID_UNSTAKE if swap.a_to_b else _DEPOSIT) + struct.pack("<Q", swap.amount_in)
    )
