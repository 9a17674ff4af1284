"""What the chain tells: accounts, blockhashes, statuses, history, fees. Nothing here changes it."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from localnet.chain.blockhashes import MAX_AGE, Blockhashes
from localnet.chain.bundles import Book, state_of
from localnet.chain.execution import Execution
from localnet.chain.history import RECENT_SLOTS, History
from localnet.chain.prepared import Prepared
from localnet.chain.records import BundleStatus, Commitment, Record, Status
from localnet.chain_view import ChainAccount, ChainView


@dataclass(slots=True)
class Queued:
    """A transaction that waits for a block; its signatures are good."""

    prepared: Prepared
    due_slot: int


class ChainReads:
    """The readable half of a chain."""

    def __init__(self, name: str, first_slot: int, unix_time: int, history_slots: int) -> None:
        """Begin with a genesis block that holds the built-in programs."""
        self._vm = Execution()
        self._hashes = Blockhashes(name, first_slot, first_slot)
        self._history = History(history_slots, first_slot)
        self._queue: dict[str, Queued] = {}
        self._book = Book()
        self._highest = first_slot
        """The newest slot of any fork."""
        self._untold: dict[str, ChainAccount | None] = {}
        """What was last told of accounts that changed outside of a block."""
        self._vm.begin(first_slot, unix_time, self._hashes.before(first_slot))
        self._vm.touched.clear()
        self.views = ChainView(
            name,
            self._vm.accounts,
            slot=first_slot,
            unix_time=unix_time,
            block_height=first_slot,
            blockhash=self._hashes.newest,
        )

    @property
    def slot(self) -> int:
        """Return the newest slot of this fork."""
        return self.views.newest.slot

    @property
    def block_height(self) -> int:
        """Return the newest block's height."""
        return self.views.newest.block_height

    @property
    def unix_time(self) -> int:
        """Return the newest block's time, s."""
        return self.views.newest.unix_time

    @property
    def genesis_hash(self) -> str:
        """Return what names this chain."""
        return self.views.genesis

    def account(self, address: str, commitment: Commitment = "processed") -> ChainAccount | None:
        """Return an account; `processed` inside `produce` is as the transactions so far have left it."""
        if commitment == "processed":
            return self._vm.accounts.get(address)
        return self.views.by(commitment).accounts.get(address)

    @property
    def dirty(self) -> Set[str]:
        """Return the addresses that may differ from what the last block told: for those who act inside `produce`."""
        return self._vm.touched | self._untold.keys()

    def latest_blockhash(self, commitment: Commitment = "finalized") -> tuple[str, int]:
        """Return a blockhash, and the last block height at which a transaction with it can land."""
        view = self.views.by(commitment)
        return view.blockhash, view.block_height + MAX_AGE

    def blockhash_valid(self, blockhash: str) -> bool:
        """Tell whether a blockhash is of this fork and not too old."""
        last = self._hashes.last_valid(blockhash)
        return last is not None and self.block_height <= last

    def status(self, signature: str, *, history: bool = False) -> Status | None:
        """Return where a transaction stands; without `history` only if it is of the last 150 slots."""
        record = self._history.record(signature)
        if record is None or (not history and record.slot <= self._highest - RECENT_SLOTS):
            return None
        if record.slot <= self.views.by("finalized").slot:
            return Status(record.slot, None, record.error, "finalized")
        confirmed = record.slot <= self.views.by("confirmed").slot
        on_top = self.block_height - record.block_height
        return Status(record.slot, on_top, record.error, "confirmed" if confirmed else "processed")

    @property
    def first_record_slot(self) -> int:
        """Return the slot from which on every transaction is still told."""
        return self._history.first_slot

    def record(self, signature: str, commitment: Commitment = "finalized") -> Record | None:
        """Return a transaction of a block at a commitment or beyond it."""
        record = self._history.record(signature)
        return record if record is not None and record.slot <= self.views.by(commitment).slot else None

    def signatures(
        self,
        address: str,
        *,
        before: str | None = None,
        until: str | None = None,
        limit: int = 1000,
        commitment: Commitment = "finalized",
    ) -> list[Record]:
        """Return the transactions that named an account, newest first.

        Older than the one `before` (unknown: none at all), newer than the one `until` (unknown: all).
        """
        last = self.views.by(commitment).slot
        return self._history.of(address, before=before, until=until, limit=limit, last_slot=last)

    def fee_samples(self, addresses: Sequence[str] = ()) -> list[tuple[int, int]]:
        """Return (slot, micro-lamports per compute unit) of recent slots: what it took to write accounts."""
        return self._history.fee_samples(addresses, self._highest)

    def landed_tips(self) -> list[int]:
        """Return what the bundles that landed in the last 150 slots paid, lamports, oldest first."""
        return self._history.tips(self._highest)

    def queued(self, signature: str) -> bool:
        """Tell whether a transaction that was sent by itself waits for its block."""
        return signature in self._queue

    def bundle(self, id_: str) -> BundleStatus | None:
        """Return what became of a bundle; None where none of this name was sent lately."""
        status = self._book.statuses.get(id_)
        if status is None:
            return None
        records = (self._history.record(signature) for signature in status.signatures)
        landed = {record.signature: record.slot for record in records if record is not None}
        return state_of(status, landed, any(signature in self._queue for signature in status.signatures))
