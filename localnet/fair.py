"""The fair price that the simulation's informed traders know: a function of the seed and the slot, bounded for ever.

Smooth noise on several time scales, and now and then a jump that fades. Integers only: the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from localnet.draws import Draws
from markets.tokens import Pair

PPM = 1_000_000
JUMP_SLOTS = 150


@dataclass(frozen=True, slots=True)
class Wander:
    """How far a price strays from where it started, parts per million."""

    octaves: tuple[tuple[int, int], ...]
    """(slots between two turning points, amplitude) per time scale."""
    jump_chance: int
    """Chance of a jump in each stretch of JUMP_SLOTS slots, millionths."""
    jump_low: int
    jump_high: int

    @property
    def bound(self) -> int:
        """Return the furthest that the price can ever be from where it started."""
        return sum(amplitude for _, amplitude in self.octaves) + self.jump_high


STAKED = Wander(octaves=((3000, 2000), (400, 600), (60, 250)), jump_chance=400_000, jump_low=1200, jump_high=4500)
STABLE = Wander(octaves=((3000, 20_000), (400, 4000), (60, 1000)), jump_chance=500_000, jump_low=2500, jump_high=9000)


def wander_of(pair: Pair) -> Wander:
    """Return how a pair's price strays: staked tokens little, SOL in dollars more."""
    return STABLE if "stable" in (pair.base.kind, pair.quote.kind) else STAKED


def shift_ppm(seed: int, pair: Pair, slot: int) -> int:
    """Return how far the pair's fair price is from its start at a slot, parts per million."""
    return stray_ppm(seed, pair.name, wander_of(pair), slot)


def stray_ppm(seed: int, name: str, wander: Wander, slot: int) -> int:
    """Return how far a price of this name is from its start at a slot, parts per million."""
    total = 0
    for period, amplitude in wander.octaves:
        index, within = divmod(slot, period)
        left = _level(seed, name, period, index, amplitude)
        right = _level(seed, name, period, index + 1, amplitude)
        total += left + (right - left) * within // period
    return total + _jump(seed, name, wander, slot)


def _level(seed: int, name: str, period: int, index: int, amplitude: int) -> int:
    # The first turning point of every scale is the starting price.
    return Draws(seed, "level", name, period, index).between(-amplitude, amplitude) if index else 0


def _jump(seed: int, name: str, wander: Wander, slot: int) -> int:
    stretch, within = divmod(slot, JUMP_SLOTS)
    draws = Draws(seed, "jump", name, stretch)
    if not draws.chance(wander.jump_chance):
        return 0
    begins = draws.between(0, JUMP_SLOTS // 2)
    size = draws.between(wander.jump_low, wander.jump_high) * (1 if draws.chance(500_000) else -1)
    if within < begins:
        return 0
    return size * (JUMP_SLOTS - within) // (JUMP_SLOTS - begins)
