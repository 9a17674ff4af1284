"""What the simulated chain's accounts are at its last slots, as a node serves them. Pure: told slot by slot."""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import base58

CLOCK = "SysvarC1ock11111111111111111111111111111111"
SYSVAR_OWNER = "Sysvar1111111111111111111111111111111111111"
SLOTS_PER_EPOCH = 432_000
KEPT_SLOTS = 300
"""How far back a node that is behind can be."""
RENT_EPOCH = 18_446_744_073_709_551_615


@dataclass(frozen=True, slots=True)
class ChainAccount:
    """One account of the simulated chain."""

    owner: str
    data: bytes
    lamports: int


@dataclass(frozen=True, slots=True)
class View:
    """All accounts as they stood at one slot."""

    slot: int
    unix_time: int
    accounts: Mapping[str, ChainAccount]
    changed: frozenset[str]
    """Those that this slot wrote."""


def account_of(owner: str, data: bytes, lamports: int = 0) -> ChainAccount:
    """Return an account; without a balance of its own it holds what rent asks for."""
    # https://solana.com/docs/core/accounts: two years of rent for the bytes and 128 more.
    return ChainAccount(owner, data, lamports or (len(data) + 128) * 6_960)


def clock_account(slot: int, unix_time: int) -> ChainAccount:
    """Return the Clock sysvar: slot, start of the epoch, epoch, leader schedule's epoch, time."""
    epoch = slot // SLOTS_PER_EPOCH
    start = unix_time - (slot % SLOTS_PER_EPOCH) * 2 // 5
    return account_of(SYSVAR_OWNER, struct.pack("<QqQQq", slot, start, epoch, epoch + 1, unix_time), 1_169_280)


def mint_account(decimals: int, token_program: str) -> ChainAccount:
    """Return an SPL mint with no authorities and a made-up supply."""
    data = bytearray(82)
    struct.pack_into("<QBB", data, 36, 10**15, decimals, 1)
    return account_of(token_program, bytes(data))


def genesis_hash(market: str) -> str:
    """Return what the simulated chain calls its genesis: another market is another chain."""
    name: str = base58.b58encode(hashlib.sha256(f"simulated/{market}".encode()).digest()).decode()
    return name


class ChainView:
    """The newest slots of the chain; several nodes may serve one."""

    def __init__(self, market: str, fixed: Mapping[str, ChainAccount]) -> None:
        """Begin at slot 0 with the accounts that never change."""
        self.genesis = genesis_hash(market)
        self._views: deque[View] = deque([View(0, 0, dict(fixed), frozenset())], maxlen=KEPT_SLOTS)

    @property
    def newest(self) -> View:
        """Return the newest slot."""
        return self._views[-1]

    def at(self, behind: int = 0) -> View:
        """Return the view of a node that is so many slots behind, as far as they are kept."""
        return self._views[max(0, len(self._views) - 1 - behind)]

    def advance(self, slot: int, unix_time: int, written: Iterable[tuple[str, ChainAccount | None]]) -> View:
        """Go on to a slot that wrote some accounts (None: closed); the Clock is always written."""
        before = self.newest
        if slot <= before.slot:
            raise ValueError(f"slot {slot} does not come after {before.slot}")
        accounts = dict(before.accounts)
        changed = {CLOCK}
        for address, account in written:
            if account is None:
                accounts.pop(address, None)
            else:
                accounts[address] = account
            changed.add(address)
        accounts[CLOCK] = clock_account(slot, unix_time)
        view = View(slot, unix_time, accounts, frozenset(changed))
        self._views.append(view)
        return view
