"""Seeded randomness that is a function of its label: no state to lose, none to restore."""

from __future__ import annotations

from hashlib import blake2b


class Draws:
    """Uniform integers for one label; the same label gives the same sequence on every machine."""

    __slots__ = ("_block", "_label", "_left")

    def __init__(self, *label: int | str) -> None:
        """Remember the label."""
        self._label = "/".join(map(str, label)).encode()
        self._block = 0
        self._left: list[int] = []

    def word(self) -> int:
        """Return the next 64 random bits."""
        if not self._left:
            digest = blake2b(self._label, digest_size=64, salt=self._block.to_bytes(16, "little")).digest()
            self._block += 1
            self._left = [int.from_bytes(digest[at : at + 8], "little") for at in range(0, 64, 8)]
        return self._left.pop()

    def between(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, both included."""
        # Multiplying and shifting is uniform to one part in 2**64 / span: enough for a simulated market.
        return low + (self.word() * (high - low + 1) >> 64)

    def chance(self, millionths: int) -> bool:
        """Return True in so many of a million cases."""
        return self.between(0, 999_999) < millionths
