"""What is known of each pool, and what one read makes of it. Pure.

A pool's state is always of one read: every account that swaps change, as it stood at one slot. Notifications say that a
pool changed and nothing else: they come account by account, and a pool put together from them could be half of one
moment and half of another, which prices it wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from markets.limits import NS_PER_S, Clock
from markets.solana.rpc.accounts import MAX_ACCOUNTS, AccountInfo, AccountsAt
from markets.solana.venues import VENUES, BadAccount, Needed, Refresh, Venue
from pipeline.messages import Protocol

MAX_GROUP = MAX_ACCOUNTS - 1
"""Accounts of one pool that can be read at once: the Clock comes along."""

RawAccount = tuple[str, str, bytes, int]
"""Address, owner, data, lamports."""


@dataclass(frozen=True, slots=True)
class WatchedPool:
    """A pool to be kept fresh."""

    address: str
    protocol: Protocol
    program: str


@dataclass(frozen=True, slots=True)
class PoolRead:
    """A pool's accounts as one read found them."""

    address: str
    protocol: Protocol
    slot: int
    """The first slot at which it was seen to be so."""
    unix_time: int
    accounts: tuple[RawAccount, ...]
    """The pool's own first."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Another state than before."""

    state: PoolRead


@dataclass(frozen=True, slots=True)
class Same:
    """The state was confirmed."""

    pool: str


@dataclass(frozen=True, slots=True)
class Void:
    """What was read is no pool that can be used; said once per reason."""

    pool: str
    protocol: Protocol
    slot: int
    reason: str


@dataclass(frozen=True, slots=True)
class Again:
    """The pool needs other accounts than were read: its price has moved on. Read it again."""

    pool: str


@dataclass(frozen=True, slots=True)
class Older:
    """The read is of an older slot than what is known; it changes nothing."""

    pool: str


Outcome = Changed | Same | Void | Again | Older


@dataclass(slots=True)
class _Fixed:
    """A mint or a configuration: read seldom, shared by pools."""

    slot: int
    read_ns: int
    account: AccountInfo | None


@dataclass(slots=True)
class _Known:
    pool: WatchedPool
    venue: Venue
    needed: tuple[Needed, ...] = ()
    slot: int = -1
    """Of the newest read."""
    least_slot: int = 0
    """A notification told of a change at this slot: an older read is no use."""
    state: PoolRead | None = None
    void: str = ""
    used: frozenset[str] = frozenset()
    listened: frozenset[str] = frozenset()


