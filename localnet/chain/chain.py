"""The chain: LiteSVM executes, and around it stands what a validator keeps."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence

from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from localnet.chain.building import Building, stale
from localnet.chain.bundles import Auction, Bundle, read_bundle
from localnet.chain.errors import in_words
from localnet.chain.faults import ChainFaults
from localnet.chain.history import Kept
from localnet.chain.prepared import Prepared, prepare, read
from localnet.chain.reads import ChainReads, Queued
from localnet.chain.records import Block, BundleStatus, ChainRefusal, ErrorForm, Record, Simulated
from localnet.chain_view import CLOCK, FINAL_AFTER, ChainAccount, account_of
from markets.solana.venues.shape import SYSTEM_PROGRAM

HISTORY_SLOTS = 10_000
"""How many slots of records are kept; more than an hour, and some 200 MB where a slot has four swaps."""
FAUCET_LAMPORTS = 10**17
"""What airdrops are paid from."""


class Chain(ChainReads):
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
        super().__init__(name, first_slot, unix_time, history_slots)
        self.faults = faults or ChainFaults()
        self.auction = auction or Auction()
        self._first = (first_slot, unix_time)
        self._slot_ms = slot_ms
        self._building: Building | None = None
        self._faucet = Keypair.from_seed(hashlib.sha256(f"faucet of {name}".encode()).digest())
        self.put(str(self._faucet.pubkey()), account_of(SYSTEM_PROGRAM, b"", FAUCET_LAMPORTS))
        for address in sorted(self.auction.tip_accounts):
            self.put(address, account_of(SYSTEM_PROGRAM, b""))

    # What is put there

    def put(self, address: str, account: ChainAccount | None) -> None:
        """Have an account as if it had stood there from the beginning (None: taken away). For genesis and tests.

        Inside `produce` it belongs to the block that is being made, and goes with it when a fork takes that back.

        Raises:
            ValueError: for an account without lamports.
        """
        before = self._vm.accounts.get(address)
        self._vm.put(address, account)
        if self._building is not None:
            self._vm.touched.add(address)
            return
        if self._highest > self._first[0]:
            self._untold.setdefault(address, before)
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
        elif not prepared.signed() or self._stale(prepared) is not None:
            return prepared.signature
        slot = self._highest + 1
        if not self.faults.drops(slot, prepared.order):
            self._enqueue(prepared, slot + self.faults.delay(slot, prepared.order))
        return prepared.signature

    def airdrop(self, address: str, lamports: int) -> str:
        """Have the faucet send lamports in the next block; return the signature.

        Raises:
            ChainRefusal: if the same was asked for in this slot and has landed, or would leave too little for rent.
        """
        payer, to = self._faucet.pubkey(), Pubkey.from_string(address)
        instruction = transfer(TransferParams(from_pubkey=payer, to_pubkey=to, lamports=lamports))
        blockhash = Hash.from_string(self.latest_blockhash("processed")[0])
        message = MessageV0.try_compile(payer, [instruction], [], blockhash)
        return self.send(bytes(VersionedTransaction(message, [self._faucet])))

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
            height = self.block_height
            forked = self.rollback(self.faults.fork_slots)
            self.faults.happened["fork"] += self.block_height < height
        building = Building(Kept(slot, self.block_height + 1), time, self._vm, self._hashes, self._history)
        self._vm.begin(slot, time, self._hashes.before(slot))
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
        self._vm.begin(base.slot, base.unix_time, self._hashes.before(base.slot))
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
        self._vm.begin(newest.slot, newest.unix_time, self._hashes.before(newest.slot))

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
            with contextlib.suppress(ChainRefusal):
                building.land(queued.prepared)

    def _stale(self, prepared: Prepared) -> ErrorForm | None:
        return stale(prepared, self.block_height, self._hashes, self._history)

    def _enqueue(self, prepared: Prepared, due_slot: int) -> None:
        queued = self._queue.get(prepared.signature)
        if queued is None:
            self._queue[prepared.signature] = Queued(prepared, due_slot)
        else:
            queued.due_slot = min(queued.due_slot, due_slot)


def _refusal(error: ErrorForm) -> ChainRefusal:
    return ChainRefusal(error, in_words(error))
