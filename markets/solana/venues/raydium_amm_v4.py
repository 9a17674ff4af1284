"""Raydium AMM v4: constant product over two vaults."""

from __future__ import annotations

import struct

from markets.solana.venues.shape import (
    TOKEN_PROGRAM,
    Accounts,
    Instruction,
    Layout,
    Meta,
    Needed,
    Refresh,
    Swap,
    data_of,
    derived,
    number_at,
)
from pipeline.messages import Protocol

PROTOCOL = Protocol.RAYDIUM_AMM_V4
PROGRAM = "675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8"
PROGRAMS = (PROGRAM,)
REFRESH = Refresh.CONSTANT_PRODUCT
ENFORCES_MINIMUM = True
NATIVE_SOL = False

_STATUS, _OPEN_TIME, _LP_SUPPLY = 0, 224, 720
_SWAP_ONLY, _WAITING_TRADE = 6, 7
_SWAP_BASE_IN_V2 = 16
# The account has no discriminator: its size is all that tells it.
_LAYOUT = Layout("AMM v4", b"", 752, mint_offsets=(400, 432), vault_offsets=(336, 368), sorted_mints=False)
discovery_filters, mints, vaults = _LAYOUT.filters, _LAYOUT.mints, _LAYOUT.vaults


def unusable(data: bytes, unix_time: int, slot: int = 0) -> str | None:
    """Return `swap_disabled`, `not_open` or `no_liquidity`, or None."""
    _LAYOUT.check(data)
    status = number_at(data, _STATUS, "Q")
    if status not in (_SWAP_ONLY, _WAITING_TRADE):
        return "swap_disabled"
    if status == _WAITING_TRADE and unix_time < number_at(data, _OPEN_TIME, "Q"):
        return "not_open"
    return None if number_at(data, _LP_SUPPLY, "Q") else "no_liquidity"


def authority() -> str:
    """Return the one address that holds the vaults of all pools."""
    return derived(PROGRAM, b"amm authority")


def accounts_needed(address: str, data: bytes, known: Accounts) -> tuple[Needed, ...]:
    """Return both vaults; the program takes classic tokens only, so the mints tell nothing."""
    return tuple(Needed(vault, "vault", (TOKEN_PROGRAM,)) for vault in vaults(data))


def swap_instruction(address: str, accounts: Accounts, swap: Swap) -> Instruction:
    """Return `SwapBaseInV2`: the one without the accounts of an order book, which these pools no longer use."""
    coin_vault, pc_vault = vaults(data_of(accounts, address, "pool")[1])
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