class PoolBook:
    """The pools that are kept fresh."""

    def __init__(self, *, fixed_s: float, clock: Clock) -> None:
        """`fixed_s` is how often mints and configurations are read again."""
        self.version = 0
        """Counts up whenever the accounts change that should be listened to."""
        self._fixed_ns = int(fixed_s * NS_PER_S)
        self._clock = clock
        self._pools: dict[str, _Known] = {}
        self._fixed: dict[str, _Fixed] = {}
        self._users: dict[str, set[str]] = {}

    def __len__(self) -> int:
        """Return how many pools there are."""
        return len(self._pools)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the pools' addresses."""
        return iter(self._pools)

    def add(self, pool: WatchedPool) -> bool:
        """Take a pool in; False where it is there already, or of a venue that nobody knows."""
        venue = VENUES.get(pool.protocol)
        if venue is None or pool.address in self._pools:
            return False
        self._pools[pool.address] = known = _Known(pool, venue)
        self._listen(known)
        return True

    def remove(self, address: str) -> None:
        """Let a pool go."""
        known = self._pools.pop(address, None)
        if known is not None:
            self._use(known, set())
            self.version += 1

    def slow(self, address: str) -> bool:
        """Tell whether a pool needs to be read seldom while its changes are told."""
        return self._pools[address].venue.REFRESH is not Refresh.CONSTANT_PRODUCT

    # What is read and listened to

    def group(self, address: str) -> list[str]:
        """Return the accounts to read of a pool now: its own, those that swaps change, and fixed ones that are due."""
        known = self._pools[address]
        now = self._clock()
        due = [need.address for need in known.needed if need.moves or self._fixed_due(need.address, now)]
        return [address, *due]

    def listened(self, address: str) -> frozenset[str]:
        """Return the accounts whose notifications tell of a pool's changes."""
        return self._pools[address].listened

    def all_listened(self) -> list[str]:
        """Return the accounts to subscribe to, those of one pool after those of another: all of a pool or none."""
        return list(dict.fromkeys(one for known in self._pools.values() for one in sorted(known.listened)))

    def least_slot(self, pools: Iterable[str]) -> int:
        """Return the slot that a read of these pools must not be older than."""
        return max((self._pools[pool].least_slot for pool in pools if pool in self._pools), default=0)

    def forget_least_slot(self, pools: Iterable[str]) -> None:
        """Ask for no slot in particular: a read that did so failed, and perhaps nobody will ever get there."""
        for pool in pools:
            if pool in self._pools:
                self._pools[pool].least_slot = 0

    def notified(self, account: str, slot: int, info: AccountInfo | None) -> list[str]:
        """Return the pools that an account's notification tells of a change of."""
        changed = []
        for address in sorted(self._users.get(account, ())):
            known = self._pools[address]
            if slot <= known.slot:
                continue  # the newest read has seen it
            if known.state is not None and known.slot >= known.least_slot and _as_read(known.state, account, info):
                continue
            known.least_slot = max(known.least_slot, slot)
            changed.append(address)
        if (fixed := self._fixed.get(account)) is not None and fixed.slot < slot:
            fixed.read_ns = self._clock() - self._fixed_ns - 1
        return changed

    # What a read says

    def read(self, address: str, at: AccountsAt, unix_time: int) -> Outcome:
        """Take over what a read of a pool's `group` found."""
        known = self._pools[address]
        if at.slot < max(known.slot, known.least_slot):
            return Older(address)
        try:
            own = at.accounts[address]
            if own is None:
                return self._void(known, at.slot, "account_closed: the pool does not exist")
            if own.owner not in known.venue.PROGRAMS:
                return self._void(known, at.slot, f"wrong_owner: the pool belongs to {own.owner}")
            found = self._found(known, at)
            needed = known.venue.accounts_needed(address, own.data, found)
        except BadAccount as bad:
            return self._void(known, at.slot, f"{bad.reason}: {bad}")
        if len(needed) > MAX_GROUP - 1:
            return self._void(known, at.slot, f"too_many_accounts: {len(needed)} cannot be read at one slot")
        if needed != known.needed:
            known.needed = needed
            self._listen(known)
        self._keep_fixed(known, at)
        if any(need.address not in at.accounts for need in needed if need.moves or need.address not in self._fixed):
            return Again(address)
        accounts = [(own.address, own.owner, own.data, own.lamports)]
        for need in needed:
            info = at.accounts.get(need.address) if need.address in at.accounts else self._fixed[need.address].account
            if info is not None and info.owner in need.owners:
                accounts.append((info.address, info.owner, info.data, info.lamports))
            elif not need.may_be_absent:
                what = "does not exist" if info is None else f"belongs to {info.owner}"
                reason = "missing_account" if info is None else "wrong_owner"
                return self._void(known, at.slot, f"{reason}: {need.role} {need.address} {what}")
        known.slot, known.least_slot, known.void = at.slot, 0, ""
        before = known.state
        if before is not None and before.accounts == tuple(accounts):
            return Same(address)
        known.state = PoolRead(address, known.pool.protocol, at.slot, unix_time, tuple(accounts))
        return Changed(known.state)

    def _void(self, known: _Known, slot: int, reason: str) -> Outcome:
        known.slot, known.least_slot, known.state = slot, 0, None
        if known.void == reason:
            return Same(known.pool.address)
        known.void = reason
        return Void(known.pool.address, known.pool.protocol, slot, reason)

    def _found(self, known: _Known, at: AccountsAt) -> Mapping[str, tuple[str, bytes]]:
        """Return what this read and the fixed accounts tell, for a venue that looks before it says what it needs."""
        found = {
            need.address: (fixed.account.owner, fixed.account.data)
            for need in known.needed
            if (fixed := self._fixed.get(need.address)) is not None and fixed.account is not None
        }
        for address in (known.pool.address, *(need.address for need in known.needed)):
            info = at.accounts.get(address)
            if info is not None:
                found[address] = (info.owner, info.data)
        return found

    def _fixed_due(self, account: str, now_ns: int) -> bool:
        fixed = self._fixed.get(account)
        return fixed is None or now_ns - fixed.read_ns > self._fixed_ns

    def _keep_fixed(self, known: _Known, at: AccountsAt) -> None:
        """Note what a read told of accounts that do not move."""
        now = self._clock()
        for need in known.needed:
            if need.moves or need.address not in at.accounts:
                continue
            held = self._fixed.get(need.address)
            if held is None or held.slot <= at.slot:
                self._fixed[need.address] = _Fixed(at.slot, now, at.accounts[need.address])

    def _listen(self, known: _Known) -> None:
        """Note which accounts a pool uses, and which of them tell of its changes."""
        used = {known.pool.address, *(need.address for need in known.needed)}
        self._use(known, used)
        # A mint changes with every token minted, and nothing of that matters here.
        known.listened = frozenset(used - {need.address for need in known.needed if need.role == "mint"})
        self.version += 1

    def _use(self, known: _Known, used: set[str]) -> None:
        for account in known.used - used:
            self._users[account].discard(known.pool.address)
            if not self._users[account]:
                del self._users[account]
                self._fixed.pop(account, None)
        for account in used - known.used:
            self._users.setdefault(account, set()).add(known.pool.address)
        known.used = frozenset(used)


def _as_read(state: PoolRead, account: str, info: AccountInfo | None) -> bool:
    """Tell whether an account is as the state has it."""
    held = next((one for one in state.accounts if one[0] == account), None)
    if held is None or info is None:
        return held is None and info is None
    return held == (info.address, info.owner, info.data, info.lamports)
