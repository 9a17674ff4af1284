"""Bitmaps of arrays that exist, as integers: bit n tells of array n."""

from __future__ import annotations


def neighbours(bits: int, position: int, count: int, *, downwards: bool) -> list[int]:
    """Return up to `count` set bits from a position on, itself included, nearest first."""
    found: list[int] = []
    if downwards:
        rest = bits & ((1 << (position + 1)) - 1) if position >= 0 else 0
        while rest and len(found) < count:
            found.append(rest.bit_length() - 1)
            rest ^= 1 << found[-1]
        return found
    skipped = max(position, 0)
    rest = bits >> skipped
    while rest and len(found) < count:
        lowest = rest & -rest
        found.append(skipped + lowest.bit_length() - 1)
        rest ^= lowest
    return found


def mirrored(bits: int, width: int) -> int:
    """Return the bits of a bitmap in reverse order."""
    return int(format(bits, f"0{width}b")[::-1], 2)
