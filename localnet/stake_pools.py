"""Simulated stake pools: what they hold at the start, their accounts, and their update at the start of an epoch.

A stake pool pays a little more for its token than the market does: the token can be sold at any time, but the pool's
reserve is soon empty. Rates stay where they begin, as if no rewards were earned.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from solders.pubkey import Pubkey

from localnet.draws import Draws
from localnet.layouts import TOKEN_PROGRAM, key, simulated_address, token_account
from markets.solana.pools import RawAccount
from markets.solana.venues import marinade as marinade_venue
from markets.solana.venues import spl_stake_pool as stake_pool_venue
from markets.solana.venues.shape import SLOTS_PER_EPOCH, STAKE_PROGRAM, SYSTEM_PROGRAM, discriminator
from markets.tokens import LAMPORTS_PER_SOL
from pipeline._core import Pool
from pipeline.messages import Protocol

PPM = 1_000_000
WITHDRAWAL_FEE = (1, 1_000)
STAKE_RENT, TOKEN_RENT = 2_282_880, 2_039_280
_LAST_UPDATE_EPOCH = 274
_SUPPLY, _MARINADE_SUPPLY, _MARINADE_RESERVE = 266, 504, 496
_NO_OPTION = b"\x00"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a stake pool gives and asks."""

    lamports: int
    """Behind one whole token."""
    deposit_fee_ppm: int
    ceiling_ppm: int
    """Nobody pays more for the token than this above the market's first price: a deposit is cheaper."""


def terms(seed: int, symbol: str, market_lamports: int, *, is_marinade: bool) -> Terms:
    """Return a stake pool's terms, given the market's first price of its token."""
    # Marinade takes nothing for deposits, so its token trades further below what stands behind it.
    premium_ppm = 800 if is_marinade else 500
    deposit_fee_ppm = 0 if is_marinade else 100 * Draws(seed, "stake-pool", symbol).between(3, 10)
    return Terms(
        market_lamports * (PPM + premium_ppm) // PPM,
        deposit_fee_ppm,
        (PPM + premium_ppm) * (PPM + deposit_fee_ppm) // PPM - PPM,
    )


