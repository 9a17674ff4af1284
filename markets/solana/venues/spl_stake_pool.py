"""SPL stake pools: the pool's staked token, which is token a, against SOL.

Layouts: solana-program/stake-pool, program/src/state.rs and instruction.rs.
"""

from __future__ import annotations

import struct

from markets.solana.venues.shape import (
    CLOCK_SYSVAR,
    SLOTS_PER_EPOCH,
    STAKE_HISTORY_SYSVAR,
    STAKE_PROGRAM,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAMS,
    Accounts,
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
    key,
    mints_needed,
    number_at,
    staked_filters,
)
from markets.tokens import SOL_MINT
from pipeline.messages import Protocol

PROTOCOL = Protocol.SPL_STAKE_POOL
PROGRAMS = (
    "SPoo1Ku8WFXoNDMHPsrGSTSG1Y47rzgn41SLUNakuHy",
    # Sanctum's deployments of the same program.
    "SP12tWFxD9oJsVWNavTTBZvMbA6gkAmxtVgxdqvyvhY",
    "SPMBzsVUuoHA4Jm6KunbsotaahvVikZs1JyTW6iJvbn",
)
REFRESH = Refresh.STAKE
ENFORCES_MINIMUM = True
NATIVE_SOL = True

_POOL = b"\x01"
# What is fixed in the layout ends with the fee of an epoch; options follow.
_SIZE = 346
_BUMP, _VALIDATORS, _RESERVE, _MINT, _MANAGER_FEE, _TOKEN_PROGRAM = 97, 98, 130, 162, 194, 226
_TOTAL_LAMPORTS, _SUPPLY, _UPDATED_EPOCH = 258, 266, 274
_STALE_EPOCHS = 2
_DEPOSIT_SOL, _WITHDRAW_SOL, _DEPOSIT_SOL_GUARDED, _WITHDRAW_SOL_GUARDED = 14, 16, 25, 26


def discovery_filters(mint_a: str, mint_b: str) -> tuple[Filters, ...]:
    """Return one question where one of the mints is SOL, else none."""
    return staked_filters(_POOL, _MINT, mint_a, mint_b)


def mints(data: bytes) -> tuple[str, str]:
    """Return the staked token and SOL."""
    check(data, _POOL, "stake pool", _SIZE)
    return address_at(data, _MINT), SOL_MINT


def unusable(data: bytes, unix_time: int, slot: int = 0) -> str | None:
    """Return `no_liquidity`, or `expired` for a pool that nobody has updated for epochs, or None."""
    check(data, _POOL, "stake pool", _SIZE)
    if not number_at(data, _TOTAL_LAMPORTS, "Q") or not number_at(data, _SUPPLY, "Q"):
        return "no_liquidity"
    # At the start of an epoch every pool waits for its update: that passes by itself.
    if slot // SLOTS_PER_EPOCH > number_at(data, _UPDATED_EPOCH, "Q") + _STALE_EPOCHS:
        return "expired"
    return None


def vaults(data: bytes) -> tuple[None, None]:
    """Return nothing: SOL lies in stake accounts, the staked token is minted and burned."""
    check(data, _POOL, "stake pool", _SIZE)
    return None, None


def withdraw_authority(program: str, pool: str) -> str:
    """Return the address that a pool acts as."""
    return derived(program, key(pool), b"withdraw")


def accounts_needed(address: str, data: bytes, known: Accounts) -> tuple[Needed, ...]:
    """Return the reserve, which bounds withdrawals, the manager's account and the staked token's mint.

    Where the manager's account cannot take a fee, withdrawals are charged none.
    """
    check(data, _POOL, "stake pool", _SIZE)
    return (
        Needed(address_at(data, _RESERVE), "reserve", (STAKE_PROGRAM,)),
        Needed(address_at(data, _MANAGER_FEE), "fees", TOKEN_PROGRAMS, may_be_absent=True),
        *mints_needed(address_at(data, _MINT)),
    )


def swap_instruction(address: str, accounts: Accounts, swap: Swap) -> Instruction:
    """Return `DepositSol` or `WithdrawSol`; with a minimum their variants that enforce it."""
    program, data = data_of(accounts, address, "pool")
    check(data, _POOL, "stake pool", _SIZE)
    authority = withdraw_authority(program, address)
    reserve, mint = address_at(data, _RESERVE), address_at(data, _MINT)
    fees, tokens = address_at(data, _MANAGER_FEE), address_at(data, _TOKEN_PROGRAM)
    if swap.a_to_b:
        metas: tuple[Meta, ...] = (
            Meta(address, writable=True),
            Meta(authority),
            Meta(swap.user, signer=True),
            Meta(swap.source, writable=True),
            Meta(reserve, writable=True),
            Meta(swap.user, writable=True),
            Meta(fees, writable=True),
            Meta(mint, writable=True),
            Meta(CLOCK_SYSVAR),
            Meta(STAKE_HISTORY_SYSVAR),
            Meta(STAKE_PROGRAM),
            Meta(tokens),
        )
        plain, guarded = _WITHDRAW_SOL, _WITHDRAW_SOL_GUARDED
    else:
        metas = (
            Meta(address, writable=True),
            Meta(authority),
            Meta(reserve, writable=True),
            Meta(swap.user, signer=True, writable=True),
            Meta(swap.destination, writable=True),
            Meta(fees, writable=True),
            # Nobody referred us: the manager gets the referrer's share.
            Meta(fees, writable=True),
            Meta(mint, writable=True),
            Meta(SYSTEM_PROGRAM),
            Meta(tokens),
        )
        plain, guarded = _DEPOSIT_SOL, _DEPOSIT_SOL_GUARDED
    if swap.min_amount_out:
        return Instruction(program, metas, struct.pack("<BQQ", guarded, swap.amount_in, swap.min_amount_out))
    return Instruction(program, metas, struct.pack("<BQ", plain, swap.amount_in))
