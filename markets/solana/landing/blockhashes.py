"""Recent blockhashes, and which of them a transaction is signed with. Pure.

A transaction can land while its blockhash is among the last 150, so one signed with the newest may be an open question
for a minute. One that has only a few slots left is decided soon: the oldest hash that still lives long enough is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

LIFETIME = 150
"""Blocks for which a blockhash is valid. Source: https://solana.com/docs/core/transactions/confirmation"""
_FAR = 1_000
"""Blocks between two answers that cannot be of the same chain and time: seven minutes."""
_INSISTENCE = 5
"""Such answers in a row, after which it is those before them that were wrong."""


@dataclass(frozen=True, slots=True)
class Blockhash:
    """A blockhash, and the last block height at which a transaction signed with it can land."""

    hash: str
    last_valid_block_height: int


class BlockhashBook:
    """The blockhashes that were told lately.

    Block heights are never underestimated: a slot brings one block at most, so the height of now is that of the newest
    hash and the slots since. What a node that is behind tells as new is then seen to be old. A node of another chain is
    believed only where the others agree: else a single answer of it would make every hash look too old, or too young,
    for ever.
    """

    def __init__(self, keep: int = LIFETIME) -> None:
        """Begin with none; `keep` is how many are remembered."""
        self._keep = keep
        self._known: dict[str, Blockhash] = {}
        self._slot = 0
        self._height = 0
        self._odd = 0

    @property
    def height(self) -> int:
        """Return the highest block height that is known of; 0 before the first."""
        return self._height

    def note(self, blockhash: str, last_valid_block_height: int, slot: int) -> None:
        """Take in a node's answer, given at a slot."""
        height = last_valid_block_height - LIFETIME
        if self._known and abs(height - self._height) > _FAR:
            self._odd += 1
            if self._odd < _INSISTENCE:
                return
            self.clear()
        self._odd = 0
        if height > self.height_at(slot):
            # Higher than we thought possible: this chain is another one, or our count began in a gap.
            self._slot, self._height = slot, height
        elif height >= self._height:
            self._slot, self._height = max(slot, self._slot), height
        self._known[blockhash] = Blockhash(blockhash, last_valid_block_height)
        if len(self._known) > self._keep:
            oldest = min(self._known.values(), key=lambda one: one.last_valid_block_height)
            del self._known[oldest.hash]

    def clear(self) -> None:
        """Forget everything: the chain is another one."""
        self._known.clear()
        self._slot = self._height = self._odd = 0

    def height_at(self, slot: int) -> int:
        """Return the most that the block height can be at a slot."""
        return self._height + max(0, slot - self._slot) if self._height else 0

    def left(self, blockhash: Blockhash, slot: int) -> int:
        """Return for how many more blocks a hash is surely valid at a slot; under 0 where it may have run out."""
        return blockhash.last_valid_block_height - self.height_at(slot)

    def choose(self, slot: int, lifetime: int) -> Blockhash | None:
        """Return the oldest hash with at least `lifetime` blocks left at a slot; None where none has so many."""
        fit = [one for one in self._known.values() if self.left(one, slot) >= lifetime]
        return min(fit, key=lambda one: one.last_valid_block_height, default=None)
