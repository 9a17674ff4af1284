"""Bundles: what is taken, the order of the auction, and what became of each. Pure."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from localnet.chain.prepared import Prepared, read, tips
from localnet.chain.records import BundleStatus, ChainRefusal
from markets.solana.transactions.tips import TIP_ACCOUNTS

MAX_TRANSACTIONS = 5
_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Auction:
    """How bundles get into a block."""

    bundles_per_block: int = 20
    """The others are outbid."""
    minimum_tip: int = 1_000
    """Lamports; a bundle that pays less is not taken (https://docs.jito.wtf, sendBundle)."""
    tip_accounts: frozenset[str] = frozenset(TIP_ACCOUNTS)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Transactions that land together and in this order, or not at all."""

    id: str
    transactions: tuple[Prepared, ...]
    tip: int
    """Lamports."""
    order: bytes
    """Breaks ties: the same for the same deed in every run."""

    @property
    def signatures(self) -> tuple[str, ...]:
        """Return each transaction's first signature."""
        return tuple(one.signature for one in self.transactions)


@dataclass(slots=True)
class Book:
    """Bundles that wait for the next block, and what became of the others."""

    waiting: dict[str, Bundle] = field(default_factory=dict)
    statuses: dict[str, BundleStatus] = field(default_factory=dict)
    _ids: deque[str] = field(default_factory=deque)

    def told(self, status: BundleStatus) -> None:
        """Keep a bundle's status; the oldest are forgotten."""
        if status.id not in self.statuses:
            self._ids.append(status.id)
        self.statuses[status.id] = status
        while len(self._ids) > _KEPT:
            self.statuses.pop(self._ids.popleft(), None)

    def by_tip(self) -> list[Bundle]:
        """Return the bundles that wait, the best first, and wait for others."""
        bundles = sorted(self.waiting.values(), key=lambda bundle: (-bundle.tip, bundle.order))
        self.waiting = {}
        return bundles


def read_bundle(raws: Sequence[bytes], auction: Auction) -> Bundle:
    """Read a bundle as a block engine does before it takes it.

    Raises:
        ChainRefusal: if it is malformed, not signed, or pays too little.
    """
    if not 1 <= len(raws) <= MAX_TRANSACTIONS:
        raise ChainRefusal("InvalidBundle", f"a bundle holds 1 to {MAX_TRANSACTIONS} transactions, not {len(raws)}")
    transactions = tuple(read(raw) for raw in raws)
    if len({one.message_hash for one in transactions}) < len(transactions):
        raise ChainRefusal("InvalidBundle", "a bundle holds no transaction twice")
    if not all(one.signed() for one in transactions):
        raise ChainRefusal("SignatureFailure", "a transaction of the bundle did not pass signature verification")
    tip = sum(tips(one.transaction, auction.tip_accounts) for one in transactions)
    if tip < max(auction.minimum_tip, 1):
        raise ChainRefusal(
            "InvalidBundle",
            f"a bundle must write lock a tip account and tip {auction.minimum_tip} lamports or more, not {tip}",
        )
    id_ = hashlib.sha256(",".join(one.signature for one in transactions).encode()).hexdigest()
    order = hashlib.sha256(b"".join(one.order for one in transactions)).digest()
    return Bundle(id_, transactions, tip, order)


def state_of(status: BundleStatus, landed: Mapping[str, int], queued: bool) -> BundleStatus:
    """Return a landed bundle's status as it is now, after forks.

    `landed` names the slot of each of its transactions that is on this fork, `queued` tells whether one may still come.
    """
    if status.state != "Landed":
        return status
    slots = {landed.get(signature) for signature in status.signatures}
    if None not in slots:
        return BundleStatus(status.id, status.signatures, "Landed", max(slot for slot in slots if slot is not None))
    if queued:
        return BundleStatus(status.id, status.signatures, "Pending", None, "taken back by a fork")
    return BundleStatus(status.id, status.signatures, "Failed", None, "taken back by a fork")
