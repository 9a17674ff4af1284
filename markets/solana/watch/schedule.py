"""When which pool is read: the pure half of keeping pools fresh. The clock is passed in.

A pool is read when somebody asks for it (urgent), when a notification said that it changed (dirty), and when the time
since it was last read is up: short for pools whose changes nobody tells us, long for those that are subscribed and move
slowly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from markets.limits import NS_PER_S, Clock


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often pools are read, and when they are stale; seconds."""

    fast_s: float = 1.0
    """Constant product; and every pool that is not subscribed."""
    slow_s: float = 30.0
    """Concentrated liquidity and stake pools while they are subscribed."""
    stale_s: float = 60.0
    """A pool not confirmed for so long is stale."""
    retry_s: float = 0.25
    """After a read that failed; doubles up to `fast_s`."""
    together: float = 0.1
    """A pool that is due within this share of its interval is read along with those that are due now."""


class Rank(IntEnum):
    """Why a pool is read: the lower goes first."""

    URGENT = 0
    """Somebody waits for it."""
    DIRTY = 1
    """It changed."""
    DUE = 2


@dataclass(slots=True)
class _Entry:
    slow: bool
    subscribed: bool = False
    rank: Rank | None = Rank.DIRTY
    since_ns: int = 0
    """When it got this rank."""
    read_ns: int | None = None
    """When the last read began that succeeded."""
    confirmed_ns: int | None = None
    begun_ns: int | None = None
    """When the read began that is under way."""
    failures: int = 0
    retry_ns: int = 0
    again: bool = False
    """Something happened to it while it was being read."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Pools to be read now, for one reason."""

    rank: Rank
    pools: tuple[str, ...]


@dataclass(slots=True)
class ScheduleFigures:
    """What the schedule has seen."""

    reads: int = 0
    failures: int = 0
    urgent: int = 0
    dirty: int = 0
    refresh_s: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))
    """Seconds between two reads of a pool, since this was last emptied: the newest of them."""


