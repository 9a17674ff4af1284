"""Accounts as the RPC gives them: read with suspicion, and asked for in calls that are not too large. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_ACCOUNTS = 100
"""Most accounts of one getMultipleAccounts call: https://solana.com/docs/rpc/http/getmultipleaccounts"""
MAX_ACCOUNT_BYTES = 10 * 1024 * 1024
_ADDRESS = frozenset("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")


class Malformed(ValueError):
    """A value that is not what the method's answer holds; says which part."""


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """One account at some slot."""

    address: str
    owner: str
    lamports: int
    data: bytes


@dataclass(frozen=True, slots=True)
class AccountsAt:
    """What one call told of some accounts: all as they stood at one slot."""

    slot: int
    accounts: Mapping[str, AccountInfo | None]
    """None where there is no account."""


def context_slot(result: Any) -> int:
    """Return the slot an answer is of.

    Raises:
        Malformed: if it does not say so.
    """
    context = result.get("context") if isinstance(result, dict) else None
    slot = context.get("slot") if isinstance(context, dict) else None
    if type(slot) is not int or not 0 <= slot < 1 << 63:
        raise Malformed("it names no slot")
    return slot


def slot_number(result: Any) -> int:
    """Return a result that is a slot."""
    if type(result) is not int or not 0 <= result < 1 << 63:
        raise Malformed("it is no slot")
    return result


def account(address: str, value: Any) -> AccountInfo | None:
    """Read one account of an answer with base64 data; None where it does not exist."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Malformed("an account is no object")
    owner, lamports, data = value.get("owner"), value.get("lamports"), value.get("data")
    if not isinstance(owner, str) or not is_address(owner) or type(lamports) is not int or lamports < 0:
        raise Malformed("an account has no owner or no balance")
    if not isinstance(data, list) or len(data) != 2 or data[1] != "base64" or not isinstance(data[0], str):
        raise Malformed("an account's data is not base64")
    if len(data[0]) > MAX_ACCOUNT_BYTES * 4 // 3 + 4:
        raise Malformed("an account is larger than there are")
    try:
        raw = base64.b64decode(data[0], validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("an account's data is not base64") from None
    space = value.get("space")
    if type(space) is int and space < len(raw):
        raise Malformed("an account holds more than its space")
    return AccountInfo(address, owner, lamports, raw)


def accounts_at(addresses: Sequence[str], result: Any) -> AccountsAt:
    """Read the answer of getMultipleAccounts."""
    slot = context_slot(result)
    values = result.get("value")
    if not isinstance(values, list) or len(values) != len(addresses):
        raise Malformed(f"it does not hold {len(addresses)} accounts")
    found = {address: account(address, value) for address, value in zip(addresses, values, strict=True)}
    return AccountsAt(slot, found)


def program_accounts(result: Any) -> AccountsAt:
    """Read the answer of getProgramAccounts with its context."""
    slot = context_slot(result)
    values = result.get("value")
    if not isinstance(values, list):
        raise Malformed("it holds no list of accounts")
    found: dict[str, AccountInfo | None] = {}
    for value in values:
        address = value.get("pubkey") if isinstance(value, dict) else None
        if not isinstance(address, str) or not is_address(address):
            raise Malformed("an account has no address")
        read = account(address, value.get("account"))
        if read is None:
            raise Malformed("an account that was found does not exist")
        found[address] = read
    return AccountsAt(slot, found)


def is_address(value: Any) -> bool:
    """Tell whether a value looks like a public key in base58."""
    return isinstance(value, str) and 32 <= len(value) <= 44 and _ADDRESS.issuperset(value)


def packed(groups: Iterable[Sequence[str]], limit: int = MAX_ACCOUNTS) -> list[list[Sequence[str]]]:
    """Return groups of accounts in as few calls as come of filling one after the other; a group is never split.

    A group stays whole because all its accounts are to be of one slot. Accounts that groups of a call share count once.
    """
    calls: list[list[Sequence[str]]] = []
    held: set[str] = set()
    for group in groups:
        if len(set(group)) > limit:
            raise ValueError(f"{len(set(group))} accounts cannot be read in one call of {limit}")
        if not calls or len(held | set(group)) > limit:
            calls.append([])
            held = set()
        calls[-1].append(group)
        held |= set(group)
    return calls
