"""Market time of a live chain: the Clock sysvar's seconds, with the wall clock for what lies between. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

CLOCK = "SysvarC1ock11111111111111111111111111111111"
"""The account that holds the chain's slot and time."""
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """The chain's clock at one slot."""

    slot: int
    unix_time: int


def read_clock(data: bytes) -> Clock:
    """Read the Clock sysvar.

    Raises:
        ValueError: if it is none.
    """
    # https://docs.rs/solana-clock: slot, start of the epoch, epoch, leader schedule's epoch, unix timestamp.
    if len(data) != 40:
        raise ValueError("the Clock sysvar has 40 bytes")
    slot, _start, _epoch, _next, unix_time = struct.unpack("<QqQQq", data)
    if not 0 < unix_time < 1 << 33:
        raise ValueError(f"the Clock sysvar says {unix_time}")
    return Clock(slot, unix_time)


class ChainTime:
    """Market time in ns, such that at any moment its seconds are those that the chain last told, or more.

    The chain's clock has whole seconds and may run ahead of or behind ours. What is between two of its seconds is taken
    from the wall clock; where that leaves the second, it is moved by as little as brings it back.
    """

    def __init__(self) -> None:
        """Begin without having heard the chain."""
        self._offset_ns: int | None = None
        self._slot = -1
        self._last_ns = 0

    @property
    def known(self) -> bool:
        """Tell whether the chain has told its time."""
        return self._offset_ns is not None

    def observe(self, clock: Clock, wall_ns: int) -> None:
        """Take in what the chain told at a moment of our wall clock; what is of an older slot changes nothing."""
        if clock.slot < self._slot:
            return
        self._slot = clock.slot
        low = clock.unix_time * NS_PER_S - wall_ns
        if self._offset_ns is None:
            self._offset_ns = low
        self._offset_ns = min(max(self._offset_ns, low), low + NS_PER_S - 1)

    def now_ns(self, wall_ns: int) -> int:
        """Return market time; it never goes back."""
        self._last_ns = max(self._last_ns, wall_ns + (self._offset_ns or 0))
        return self._last_ns

    def state_ns(self, unix_time: int, wall_ns: int) -> int:
        """Return market time of a state that was read now and is of this second: never of another one."""
        low = unix_time * NS_PER_S
        return min(max(wall_ns + (self._offset_ns or 0), low), low + NS_PER_S - 1)
