"""Raw accounts of made-up stake pools, and the recorded ones."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

from solders.pubkey import Pubkey

from .build import MINT_A, POOL, SLOT, VAULT_A, key, raw_key, token_account
from .stake_reference import MARINADE, SPL_STAKE_POOL, STAKE, SYSTEM, U64

RESERVE, MANAGER, TREASURY = key(201), key(202), key(203)
EPOCH = SLOT // 432_000
RENT, LEG_RENT = 2_282_880, 2_039_280
Funded = tuple[str, str, bytes, int]


def option(address: str | None) -> bytes:
    return b"\x00" if address is None else b"\x01" + raw_key(address)


def future(kind: int) -> bytes:
    return bytes([kind]) + (struct.pack("<QQ", 100, 90) if kind else b"")


def reserve_account(lamports: int, *, lockup: tuple[int, int] = (0, 0), state: int = 1, owner: str = STAKE) -> Funded:
    data = struct.pack("<IQ", state, RENT) + bytes(64) + struct.pack("<qQ", *lockup) + bytes(32)
    return RESERVE, owner, data.ljust(200, b"\x00"), lamports


def stake_pool_accounts(
    total: int,
    supply: int,
    reserve: int = 10**13,
    *,
    deposit_fee: tuple[int, int] = (10_000, 8),
    withdrawal_fee: tuple[int, int] = (1_000, 1),
    epoch: int = EPOCH,
    deposit_authority: str | None = None,
    withdraw_authority: str | None = None,
    optional: tuple[int, str | None, str | None, int] = (0, None, None, 0),
    referral: int = 50,
    lockup: tuple[int, int] = (0, 0),
    owner: str = SPL_STAKE_POOL,
    length: int = 611,
) -> list[Any]:
    """`optional`: kind of the next epoch fee, preferred validators, kind of the next withdrawal fee."""
    data = b"\x01" + bytes(96) + b"\xff" + bytes(32) + raw_key(RESERVE) + raw_key(MINT_A) + raw_key(MANAGER) + bytes(32)
    data += struct.pack("<QQQ", total, supply, epoch) + bytes(48) + struct.pack("<QQ", 100, 5)
    data += future(optional[0]) + option(optional[1]) + option(optional[2]) + struct.pack("<QQQQ", 100, 3, 100, 2)
    data += future(optional[3]) + b"\x07" + option(deposit_authority) + struct.pack("<QQ", *deposit_fee)
    data += bytes([referral]) + option(withdraw_authority) + struct.pack("<QQ", *withdrawal_fee) + b"\x00" + bytes(16)
    return [(POOL, owner, data.ljust(length, b"\x00")), reserve_account(reserve, lockup=lockup)]


def sol_leg_of(state: str) -> tuple[str, int]:
    address, bump = Pubkey.find_program_address([raw_key(state), b"liq_sol"], Pubkey.from_string(MARINADE))
    return str(address), bump


def marinade_accounts(
    active: int = 4_688_559_614_137_761,
    supply: int = 3_823_619_544_832_744,
    *,
    msol_leg: int = 700_000_000_000,
    sol_leg: int = 25_000_000_000_000,
    fees: tuple[int, int, int] = (900, 1, 5_000),
    target: int = 21_000_000_000_000,
    reserve: int = 280_688_326_062_010,
    tickets: int = 42_300_960_910_537,
    least: tuple[int, int] = (1, 1),
    cap: int = U64,
    paused: int = 0,
    owner: str = MARINADE,
) -> list[Any]:
    """State, mSOL leg, SOL leg. `fees`: most, least, treasury's part, basis points."""
    leg, bump = sol_leg_of(POOL)
    data = bytearray(2_616)
    data[0:8] = bytes.fromhex("d8926b5e684bb6b1")
    data[8:40], data[104:136] = raw_key(MINT_A), raw_key(TREASURY)
    struct.pack_into("<Q", data, 138, LEG_RENT)
    struct.pack_into("<Q", data, 226, 5)
    struct.pack_into("<Q", data, 376, active)
    data[418], data[420:452] = bump, raw_key(VAULT_A)
    struct.pack_into("<QIII", data, 452, target, *fees)
    struct.pack_into("<QQ", data, 496, reserve, supply)
    struct.pack_into("<Q", data, 528, tickets)
    struct.pack_into("<QQQQ", data, 544, *least, cap, 7)
    data[608] = paused
    return [(POOL, owner, bytes(data)), token_account(VAULT_A, MINT_A, msol_leg), (leg, SYSTEM, b"", sol_leg)]


def recorded(folder: Path, name: str) -> Funded:
    """A recorded account."""
    found = json.loads((folder / "solana/accounts/sanctum_router" / f"{name}.json").read_text())
    account = found["account"]
    return found["pubkey"], account["owner"], base64.b64decode(account["data"][0]), account["lamports"]
