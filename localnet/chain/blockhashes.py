"""Blockhashes: which are young enough, and what programs see of them. Pure."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from itertools import islice

from solders.hash import Hash

MAX_AGE = 150
"""Blocks that a transaction may be younger than its blockhash: MAX_PROCESSING_AGE of agave."""
SLOT_HASHES = 512
"""Entries of the SlotHashes sysvar."""
_KEPT = 1_024
"""More than programs see, so that a fork leaves none missing."""


@dataclass(frozen=True, slots=True)
class _Entry:
    slot: int
    height: int
    blockhash: str
    hash: Hash


class Blockhashes:
    """The hashes of the newest blocks of this fork."""

    def __init__(self, name: str, slot: int, height: int) -> None:
        """Begin with the block of a slot; another name gives other hashes."""
        self._name = name
        self._entries: deque[_Entry] = deque(maxlen=_KEPT)
        self._heights: dict[str, int] = {}
        self.add(slot, height)

    @property
    def newest(self) -> str:
        """Return the last block's hash."""
        return self._entries[0].blockhash

    def add(self, slot: int, height: int) -> str:
        """Go on to a block; return its hash: a function of the chain's name and of the slots before it on this fork."""
        parent = self.newest if self._entries else ""
        hash_ = Hash(hashlib.sha256(f"{self._name}/{slot}/{parent}".encode()).digest())
        if len(self._entries) == _KEPT:
            del self._heights[self._entries[-1].blockhash]
        self._entries.appendleft(_Entry(slot, height, str(hash_), hash_))
        self._heights[str(hash_)] = height
        return str(hash_)

    def take_back(self, blocks: int) -> None:
        """Forget the newest blocks: transactions that name them are worth nothing on another fork."""
        for _ in range(blocks):
            del self._heights[self._entries.popleft().blockhash]

    def last_valid(self, blockhash: str) -> int | None:
        """Return the last block height at which a blockhash is accepted; None if it is not of this fork."""
        height = self._heights.get(blockhash)
        return None if height is None else height + MAX_AGE

    def before(self, slot: int) -> list[tuple[int, Hash]]:
        """Return the SlotHashes sysvar's entries in a slot: the blocks before it, newest first."""
        older = ((entry.slot, entry.hash) for entry in self._entries if entry.slot < slot)
        return list(islice(older, SLOT_HASHES))
