"""What the simulated chain's accounts are at its last slots, as a node serves them. Pure: told slot by slot."""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import base58

CLOCK = "SysvarC1ock11111111111111111111111111111111"
SYSVAR_OWNER = "Sysvar1111111111111111111111111111111111111"
SLOTS_PER_EPOCH = 432_000
KEPT_SLOTS = 300
"""How far back a node that is behind can be."""
CONFIRMED_AFTER = 1
"""Slots until a block counts as confirmed; https://solana.com/docs/rpc#configuring-state-commitment says what it is."""
FINAL_AFTER = 32
"""Slots until a block is final: no fork takes it back any more."""
RENT_EPOCH = 18_446_744_073_709_551_615


Commitment = Literal["processed", "confirmed", "finalized"]
_DEPTH: Mapping[Commitment, int] = {"processed": 0, "confirmed": CONFIRMED_AFTER, "finalized": FINAL_AFTER}


@dataclass(frozen=True, slots=True)
class ChainAccount:
    """One account of the simulated chain."""

    owner: str
    data: bytes
    lamports: int
    executable: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """All accounts as they stood at one slot."""

    slot: int
    unix_time: int
    accounts: Mapping[str, ChainAccount]
    changed: frozenset[str]
    """Those that this slot wrote, or that differ because a fork took blocks back."""
    block_height: int = 0
    blockhash: str = ""


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

    def __init__(
        self,
        market: str,
        fixed: Mapping[str, ChainAccount],
        *,
        slot: int = 0,
        unix_time: int = 0,
        block_height: int = 0,
        blockhash: str = "",
    ) -> None:
        """Begin at a slot with the accounts that are there from the start."""
        self.genesis = genesis_hash(market)
        beginning = View(slot, unix_time, dict(fixed), frozenset(), block_height, blockhash)
        self._views: deque[View] = deque([beginning], maxlen=KEPT_SLOTS)
        self._highest = slot

    @property
    def newest(self) -> View:
        """Return the newest slot."""
        return self._views[-1]

    def at(self, behind: int = 0) -> View:
        """Return the view of a node that is so many slots behind, as far as they are kept."""
        return self._views[max(0, len(self._views) - 1 - behind)]

    def by(self, commitment: Commitment, behind: int = 0) -> View:
        """Return what a node that is so many slots behind tells at a commitment.

        Slots of blocks that a fork took back count as gone by: what was final stays final.
        """
        last = self._highest - behind - _DEPTH[commitment]
        return next((view for view in reversed(self._views) if view.slot <= last), self._views[0])

    def advance(
        self,
        slot: int,
        unix_time: int,
        written: Iterable[tuple[str, ChainAccount | None]],
        *,
        block_height: int | None = None,
        blockhash: str = "",
    ) -> View:
        """Go on to a slot that wrote some accounts (None: closed); the Clock is always written.

        Raises:
            ValueError: if the slot was there already, on this fork or on one that was given up.
        """
        before = self.newest
        if slot <= self._highest:
            raise ValueError(f"slot {slot} does not come after {self._highest}")
        # A copy of references only: accounts are values.
        accounts = dict(before.accounts)
        changed = {CLOCK}
        for address, account in written:
            if account is None:
                accounts.pop(address, None)
            else:
                accounts[address] = account
            changed.add(address)
        accounts[CLOCK] = clock_account(slot, unix_time)
        height = slot if block_height is None else block_height
        view = View(slot, unix_time, accounts, frozenset(changed), height, blockhash)
        self._views.append(view)
        self._highest = slot
        return view

    def take_back(self, blocks: int) -> View:
        """Forget the newest blocks, which a fork gave up; return what is the newest now.

        Raises:
            ValueError: if one of them is final.
        """
        final = self.by("finalized")
        if blocks >= len(self._views) or self._views[-1 - blocks].slot < final.slot:
            raise ValueError(f"{blocks} blocks back is behind slot {final.slot}, which is final")
        for _ in range(blocks):
            self._views.pop()
        return self.newest

    def put(self, address: str, account: ChainAccount | None) -> None:
        """Have an account as if it had stood there from the beginning (None: as if it had never been)."""
        for number, view in enumerate(self._views):
            accounts = dict(view.accounts)
            if account is None:
                accounts.pop(address, None)
            else:
                accounts[address] = account
            self._views[number] = View(
                view.slot, view.unix_time, accounts, view.changed, view.block_height, view.blockhash
            )
