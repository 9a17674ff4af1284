"""Fees that move with volatility, in plain Python."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from .ticks import MAX_TICK, MIN_TICK, SwapFails, ceil_div, sqrt_price, tick_at


@dataclass(frozen=True)
class Oracle:
    filter_s: int
    decay_s: int
    reduction: int
    control: int
    most: int
    size: int
    major: int
    updated: int
    major_at: int
    start: int
    """Volatility that is left from before."""
    group: int
    volatility: int

    @classmethod
    def parse(cls, data: bytes) -> Oracle:
        return cls(*struct.unpack_from("<HHHIIHH", data, 48), *struct.unpack_from("<QQIiI", data, 82))

    def aged(self, group: int, now: int) -> Oracle:
        last = max(self.updated, self.major_at)
        if now < last:
            raise SwapFails("invalid_timestamp")
        if now - self.updated <= 3600:
            if now - last < self.filter_s:
                return self
            if now - last < self.decay_s:
                return replace(self, group=group, start=self.volatility * self.reduction // 10_000, updated=now)
        return replace(self, group=group, start=0, updated=now)

    def at(self, group: int) -> Oracle:
        return replace(self, volatility=min(self.most, self.start + 10_000 * abs(group - self.group)))

    def rate(self, base: int) -> int:
        return min(100_000, base + ceil_div(self.control * (self.volatility * self.size) ** 2, 10**13))


class FeeMeter:
    """The fee along a swap, tick group by tick group."""

    def __init__(self, oracle: Oracle, base: int, a_to_b: bool, tick: int, now: int) -> None:
        self.base, self.a_to_b = base, a_to_b
        self.here = tick // oracle.size
        self.oracle = oracle.aged(self.here, now)
        reach = ceil_div(oracle.most - self.oracle.start, 10_000)
        self.low, self.high = self.oracle.group - reach, self.oracle.group + reach

    def next(self, target: int, liquidity: int) -> tuple[int, int, bool]:
        """The next step's fee rate, where it must stop, and whether it may pass several groups."""
        self.oracle = self.oracle.at(self.here)
        rate, size = self.oracle.rate(self.base), self.oracle.size
        if not self.oracle.control or not liquidity:
            return rate, target, True
        if self.here < self.low and self.low * size > MIN_TICK:
            return rate, target if self.a_to_b else min(target, sqrt_price(self.low * size)), True
        if self.here > self.high and (self.high + 1) * size < MAX_TICK:
            return rate, max(target, sqrt_price((self.high + 1) * size)) if self.a_to_b else target, True
        if self.a_to_b:
            return rate, max(target, sqrt_price(max(MIN_TICK, self.here * size))), False
        return rate, min(target, sqrt_price(min(MAX_TICK, (self.here + 1) * size))), False

    def move(self, price: int, edge: int, index: int, jump: bool) -> None:
        if jump:
            tick = index if price == edge else tick_at(price)
            reached = tick // self.oracle.size
            if not self.a_to_b and tick % self.oracle.size == 0 and price == sqrt_price(tick):
                reached -= 1
            further = min(self.here, reached) if self.a_to_b else max(self.here, reached)
            if further != self.here:
                self.here = further
                self.oracle = self.oracle.at(further)
        self.here += -1 if self.a_to_b else 1

    def after(self, before: int, price: int, now: int) -> Oracle:
        low, high = sorted((before, price))
        large = high >= low * sqrt_price(self.oracle.major) >> 64
        return replace(self.oracle, major_at=now) if large else self.oracle
