"""Accounts of well-known programs in the form that nodes call jsonParsed.

Layouts: SPL Token's Account and Mint (solana-program/token, interface/src/state.rs), address lookup tables and sysvars
(anza-xyz/solana-sdk); names: account-decoder of anza-xyz/agave.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from decimal import Decimal

from solders.pubkey import Pubkey

from localnet.chain_view import CLOCK, ChainAccount, View
from localnet.layouts import TOKEN_PROGRAM

TOKEN_2022_PROGRAM = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"
LOOKUP_TABLE_PROGRAM = "AddressLookupTab1e1111111111111111111111111"
TOKEN_PROGRAMS = {TOKEN_PROGRAM: "spl-token", TOKEN_2022_PROGRAM: "spl-token-2022"}
ACCOUNT_BYTES = 165
MINT_BYTES = 82
_STATES = ("uninitialized", "initialized", "frozen")
_LOOKUP_META_BYTES = 56

Decimals = Callable[[str], int | None]
"""How many decimals a mint has; None where it is unknown."""


def ui_amount(amount: int, decimals: int) -> dict[str, object]:
    """Return an amount of base units as nodes tell it."""
    exact = Decimal(amount).scaleb(-decimals)
    text = f"{exact:f}"
    return {
        "amount": str(amount),
        "decimals": decimals,
        "uiAmount": float(exact),
        "uiAmountString": text.rstrip("0").rstrip(".") if "." in text else text,
    }


def decimals_in(view: View) -> Decimals:
    """Return the decimals of mints as a view has them."""

    def decimals(mint: str) -> int | None:
        found = view.accounts.get(mint)
        if found is None or found.owner not in TOKEN_PROGRAMS or not is_mint(found.data):
            return None
        return found.data[44]

    return decimals


def is_token_account(data: bytes) -> bool:
    """Tell whether a token program's account holds tokens, and is initialised."""
    whole = len(data) == ACCOUNT_BYTES or (len(data) > ACCOUNT_BYTES and data[ACCOUNT_BYTES] == 2)
    return whole and 0 < data[108] < len(_STATES)


def is_mint(data: bytes) -> bool:
    """Tell whether a token program's account is an initialised mint."""
    return (len(data) == MINT_BYTES or (len(data) > ACCOUNT_BYTES and data[ACCOUNT_BYTES] == 1)) and data[45] == 1


def token_fields(data: bytes) -> tuple[str, str, int]:
    """Return mint, owner and amount of a token account."""
    return _key(data, 0), _key(data, 32), struct.unpack_from("<Q", data, 64)[0]


def table_addresses(data: bytes) -> list[str]:
    """Return what a lookup table lists."""
    return [_key(data, offset) for offset in range(_LOOKUP_META_BYTES, len(data) - 31, 32)]


def looked_up(data: bytes, indexes: Iterable[int]) -> list[str]:
    """Return the addresses at some places of a lookup table, those beyond its end left out."""
    offsets = (_LOOKUP_META_BYTES + 32 * index for index in indexes)
    return [_key(data, offset) for offset in offsets if offset <= len(data) - 32]


def parsed(address: str, account: ChainAccount, decimals: Decimals) -> dict[str, object] | None:
    """Return an account's meaning, None where no parser knows it."""
    found: tuple[str, str, dict[str, object]] | None = None
    if account.owner in TOKEN_PROGRAMS:
        found = _token(account.data, TOKEN_PROGRAMS[account.owner], decimals)
    elif account.owner == LOOKUP_TABLE_PROGRAM:
        found = _lookup_table(account.data)
    elif address == CLOCK and len(account.data) == 40:
        found = _clock(account.data)
    if found is None:
        return None
    program, kind, info = found
    return {"program": program, "parsed": {"info": info, "type": kind}, "space": len(account.data)}


def _token(data: bytes, program: str, decimals: Decimals) -> tuple[str, str, dict[str, object]] | None:
    if is_mint(data):
        (supply,) = struct.unpack_from("<Q", data, 36)
        return (
            program,
            "mint",
            {
                "decimals": data[44],
                "freezeAuthority": _maybe_key(data, 46),
                "isInitialized": True,
                "mintAuthority": _maybe_key(data, 0),
                "supply": str(supply),
            },
        )
    if not is_token_account(data):
        return None
    mint, owner, amount = token_fields(data)
    places = decimals(mint)
    if places is None:
        return None
    info: dict[str, object] = {
        "isNative": data[109:113] == b"\1\0\0\0",
        "mint": mint,
        "owner": owner,
        "state": _STATES[data[108]],
        "tokenAmount": ui_amount(amount, places),
    }
    if info["isNative"]:
        info["rentExemptReserve"] = ui_amount(struct.unpack_from("<Q", data, 113)[0], places)
    delegate, closer = _maybe_key(data, 72), _maybe_key(data, 129)
    if delegate is not None:
        info["delegate"] = delegate
        info["delegatedAmount"] = ui_amount(struct.unpack_from("<Q", data, 121)[0], places)
    if closer is not None:
        info["closeAuthority"] = closer
    return program, "account", info


def _lookup_table(data: bytes) -> tuple[str, str, dict[str, object]] | None:
    if len(data) < _LOOKUP_META_BYTES or struct.unpack_from("<I", data)[0] != 1 or len(data) % 32 != 24:
        return None
    deactivated, extended, start, has_authority = struct.unpack_from("<QQB?", data, 4)
    info: dict[str, object] = {
        "addresses": table_addresses(data),
        "deactivationSlot": str(deactivated),
        "lastExtendedSlot": str(extended),
        "lastExtendedSlotStartIndex": start,
    }
    if has_authority:
        info["authority"] = _key(data, 22)
    return "address-lookup-table", "lookupTable", info


def _clock(data: bytes) -> tuple[str, str, dict[str, object]]:
    names = ("slot", "epochStartTimestamp", "epoch", "leaderScheduleEpoch", "unixTimestamp")
    return "sysvar", "clock", dict(zip(names, struct.unpack("<QqQQq", data), strict=True))


def _key(data: bytes, offset: int) -> str:
    return str(Pubkey(data[offset : offset + 32]))


def _maybe_key(data: bytes, offset: int) -> str | None:
    """Return a key behind a four-byte switch."""
    return _key(data, offset + 4) if data[offset : offset + 4] == b"\1\0\0\0" else None