def stake_pool(address: str, mint: str, made: Terms, *, tokens: int, reserve: int) -> list[RawAccount]:
    """Return an SPL stake pool with so many whole tokens, and its reserve with so many lamports to spare."""
    program = stake_pool_venue.PROGRAMS[0]
    supply = tokens * LAMPORTS_PER_SOL
    reserve_address, manager = simulated_address(address, "reserve"), simulated_address(address, "fees")
    bump = _derived(program, address, b"withdraw")[1]
    owners = b"".join(key(simulated_address(address, role)) for role in ("manager", "staker", "depositor"))
    companions = (simulated_address(address, "validators"), reserve_address, mint, manager, TOKEN_PROGRAM)
    withdrawal_fee = struct.pack("<QQ", WITHDRAWAL_FEE[1], WITHDRAWAL_FEE[0])
    data = b"".join(
        (
            b"\x01",
            owners,
            bytes([bump]),
            *map(key, companions),
            struct.pack("<QQQ", supply * made.lamports // LAMPORTS_PER_SOL, supply, 0),
            bytes(48),
            # Fee of an epoch's rewards, and the next one; no preferred validators; fees of stakes put in and taken out.
            struct.pack("<QQ", 100, 5) + _NO_OPTION,
            _NO_OPTION * 2,
            struct.pack("<QQ", PPM, 0) + withdrawal_fee + _NO_OPTION,
            bytes([0]) + _NO_OPTION,
            struct.pack("<QQ", PPM, made.deposit_fee_ppm),
            bytes([50]) + _NO_OPTION,
            withdrawal_fee + _NO_OPTION,
            struct.pack("<QQ", supply, supply * made.lamports // LAMPORTS_PER_SOL),
        )
    )
    # Initialized, with a rent that must stay, the pool's authority, and no lockup.
    authority = key(stake_pool_venue.withdraw_authority(program, address))
    stake = struct.pack("<IQ", 1, STAKE_RENT) + authority * 2 + bytes(48)
    return [
        (address, program, data.ljust(611, b"\x00")),
        (reserve_address, STAKE_PROGRAM, stake.ljust(200, b"\x00"), STAKE_RENT + reserve),
        token_account(manager, mint, simulated_address(address, "manager"), 0),
    ]


def marinade(address: str, mint: str, made: Terms, *, tokens: int, liquidity: int) -> list[RawAccount]:
    """Return a Marinade state with so many whole mSOL, and a liquidity pool that wants so many lamports."""
    program = marinade_venue.PROGRAM
    supply = tokens * LAMPORTS_PER_SOL
    staked = supply * made.lamports // LAMPORTS_PER_SOL
    waiting = staked // 50
    sol_leg, bump = _derived(program, address, b"liq_sol")
    msol_leg, treasury = simulated_address(address, "msol-leg"), simulated_address(address, "treasury")
    data = bytearray(2_616)
    data[0:8] = discriminator("State", "account")
    for at, address_ in ((8, mint), (40, simulated_address(address, "admin")), (104, treasury), (420, msol_leg)):
        data[at : at + 32] = key(address_)
    data[136] = _derived(program, address, b"reserve")[1]
    data[137] = _derived(program, address, b"st_mint")[1]
    struct.pack_into("<Q", data, 138, TOKEN_RENT)
    struct.pack_into("<Q", data, 376, staked - waiting)
    data[418] = bump
    data[419] = _derived(program, address, b"liq_st_sol_authority")[1]
    # Liquidity at which the fee is least, fees at most and at least, the treasury's part: basis points, as mainnet's.
    struct.pack_into("<QIII", data, 452, liquidity, 900, 1, 5_000)
    struct.pack_into("<QQ", data, 496, waiting, supply)
    struct.pack_into("<QQQ", data, 544, 1, 1, 2**64 - 1)
    return [
        (address, program, bytes(data)),
        token_account(msol_leg, mint, _derived(program, address, b"liq_st_sol_authority")[0], 0),
        # A little less than wanted: an unstake costs some 12 basis points and climbing, more than it is worth.
        (sol_leg, SYSTEM_PROGRAM, b"", TOKEN_RENT + liquidity * 988 // 1_000),
        token_account(treasury, mint, simulated_address(address, "admin"), 0),
    ]


def updated(pool: Pool, slot: int) -> Pool:
    """Return a stake pool as it is once somebody has updated it in the slot's epoch; any other pool as it is."""
    epoch = slot // SLOTS_PER_EPOCH
    if pool.protocol != Protocol.SPL_STAKE_POOL or _update_epoch(pool) >= epoch:
        return pool
    first, *others = pool.accounts()
    accounts = [(first[0], first[1], updated_account(first[2], slot)), *others]
    return Pool.parse(pool.protocol, pool.address, accounts, pool.slot, pool.write_version, pool.unix_time)


def updated_account(data: bytes, slot: int) -> bytes:
    """Return an SPL stake pool's bytes as they are once somebody has updated it in the slot's epoch."""
    return data[:_LAST_UPDATE_EPOCH] + struct.pack("<Q", slot // SLOTS_PER_EPOCH) + data[_LAST_UPDATE_EPOCH + 8 :]


def issue(address: str, program: str, data: bytes) -> tuple[str, int]:
    """Return who mints a stake pool's token, and how much of it the pool says there is, base units."""
    if program == marinade_venue.PROGRAM:
        return _derived(program, address, b"st_mint")[0], struct.unpack_from("<Q", data, _MARINADE_SUPPLY)[0]
    supply = struct.unpack_from("<Q", data, _SUPPLY)[0]
    return stake_pool_venue.withdraw_authority(program, address), supply


def marinade_reserve(address: str, data: bytes) -> RawAccount:
    """Return the system account that holds what a Marinade state has in its reserve; no quote needs it."""
    (waiting,) = struct.unpack_from("<Q", data, _MARINADE_RESERVE)
    return marinade_venue.reserve(address), SYSTEM_PROGRAM, b"", TOKEN_RENT + waiting


def _derived(program: str, address: str, seed: bytes) -> tuple[str, int]:
    """Return the address that a program derives from another one, and its bump."""
    found, bump = Pubkey.find_program_address([key(address), seed], Pubkey.from_string(program))
    return str(found), bump


def _update_epoch(pool: Pool) -> int:
    epoch = pool.info()["last_update_epoch"]
    assert isinstance(epoch, int)
    return epoch