class Schedule:
    """The pools and when each is due."""

    def __init__(self, intervals: Intervals, clock: Clock) -> None:
        """Begin without pools."""
        self.intervals = intervals
        self.figures = ScheduleFigures()
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        """Return how many pools there are."""
        return len(self._entries)

    def __contains__(self, pool: str) -> bool:
        """Tell whether a pool is kept fresh."""
        return pool in self._entries

    def add(self, pool: str, *, slow: bool) -> None:
        """Take a pool in; it is read at once."""
        if pool not in self._entries:
            self._entries[pool] = _Entry(slow, since_ns=self._clock())

    def remove(self, pool: str) -> None:
        """Let a pool go."""
        self._entries.pop(pool, None)

    def subscribed(self, pool: str, subscribed: bool) -> None:
        """Note whether changes of a pool are told. What changed before they were is found by a read."""
        entry = self._entries.get(pool)
        if entry is None or entry.subscribed == subscribed:
            return
        entry.subscribed = subscribed
        self._raise(entry, Rank.DIRTY)

    def dirty(self, pool: str) -> None:
        """Note that a pool changed."""
        if (entry := self._entries.get(pool)) is not None:
            self.figures.dirty += 1
            self._raise(entry, Rank.DIRTY)

    def urgent(self, pool: str) -> bool:
        """Note that somebody waits for a pool: it jumps the line. False for a pool that is not kept."""
        if (entry := self._entries.get(pool)) is None:
            return False
        self.figures.urgent += 1
        # Even one whose reads fail: whoever waits wants to know now.
        entry.retry_ns = 0
        self._raise(entry, Rank.URGENT)
        return True

    def begin(self) -> list[Turn]:
        """Return what is to be read now, the most urgent first; it counts as under way."""
        now = self._clock()
        found: dict[Rank, list[tuple[int, str]]] = {}
        due = False
        soon: list[tuple[int, str]] = []
        for pool, entry in self._entries.items():
            if entry.begun_ns is not None or now < entry.retry_ns:
                continue
            if entry.rank is not None:
                found.setdefault(entry.rank, []).append((entry.since_ns, pool))
                continue
            at = self._due_ns(entry)
            if now >= at:
                due = True
                found.setdefault(Rank.DUE, []).append((at, pool))
            elif now >= at - int(self._interval_s(entry) * self.intervals.together * NS_PER_S):
                soon.append((at, pool))
        if due:
            found[Rank.DUE] += soon
        turns = [Turn(rank, tuple(pool for _, pool in sorted(found[rank]))) for rank in sorted(found)]
        for turn in turns:
            for pool in turn.pools:
                entry = self._entries[pool]
                entry.begun_ns, entry.rank, entry.again = now, None, False
        return turns

    def done(self, pool: str, *, confirmed: bool = True) -> None:
        """Note that a read came back; `confirmed` is False where it did not tell the present state."""
        entry = self._entries.get(pool)
        if entry is None or entry.begun_ns is None:
            return
        self.figures.reads += 1
        if confirmed:
            if entry.read_ns is not None:
                self.figures.refresh_s.append((entry.begun_ns - entry.read_ns) / NS_PER_S)
            # What was read is as old as the question.
            entry.read_ns = entry.confirmed_ns = entry.begun_ns
        entry.failures = entry.retry_ns = 0
        entry.begun_ns = None
        if not confirmed or entry.again:
            self._raise(entry, Rank.DIRTY)

    def failed(self, pools: Iterable[str]) -> None:
        """Note that a read gave nothing: it is tried again after a while, whatever its reason was."""
        now = self._clock()
        for pool in pools:
            entry = self._entries.get(pool)
            if entry is None or entry.begun_ns is None:
                continue
            self.figures.failures += 1
            entry.begun_ns = None
            wait_s = min(self.intervals.retry_s * 2.0 ** min(entry.failures, 16), self.intervals.fast_s)
            entry.failures += 1
            entry.retry_ns = now + int(wait_s * NS_PER_S)
            self._raise(entry, Rank.DIRTY)

    def wait_s(self) -> float:
        """Return how long until `begin` gives something, if nothing happens; a day where there is nothing to do."""
        now = self._clock()
        waits = [
            max(entry.retry_ns, 0 if entry.rank is not None else self._due_ns(entry)) - now
            for entry in self._entries.values()
            if entry.begun_ns is None
        ]
        return max(0, min(waits, default=86_400 * NS_PER_S)) / NS_PER_S

    def sweep(self) -> list[str]:
        """Return the pools that are stale, and have them read before those that are merely due."""
        now = self._clock()
        horizon = now - int(self.intervals.stale_s * NS_PER_S)
        stale = [
            pool
            for pool, entry in self._entries.items()
            if (entry.confirmed_ns if entry.confirmed_ns is not None else entry.since_ns) < horizon
        ]
        for pool in stale:
            if self._entries[pool].begun_ns is None:
                self._raise(self._entries[pool], Rank.DIRTY)
        return stale

    def age_s(self, pool: str) -> float | None:
        """Return how long ago a pool was last confirmed; None where it never was."""
        entry = self._entries.get(pool)
        if entry is None or entry.confirmed_ns is None:
            return None
        return (self._clock() - entry.confirmed_ns) / NS_PER_S

    def _raise(self, entry: _Entry, rank: Rank) -> None:
        if entry.begun_ns is not None:
            entry.again = True
            # A read under way may be of before: it is not what an urgent request waits for either.
            if rank is not Rank.URGENT:
                return
        if entry.rank is None or rank < entry.rank:
            entry.rank, entry.since_ns = rank, self._clock()

    def _interval_s(self, entry: _Entry) -> float:
        slow = entry.slow and entry.subscribed
        return self.intervals.slow_s if slow else self.intervals.fast_s

    def _due_ns(self, entry: _Entry) -> int:
        return (entry.read_ns or 0) + int(self._interval_s(entry) * NS_PER_S)
