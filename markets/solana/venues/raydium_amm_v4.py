"""Raydium AMM v4: constant product over two vaults."""

from __future__ import annotations

import struct

from markets.solana.venues.shape import (
    TOKEN_PROGRAM,
    Accounts,
    BadAccount,
    Filters,
    Instruction,
    Memcmp,
    Meta,
    Needed,
    Refresh,
    Swap,
    address_at,
    data_of,
    derived,
    key,
    number_at,
)
from pipeline.messages import Protocol

PROTOCOL = Protocol.RAYDIUM_AMM_V4
PROGRAM = "675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8"
PROGRAMS = (PROGRAM,)
REFRESH = Refresh.CONSTANT_PRODUCT

_SIZE = 752
_STATUS, _OPEN_TIME, _COIN_VAULT, _PC_VAULT, _COIN_MINT, _PC_MINT, _LP_SUPPLY = 0, 224, 336, 368, 400, 432, 720
_SWAP_ONLY, _WAITING_TRADE = 6, 7
_SWAP_BASE_IN_V2 = 16


def discovery_filters(mint_a: str, mint_b: str) -> tuple[Filters, ...]:
    """Return two questions: either mint may be the coin."""
    first, second = key(mint_a), key(mint_b)
    return tuple(
        Filters((Memcmp(_COIN_MINT, coin), Memcmp(_PC_MINT, pc)), _SIZE)
        for coin, pc in ((first, second), (second, first))
    )


def mints(data: bytes) -> tuple[str, str]:
    """Return the coin and the pc."""
    _check(data)
    return address_at(data, _COIN_MINT), address_at(data, _PC_MINT)


def unusable(data: bytes, unix_time: int, slot: int = 0) -> str | None:
    """Return `swap_disabled`, `not_open` or `no_liquidity`, or None."""
    _check(data)
    status = number_at(data, _STATUS, "Q")
    if status not in (_SWAP_ONLY, _WAITING_TRADE):
        return "swap_disabled"
    if status == _WAITING_TRADE and unix_time < number_at(data, _OPEN_TIME, "Q"):
        return "not_open"
    return None if number_at(data, _LP_SUPPLY, "Q") else "no_liquidity"


def vaults(address: str, data: bytes) -> tuple[str, str]:
    """Return both vaults."""
    _check(data)
    return address_at(data, _COIN_VAULT), address_at(data, _PC_VAULT)


def authority() -> str:
    """Return the one address that holds the vaults of all pools."""
    return derived(PROGRAM, b"amm authority")


def accounts_needed(address: str, data: bytes, known: Accounts) -> tuple[Needed, ...]:
    """Return both vaults; the program takes classic tokens only, so the mints tell nothing."""
    return tuple(Needed(vault, "vault", (TOKEN_PROGRAM,)) for vault in vaults(address, data))


def swap_instruction(address: str, accounts: Accounts, swap: Swap) -> Instruction:
    """Return `SwapBaseInV2`: the one without the accounts of an order book, which these pools no longer use."""
    coin_vault, pc_vault = vaults(address, data_of(accounts, address, "pool")[1])
    return Instruction(
        PROGRAM,
        (
            Meta(TOKEN_PROGRAM),
            Meta(address, writable=True),
            Meta(authority()),
            Meta(coin_vault, writable=True),
            Meta(pc_vault, writable=True),
            # The direction follows from whose mint the source account has.
            Meta(swap.source, writable=True),
            Meta(swap.destination, writable=True),
            Meta(swap.user, signer=True),
        ),
        struct.pack("<BQQ", _SWAP_BASE_IN_V2, swap.amount_in, swap.min_amount_out),
    )


def _check(data: bytes) -> None:
    # The account has no discriminator: its size is all that tells it.
    if len(data) != _SIZE:
        raise BadAccount("short_data", f"an AMM v4 account has {_SIZE} bytes, this one {len(data)}")
