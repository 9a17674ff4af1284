"""Which pair is asked for next: the one whose price moved most, or whose external quote is the oldest. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from markets.providers.choose import Pair

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Pace:
    """When a quote is too old."""

    price_ttl_s: float
    fast_ttl_s: float
    """Of the pairs that are named as fast."""
    move_bps: float
    """A local price that moved so much makes an external quote old at once."""
    again_s: float
    """After a failure, so long is waited; twice as long after each further one,"""
    again_max_s: float
    """up to this: a pair that nobody trades takes no requests from the others."""


@dataclass(slots=True)
class _PairState:
    pair: Pair
    fast: bool
    asked_ns: int | None = None
    """Of the last quote that was got."""
    not_before_ns: int = 0
    under_way: bool = False
    failures: int = 0
    """One after the other."""
    moved_bps: float = 0.0
    local: dict[tuple[str, str], Fraction] = field(default_factory=dict)
    """Local price of each direction now, out per in."""
    rates: dict[tuple[str, str], Fraction] = field(default_factory=dict)
    """The same when the last quote was asked for."""
    at_begin: dict[tuple[str, str], Fraction] = field(default_factory=dict)
    """The same when the quote that is under way was asked for."""

    def moved(self) -> float:
        """Return how far the local price is from where it was, the further of both directions, basis points."""
        changes = (rate / self.rates[way] for way, rate in self.local.items() if way in self.rates)
        return max((abs(float(change) - 1) * 10_000 for change in changes), default=0.0)


@dataclass(frozen=True, slots=True)
class Due:
    """A pair to be asked for."""

    pair: Pair
    urgent: bool
    """Its price moved, or it has no quote, or a very old one: both directions are wanted now, at whatever providers."""


class Schedule:
    """The pairs, and when each is to be asked for again."""

    def __init__(self, pairs: Mapping[Pair, bool], pace: Pace, clock: Callable[[], int]) -> None:
        """Take the pairs, and for each whether it is a fast one."""
        self._pace = pace
        self._clock = clock
        self._pairs = {pair: _PairState(pair, fast) for pair, fast in pairs.items()}
        self._by_direction: dict[tuple[str, str], list[_PairState]] = {}
        for state in self._pairs.values():
            for ask in state.pair:
                self._by_direction.setdefault((ask.token_in, ask.token_out), []).append(state)

    def ttl_s(self, pair: Pair) -> float:
        """Return how long a price of this pair is fresh."""
        return self._pace.fast_ttl_s if self._pairs[pair].fast else self._pace.price_ttl_s

    def local_price(self, token_in: str, token_out: str, amount_in: int, amount_out: int) -> Iterable[Pair]:
        """Note what is given locally; return the pairs whose external quote is still good in spite of it."""
        if amount_in <= 0 or amount_out <= 0:
            return ()
        direction, rate = (token_in, token_out), Fraction(amount_out, amount_in)
        good = []
        for state in self._by_direction.get(direction, ()):
            state.local[direction] = rate
            # The first price that is heard after a quote is what the next ones are held against.
            state.rates.setdefault(direction, rate)
            state.moved_bps = state.moved()
            if self._age(state) is not None and not self._stale(state):
                good.append(state.pair)
        return good

    def local_out(self, token_in: str, token_out: str, amount_in: int) -> int | None:
        """Return what an amount would give at the local price, where there is one."""
        for state in self._by_direction.get((token_in, token_out), ()):
            rate = state.local.get((token_in, token_out))
            if rate is not None:
                return int(amount_in * rate)
        return None

    def due(self) -> list[Due]:
        """Return the pairs to be asked for now, the most valuable first."""
        now = self._clock()
        waiting = [
            state
            for state in self._pairs.values()
            if not state.under_way and now >= state.not_before_ns and self._stale(state)
        ]
        waiting.sort(key=lambda state: (-self._value(state), state.pair.name))
        return [Due(state.pair, self._urgent(state)) for state in waiting]

    def begin(self, pair: Pair) -> None:
        """Note that a pair is being asked for."""
        state = self._pairs[pair]
        state.under_way = True
        state.at_begin = dict(state.local)

    def got(self, pair: Pair, asked_ns: int) -> None:
        """Note that both directions were answered. What moved since they were asked for is held against them."""
        state = self._pairs[pair]
        state.under_way = False
        state.failures = 0
        state.asked_ns = asked_ns
        state.rates = state.at_begin
        state.moved_bps = state.moved()

    def failed(self, pair: Pair) -> None:
        """Note that a pair was not answered whole: wait a little, and longer each time."""
        state = self._pairs[pair]
        state.under_way = False
        wait_s = min(self._pace.again_s * 2 ** min(state.failures, 20), self._pace.again_max_s)
        state.failures += 1
        state.not_before_ns = self._clock() + int(wait_s * NS_PER_S)

    def under_way(self, pair: Pair) -> bool:
        """Tell whether a pair is being asked for."""
        return self._pairs[pair].under_way

    def age_s(self, pair: Pair) -> float | None:
        """Return the age of a pair's quote, or None where it has none."""
        return self._age(self._pairs[pair])

    def _age(self, state: _PairState) -> float | None:
        return None if state.asked_ns is None else (self._clock() - state.asked_ns) / NS_PER_S

    def _stale(self, state: _PairState) -> bool:
        age = self._age(state)
        return age is None or age >= self.ttl_s(state.pair) or state.moved_bps >= self._pace.move_bps

    def _urgent(self, state: _PairState) -> bool:
        age = self._age(state)
        return age is None or age >= 2 * self.ttl_s(state.pair) or state.moved_bps >= self._pace.move_bps

    def _value(self, state: _PairState) -> float:
        """Return what asking is worth: lifetimes that have passed, and thresholds that the price has moved."""
        age = self._age(state)
        # A pair without a quote comes before one that is many lifetimes old.
        lifetimes = 1e6 if age is None else age / self.ttl_s(state.pair)
        return lifetimes + state.moved_bps / self._pace.move_bps
