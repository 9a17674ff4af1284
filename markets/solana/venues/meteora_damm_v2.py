"""Meteora DAMM v2: constant product over one price range, everything in the pool account.

Layouts: MeteoraAg/damm-v2, programs/cp-amm/src/state/pool.rs.
"""

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
    data_of,
    derived,
    discriminator,
    number_at,
    token_program,
)
from pipeline.messages import Protocol

PROTOCOL = Protocol.METEORA_DAMM_V2
PROGRAM = "cpamdpZCGKUy5JxQXB4dcpGPiikHawvSWAd6mEn1sGG"
PROGRAMS = (PROGRAM,)
REFRESH = Refresh.CONSTANT_PRODUCT
ENFORCES_MINIMUM = True
NATIVE_SOL = False

_LIQUIDITY = 360
_ACTIVATION_POINT, _ACTIVATION_TYPE, _STATUS = 472, 480, 481
_ENABLED, _BY_SLOT = 0, 0
_SWAP = discriminator("swap")
_LAYOUT = Layout(
    "DAMM v2 pool",
    discriminator("Pool", "account"),
    1112,
    mint_offsets=(168, 200),
    vault_offsets=(232, 264),
    sorted_mints=False,
)
discovery_filters, mints, vaults = _LAYOUT.filters, _LAYOUT.mints, _LAYOUT.vaults


def unusable(data: bytes, unix_time: int, slot: int = 0) -> str | None:
    """Return `swap_disabled`, `not_open` or `no_liquidity`, or None."""
    _LAYOUT.check(data)
    if data[_STATUS] != _ENABLED:
        return "swap_disabled"
    now = slot if data[_ACTIVATION_TYPE] == _BY_SLOT else unix_time
    if now and now < number_at(data, _ACTIVATION_POINT, "Q"):
        return "not_open"
    return None if any(data[_LIQUIDITY : _LIQUIDITY + 16]) else "no_liquidity"


def authority() -> str:
    """Return the one address that holds the vaults of all pools."""
    return derived(PROGRAM, b"pool_authority")


def accounts_needed(address: str, data: bytes, known: Accounts) -> tuple[Needed, ...]:
    """Return vaults and mints; the price and the liquidity stand in the pool itself."""
    _LAYOUT.check(data)
    return (*_LAYOUT.holdings(data),)


def swap_instruction(address: str, accounts: Accounts, swap: Swap) -> Instruction:
    """Return `swap`, without a referral."""
    data = data_of(accounts, address, "pool")[1]
    mint_a, mint_b = mints(data)
    vault_a, vault_b = vaults(data)
    return Instruction(
        PROGRAM,
        (
            Meta(authority()),
            Meta(address, writable=True),
            Meta(swap.source, writable=True),
            Meta(swap.destination, writable=True),
            Meta(vault_a, writable=True),
            Meta(vault_b, writable=True),
            Meta(mint_a),
            Meta(mint_b),
            Meta(swap.user, signer=True),
            Meta(token_program(accounts, mint_a)),
            Meta(token_program(accounts, mint_b)),
            # The program's own address stands for "none".
            Meta(PROGRAM),
            Meta(derived(PROGRAM, b"__event_authority")),
            Meta(PROGRAM),
        ),
        _SWAP + struct.pack("<QQ", swap.amount_in, swap.min_amount_out),
    )
