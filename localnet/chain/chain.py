"""The chain: LiteSVM executes, and around it stands what a validator keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from solders.transaction import VersionedTransaction

from localnet.chain.blockhashes import MAX_AGE, Blockhashes
from localnet.chain.building import Building, stale
from localnet.chain.bundles import Auction, Book, Bundle, read_bundle, state_of
from localnet.chain.errors import in_words
from localnet.chain.execution import Execution
from localnet.chain.faults import ChainFaults
from localnet.chain.history import RECENT_SLOTS, History, Kept
from localnet.chain.prepared import Prepared, prepare, read
from localnet.chain.records import (
    Block,
    BundleStatus,
    ChainRefusal,
    Commitment,
    ErrorForm,
    Record,
    Simulated,
    Status,
)
from localnet.chain_view import CLOCK, FINAL_AFTER, ChainAccount, ChainView, account_of
from markets.solana.venues.shape import SYSTEM_PROGRAM

HISTORY_SLOTS = 20_000
"""How many slots of records are kept; more than two hours."""


@dataclass(slots=True)
class _Queued:
    prepared: Prepared
    due_slot: int


class Chain:
    """A chain in this process; nothing happens on it but by `produce`. For one thread."""

    def __init__(
        self,
        *,
        name: str,
        first_slot: int = 1,
        unix_time: int = 1_767_225_600,
        slot_ms: int = 400,
        auction: Auction | None = None,
        faults: ChainFaults | None = None,
        history_slots: int = HISTORY_SLOTS,
    ) -> None:
        """Begin with a genesis block at a slot; another name is another chain, with other blockhashes."""
        self.faults = faults or ChainFaults()
        self.auction = auction or Auction()
        self._first = (first_slot, unix_time)
        self._slot_ms = slot_ms
        self._vm = Execution()
        self._hashes = Blockhashes(name, first_slot, first_slot)
        self._history = History(history_slots)
        self._queue: dict[str, _Queued] = {}
        self._book = Book()
        self._building: Building | None = None
        self._highest = first_slot
        self._untold: dict[str, ChainAccount | None] = {}
        """What was last told of accounts that changed outside of a block."""
        self._vm.begin(first_slot, unix_time, self._hashes.seen_by_programs())
        self._vm.touched.clear()
        self.views = ChainView(
            name,
            self._vm.accounts,
            slot=first_slot,
            unix_time=unix_time,
            block_height=first_slot,
            blockhash=self._hashes.newest,
        )
        for address in sorted(self.auction.tip_accounts):
            self.put(address, account_of(SYSTEM_PROGRAM, b""))

    # What is

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

    def bundle(self, id_: str) -> BundleStatus | None:
        """Return what became of a bundle; None where none of this name was sent lately."""
        status = self._book.statuses.get(id_)
        if status is None:
            return None
        records = (self._history.record(signature) for signature in status.signatures)
        landed = {record.signature: record.slot for record in records if record is not None}
        return state_of(status, landed, any(signature in self._queue for signature in status.signatures))

    # What is put there

    def put(self, address: str, account: ChainAccount | None) -> None:
        """Have an account as if it had stood there from the beginning (None: taken away). For genesis and tests.

        Raises:
            ValueError: for an account without lamports, or while a block is made.
        """
        if self._building is not None:
            raise ValueError("a block is being made")
        if self._highest > self._first[0]:
            self._untold.setdefault(address, self._vm.accounts.get(address))
        self._vm.put(address, account)
        self.views.put(address, account)

    def add_program(self, address: str, elf: bytes) -> None:
        """Load a program, as if it had stood there from the beginning."""
        self.views.put(address, self._vm.add_program(address, elf))
        self._vm.touched.discard(address)

    # What is sent

    def simulate(
        self,
        transaction: VersionedTransaction,
        *,
        sig_verify: bool = False,
        replace_blockhash: bool = False,
        addresses: Sequence[str] = (),
    ) -> Simulated:
        """Tell what a transaction would do now; it need not be signed unless `sig_verify` asks for it.

        Raises:
            ChainRefusal: if it is malformed, or `sig_verify` finds a bad signature.
        """
        prepared = prepare(transaction)
        if sig_verify and not prepared.signed():
            raise _refusal("SignatureFailure")
        error = None if replace_blockhash else self._stale(prepared)
        replaced = self.latest_blockhash("processed") if replace_blockhash else None
        if error is not None:
            return Simulated(self.slot, error, (), 0, dict.fromkeys(addresses), (), None, None, replaced)
        trial = self._vm.simulate(transaction)
        accounts: dict[str, ChainAccount | None] = dict.fromkeys(addresses)
        if trial.error is None:
            after, now = trial.accounts, self._vm.accounts
            accounts = {address: after[address] if address in after else now.get(address) for address in addresses}
        return Simulated(
            self.slot,
            trial.error,
            trial.logs,
            trial.units,
            accounts,
            trial.inner,
            trial.return_data,
            trial.fee,
            replaced,
        )

    def send(self, raw: bytes, *, preflight: bool = True) -> str:
        """Queue a transaction for the next block; return its signature. Sent again while it waits, it waits once.

        Raises:
            ChainRefusal: if it is malformed, or its preflight fails. Without preflight it is just never heard of again.
        """
        prepared = read(raw)
        if preflight:
            tried = self.simulate(prepared.transaction, sig_verify=True)
            if tried.error is not None:
                raise ChainRefusal(tried.error, in_words(tried.error), logs=tried.logs, units=tried.units)
        slot = self._highest + 1
        if not self.faults.drops(slot, prepared.order):
            self._enqueue(prepared, slot + self.faults.delay(slot, prepared.order))
        return prepared.signature

    def send_bundle(self, raws: Sequence[bytes]) -> str:
        """Have a bundle compete for the next block; return its id.

        Raises:
            ChainRefusal: if it is malformed, pays no tip, holds a stale blockhash, or what was processed already.
        """
        bundle = read_bundle(raws, self.auction)
        for prepared in bundle.transactions:
            error = self._stale(prepared)
            if error is not None:
                raise ChainRefusal(error, f"bundle contains a transaction that cannot land: {in_words(error)}")
        self._book.waiting[bundle.id] = bundle
        self._book.told(BundleStatus(bundle.id, bundle.signatures, "Pending", None))
        return bundle.id

    # What happens

    def produce(self, unix_time: int | None = None, *, act: Callable[[], None] | None = None) -> Block:
        """Make the next slot's block: bundles by auction, what was sent by price, then what `act` executes.

        Where `act` raises, there is no block and the error goes on.
        """
        if self._building is not None:
            raise ValueError("a block is being made")
        slot = self._highest + 1
        first_slot, first_time = self._first
        time = first_time + (slot - first_slot) * self._slot_ms // 1000 if unix_time is None else unix_time
        forked: tuple[str, ...] = ()
        if self.faults.forks(slot):
            forked = self.rollback(self.faults.fork_slots)
        building = Building(Kept(slot, self.block_height + 1), time, self._vm, self._hashes, self._history)
        self._vm.begin(slot, time, self._hashes.seen_by_programs())
        self._building = building
        try:
            for place, bundle in enumerate(self._book.by_tip()):
                self._book.told(self._settle(bundle, place, building))
            self._run_queue(building)
            if act is not None:
                act()
        except BaseException:
            self._give_up()
            raise
        finally:
            self._building = None
        return self._close(building, forked)

    def execute(self, transaction: VersionedTransaction) -> Record:
        """Execute a transaction at the end of the block that is being made: for the traders that `act` calls.

        Raises:
            ChainRefusal: if it cannot land.
            ValueError: outside of `produce`.
        """
        if self._building is None:
            raise ValueError("no block is being made")
        prepared = prepare(transaction)
        if not prepared.signed():
            raise _refusal("SignatureFailure")
        return self._building.land(prepared)

    def rollback(self, slots: int) -> tuple[str, ...]:
        """Have a fork take back the newest blocks, as many of them as are not final; return their signatures.

        The accounts are as before those blocks; statuses, blockhashes and tips of theirs are gone. A share
        (`faults.returning`) of the transactions is queued again, each by itself. Slot numbers are not used twice.
        """
        if self._building is not None:
            raise ValueError("a block is being made")
        final = self._highest - FINAL_AFTER
        base = self.views.newest
        blocks = 0
        while blocks < slots and self.views.at(blocks).slot > max(final, self._first[0]):
            blocks += 1
        if blocks == 0:
            return ()
        base = self.views.take_back(blocks)
        self._hashes.take_back(blocks)
        taken = self._history.take_back(base.slot)
        touched = set().union(*(block.touched for block in taken))
        for address in touched:
            self._untold.setdefault(address, self._vm.accounts.get(address))
        self._vm.restore({address: base.accounts.get(address) for address in touched})
        self._vm.touched.clear()
        self._vm.begin(base.slot, base.unix_time, self._hashes.seen_by_programs())
        for block in taken:
            for record, order in zip(block.records, block.orders, strict=True):
                if self.faults.returns(record.slot, order):
                    self._enqueue(prepare(record.transaction), self._highest + 1)
        return tuple(record.signature for block in reversed(taken) for record in block.records)

    def _close(self, building: Building, forked: tuple[str, ...]) -> Block:
        """Make the block public."""
        kept, now, before = building.kept, self._vm.accounts, self.views.newest.accounts
        kept.touched = self._vm.touched.copy()
        self._vm.touched.clear()
        told = {address: before.get(address) for address in kept.touched} | self._untold
        self._untold.clear()
        written = {address: now.get(address) for address in sorted(told) if now.get(address) != told[address]}
        # After a fork an account can be what was last told and yet differ from the block below.
        changes = written | {address: now.get(address) for address in told if now.get(address) != before.get(address)}
        blockhash = self._hashes.add(kept.slot, kept.block_height)
        self.views.advance(
            kept.slot, building.unix_time, changes.items(), block_height=kept.block_height, blockhash=blockhash
        )
        self._history.add(kept)
        self._highest = kept.slot
        written[CLOCK] = now[CLOCK]
        return Block(kept.slot, kept.block_height, building.unix_time, blockhash, tuple(kept.records), written, forked)

    def _give_up(self) -> None:
        """Bring everything back to the newest block."""
        newest = self.views.newest
        self._vm.restore({address: newest.accounts.get(address) for address in self._vm.touched.copy()})
        self._vm.touched.clear()
        self._vm.begin(newest.slot, newest.unix_time, self._hashes.seen_by_programs())

    def _settle(self, bundle: Bundle, place: int, building: Building) -> BundleStatus:
        """Run a bundle of the auction, or tell why not."""
        slot = building.kept.slot
        if self.faults.loses(slot, bundle.order):
            return BundleStatus(bundle.id, bundle.signatures, "Invalid", None, "lost")
        if place >= self.auction.bundles_per_block:
            return BundleStatus(bundle.id, bundle.signatures, "Failed", None, "outbid")
        try:
            building.land_bundle(bundle)
        except ChainRefusal as refusal:
            return BundleStatus(bundle.id, bundle.signatures, "Failed", None, str(refusal))
        return BundleStatus(bundle.id, bundle.signatures, "Landed", slot)

    def _run_queue(self, building: Building) -> None:
        slot = building.kept.slot
        due = [queued for queued in self._queue.values() if queued.due_slot <= slot]
        due.sort(key=lambda queued: (-queued.prepared.micro_lamports, queued.prepared.order))
        for queued in due:
            del self._queue[queued.prepared.signature]
            # A leader tells nobody either what it does not take: the sender sees that no status comes.
            if queued.prepared.signed():
                with contextlib.suppress(ChainRefusal):
                    building.land(queued.prepared)

    def _stale(self, prepared: Prepared) -> ErrorForm | None:
        return stale(prepared, self.block_height, self._hashes, self._history)

    def _enqueue(self, prepared: Prepared, due_slot: int) -> None:
        queued = self._queue.get(prepared.signature)
        if queued is None:
            self._queue[prepared.signature] = _Queued(prepared, due_slot)
        else:
            queued.due_slot = min(queued.due_slot, due_slot)


def _refusal(error: ErrorForm) -> ChainRefusal:
    return ChainRefusal(error, in_words(error))
