"""What the chain remembers: blocks and their records, by signature and by account, fees and tips. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from localnet.chain.blockhashes import MAX_AGE
from localnet.chain.records import Record

RECENT_SLOTS = 150
"""How far back a status is told without searching the history, and how far fee samples and tips go."""


@dataclass(slots=True)
class Kept:
    """One block, with what is asked of it later."""

    slot: int
    block_height: int
    records: list[Record] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    """Addresses that it wrote."""
    hashes: list[bytes] = field(default_factory=list)
    """Message hashes and ordering hashes of its records."""
    orders: list[bytes] = field(default_factory=list)
    tips: list[int] = field(default_factory=list)
    lowest_price: int = 0
    prices: dict[str, int] = field(default_factory=dict)
    """Lowest price of a compute unit by written account, micro-lamports."""

    def add(self, record: Record, message_hash: bytes, order: bytes, price: int, writable: Iterable[str]) -> None:
        """Take a record in."""
        self.lowest_price = price if not self.records else min(self.lowest_price, price)
        self.records.append(record)
        self.hashes.append(message_hash)
        self.orders.append(order)
        for address in writable:
            self.prices[address] = min(price, self.prices.get(address, price))


class History:
    """The blocks of this fork, newest last, and indexes over them."""

    def __init__(self, slots: int, first_slot: int) -> None:
        """Keep the blocks of so many slots, from a first one on."""
        self._slots = max(slots, RECENT_SLOTS)
        self.first_slot = first_slot
        """No block of this slot or a later one was let go."""
        self._blocks: deque[Kept] = deque()
        self._by_signature: dict[str, Record] = {}
        self._by_address: dict[str, deque[Record]] = {}
        self._hashes: set[bytes] = set()

    def __contains__(self, message_hash: bytes) -> bool:
        """Tell whether a message was processed, well or not."""
        return message_hash in self._hashes

    def add(self, block: Kept) -> None:
        """Take a block in; let go of those that are too old."""
        self._blocks.append(block)
        self._hashes.update(block.hashes)
        for record in block.records:
            self._by_signature[record.signature] = record
            for key in record.keys:
                self._by_address.setdefault(key, deque()).append(record)
        # What a valid blockhash could still repeat is kept in any case: forks let slots pass without blocks.
        while (
            self._blocks[0].slot <= block.slot - self._slots
            and self._blocks[0].block_height < block.block_height - MAX_AGE
        ):
            self.first_slot = self._blocks[0].slot + 1
            self._forget(self._blocks.popleft())

    def take_back(self, last_slot: int) -> list[Kept]:
        """Take out all blocks after a slot, newest first."""
        taken = []
        while self._blocks and self._blocks[-1].slot > last_slot:
            block = self._blocks.pop()
            taken.append(block)
            self._hashes.difference_update(block.hashes)
            for record in reversed(block.records):
                del self._by_signature[record.signature]
                for key in reversed(record.keys):
                    self._by_address[key].pop()
        return taken

    def record(self, signature: str) -> Record | None:
        """Return what became of a transaction."""
        return self._by_signature.get(signature)

    def of(self, address: str, *, before: str | None, until: str | None, limit: int, last_slot: int) -> list[Record]:
        """Return an account's records up to a slot, newest first."""
        newer = self._by_signature.get(before) if before is not None else None
        if before is not None and newer is None:
            return []
        older = self._by_signature.get(until) if until is not None else None
        first = (older.slot, older.position) if older is not None else (-1, -1)
        end = (newer.slot, newer.position) if newer is not None else (last_slot + 1, -1)
        found: list[Record] = []
        for record in reversed(self._by_address.get(address, ())):
            at = (record.slot, record.position)
            if at <= first or len(found) >= limit:
                break
            if at < end and record.slot <= last_slot:
                found.append(record)
        return found

    def fee_samples(self, addresses: Sequence[str], newest_slot: int) -> list[tuple[int, int]]:
        """Return (slot, micro-lamports) of recent slots, oldest first: the lowest price that wrote the accounts.

        As agave has it (prioritization_fee_cache.rs): of several accounts the dearest counts, and no less than the
        block's lowest price; a slot without transactions is told as 0.
        """
        return [
            (block.slot, max([block.lowest_price, *(block.prices[key] for key in addresses if key in block.prices)]))
            for block in self._recent(newest_slot)
        ]

    def tips(self, newest_slot: int) -> list[int]:
        """Return the lamports that landed bundles paid in recent slots, oldest first."""
        return [tip for block in self._recent(newest_slot) for tip in block.tips]

    def _recent(self, newest_slot: int) -> list[Kept]:
        recent: list[Kept] = []
        for block in reversed(self._blocks):
            if block.slot <= newest_slot - RECENT_SLOTS:
                break
            recent.append(block)
        recent.reverse()
        return recent

    def _forget(self, block: Kept) -> None:
        self._hashes.difference_update(block.hashes)
        for record in block.records:
            del self._by_signature[record.signature]
            for key in record.keys:
                records = self._by_address[key]
                records.popleft()
                if not records:
                    del self._by_address[key]
