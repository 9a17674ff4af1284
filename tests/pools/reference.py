"""Pools in plain Python: slow, from the raw accounts, walking tick array after tick array as the programs do.

Written apart from the native core, from the programs' behaviour, so that a mistake in one shows in the other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from .adaptive import FeeMeter, Oracle
from .ticks import (
    MAX_SQRT_PRICE,
    MAX_TICK,
    MIN_SQRT_PRICE,
    MIN_TICK,
    SwapFails,
    ceil_div,
    sqrt_price,
    tick_at,
)

WHIRLPOOL = "whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc"
AMM_V4 = "675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8"
CPMM = "CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C"
TOKEN = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
TOKEN_2022 = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"

U64 = 2**64 - 1
U128 = 2**128 - 1
ARRAY = 88


@dataclass
class Moved:
    amount_in: int
    amount_out: int
    fee: int = 0


# --- Whirlpool


@dataclass
class Tick:
    net: int
    fee_outside: list[int]
    reward_outside: list[int]


@dataclass
class TickArray:
    start: int
    ticks: dict[int, Tick]
    """Initialized ticks by their offset."""


@dataclass
class Whirlpool:
    spacing: int
    fee_rate: int
    protocol_rate: int
    liquidity: int
    price: int
    tick: int
    mints: tuple[bytes, bytes]
    fee_growth: list[int]
    protocol_owed: list[int]
    rewards_updated: int
    rewards: list[tuple[bool, int, int]]
    """Per reward: initialized, emissions per second, growth."""
    arrays: dict[int, TickArray] = field(default_factory=dict)
    oracle: Oracle | None = None

    @classmethod
    def parse(cls, accounts: list[tuple[str, str, bytes]]) -> Whirlpool:
        """The pool's account first, tick arrays after it; other accounts are skipped."""
        data = accounts[0][2]
        spacing, _, fee, protocol = struct.unpack_from("<4H", data, 41)
        pool = cls(
            spacing=spacing,
            fee_rate=fee,
            protocol_rate=protocol,
            liquidity=_int(data, 49, 16),
            price=_int(data, 65, 16),
            tick=_int(data, 81, 4, signed=True),
            mints=(data[101:133], data[181:213]),
            fee_growth=[_int(data, 165, 16), _int(data, 245, 16)],
            protocol_owed=[_int(data, 85, 8), _int(data, 93, 8)],
            rewards_updated=_int(data, 261, 8),
            rewards=[
                (any(data[at : at + 32]), _int(data, at + 96, 16), _int(data, at + 112, 16)) for at in (269, 397, 525)
            ],
        )
        for _, owner, raw in accounts[1:]:
            if owner != WHIRLPOOL:
                continue
            if raw[:8].hex() == "8bc283b38cb3e5f4":
                pool.oracle = Oracle.parse(raw)
                continue
            array = _fixed_array(raw) if len(raw) == 9988 else _dynamic_array(raw)
            pool.arrays[array.start] = array
        return pool

    def sequence(self, a_to_b: bool) -> list[TickArray]:
        """The arrays that the program would walk, absent ones as arrays without ticks."""
        span = ARRAY * self.spacing
        first = self.tick // span * span
        if a_to_b:
            starts = [first, first - span, first - 2 * span]
        else:
            if self.tick + self.spacing >= first + span:
                first += span
            starts = [first, first + span, first + 2 * span]
        return [
            self.arrays.get(start, TickArray(start, {}))
            for start in starts
            if start + span > MIN_TICK and start < MAX_TICK
        ]

    def swap(self, a_to_b: bool, amount: int, exact_in: bool = True, limit: int = 0, now: int = 0) -> Moved:
        """Swap and move on; raises before anything changed where the program would fail."""
        bound = limit or (MIN_SQRT_PRICE if a_to_b else MAX_SQRT_PRICE)
        if amount == 0:
            raise SwapFails("zero_tradable_amount")
        arrays, at = self.sequence(a_to_b), 0
        if not arrays:
            raise SwapFails("invalid_tick_array_sequence")
        left, got, fees, owed = amount, 0, 0, 0
        price, tick, liquidity = self.price, self.tick, self.liquidity
        growth = self.fee_growth[0 if a_to_b else 1]
        rewards = self._rewards_at(now)
        crossed: list[tuple[Tick, list[int]]] = []
        meter = FeeMeter(self.oracle, self.fee_rate, a_to_b, self.tick, now) if self.oracle else None
        while left and price != bound:
            if at >= len(arrays):
                raise SwapFails("tick_array_sequence_invalid_index")
            found, index, at = self._next(arrays, at, tick, a_to_b)
            edge = sqrt_price(index)
            target = max(bound, edge) if a_to_b else min(bound, edge)
            while True:
                rate, stop, jump = meter.next(target, liquidity) if meter else (self.fee_rate, target, False)
                step_in, step_out, fee, after = step(left, rate, liquidity, price, stop, exact_in, a_to_b)
                left -= step_in + fee if exact_in else step_out
                got += step_out if exact_in else step_in + fee
                if left < 0 or got > U64:
                    raise SwapFails("amount_overflow")
                fees += fee
                share = fee * self.protocol_rate // 10_000
                owed += share
                if liquidity:
                    growth = growth + ((fee - share << 64) // liquidity) & U128
                if after == edge:
                    if found is not None:
                        liquidity += -found.net if a_to_b else found.net
                        if not 0 <= liquidity <= U128:
                            raise SwapFails("liquidity_overflow")
                        growths = [growth, self.fee_growth[1]] if a_to_b else [self.fee_growth[0], growth]
                        crossed.append((found, growths))
                    offset = (index - arrays[at].start) // self.spacing
                    if offset == (0 if a_to_b else ARRAY - 1):
                        at += 1
                    tick = index - 1 if a_to_b else index
                elif after != price:
                    tick = tick_at(after)
                price = after
                if meter:
                    meter.move(price, edge, index, jump)
                if not left or price == target:
                    break
        if left and not exact_in and not limit:
            raise SwapFails("partial_fill_error")
        side = 0 if a_to_b else 1
        if meter:
            self.oracle = meter.after(self.price, price, now)
        self.price, self.tick, self.liquidity = price, tick, liquidity
        self.fee_growth[side] = growth
        self.protocol_owed[side] += owed
        self.rewards = rewards
        self.rewards_updated = max(self.rewards_updated, now)
        for entry, growths in crossed:
            entry.fee_outside = [now_ - then & U128 for now_, then in zip(growths, entry.fee_outside, strict=True)]
            entry.reward_outside = [
                (reward[2] - then) & U128 if reward[0] else then
                for reward, then in zip(rewards, entry.reward_outside, strict=True)
            ]
        used = amount - left
        return Moved(used, got, fees) if exact_in else Moved(got, used, fees)

    def _rewards_at(self, now: int) -> list[tuple[bool, int, int]]:
        elapsed = now - self.rewards_updated
        if elapsed <= 0 or not self.liquidity:
            return self.rewards
        return [
            (on, rate, growth + elapsed * rate // self.liquidity & U128 if on else growth)
            for on, rate, growth in self.rewards
        ]

    def _next(self, arrays: list[TickArray], at: int, tick: int, a_to_b: bool) -> tuple[Tick | None, int, int]:
        """The next initialized tick, or where the search ends; and the array it lies in."""
        span = ARRAY * self.spacing
        while True:
            array = arrays[at]
            offset = (tick - array.start) // self.spacing
            offsets = range(offset, -1, -1) if a_to_b else range(offset + 1, ARRAY)
            for candidate in offsets:
                if candidate in array.ticks:
                    return array.ticks[candidate], array.start + candidate * self.spacing, at
            if a_to_b and array.start <= MIN_TICK:
                return None, MIN_TICK, at
            if not a_to_b and array.start + span > MAX_TICK:
                return None, MAX_TICK, at
            if at + 1 == len(arrays):
                return None, array.start if a_to_b else array.start + span - 1, at
            tick = array.start - 1 if a_to_b else array.start + span - 1
            at += 1


def step(
    left: int, fee_rate: int, liquidity: int, price: int, target: int, exact_in: bool, a_to_b: bool
) -> tuple[int, int, int, int]:
    """One step at constant liquidity: amount in, amount out, fee, next price."""

    def amount_a(to: int, up: bool) -> int | None:
        low, high = min(price, to), max(price, to)
        wide = liquidity * (high - low)
        if wide >> 192:
            raise SwapFails("multiplication_overflow")
        amount = ceil_div(wide << 64, low * high) if up else (wide << 64) // (low * high)
        return amount if amount <= U64 else None

    def amount_b(to: int, up: bool) -> int | None:
        wide = liquidity * abs(to - price)
        if wide > U128:
            return None
        amount = ceil_div(wide, 1 << 64) if up else wide >> 64
        return amount if amount <= U64 else None

    def needed(amount: int | None) -> int:
        if amount is None:
            raise SwapFails("amount too large")
        return amount

    fixed, other = (amount_a, amount_b) if a_to_b == exact_in else (amount_b, amount_a)
    usable = left * (1_000_000 - fee_rate) // 1_000_000 if exact_in else left
    whole = fixed(target, exact_in)
    if whole is not None and whole <= usable:
        after = target
    elif fixed is amount_a:
        after = price
        if usable:
            if liquidity * price >> 192:
                raise SwapFails("multiplication_overflow")
            denominator = (liquidity << 64) + (usable * price if exact_in else -usable * price)
            if denominator <= 0:
                raise SwapFails("divide_by_zero")
            after = ceil_div(liquidity * price << 64, denominator)
            if not MIN_SQRT_PRICE <= after <= MAX_SQRT_PRICE:
                raise SwapFails("price out of range")
    elif exact_in:
        after = price + (usable << 64) // liquidity
    else:
        after = price - ceil_div(usable << 64, liquidity)
        if after < 0:
            raise SwapFails("sqrt_price_out_of_bounds")
    other_amount = needed(other(after, not exact_in))
    fixed_amount = needed(fixed(after, exact_in))
    amount_in, amount_out = (fixed_amount, other_amount) if exact_in else (other_amount, min(fixed_amount, left))
    rest = exact_in and after != target
    fee = left - amount_in if rest else ceil_div(amount_in * fee_rate, 1_000_000 - fee_rate)
    if fee > U64:
        raise SwapFails("fee too large")
    return amount_in, amount_out, fee, after


def _int(data: bytes, at: int, size: int, *, signed: bool = False) -> int:
    return int.from_bytes(data[at : at + size], "little", signed=signed)


def _tick(raw: bytes) -> Tick:
    values = [_int(raw, at, 16) for at in range(0, 112, 16)]
    return Tick(_int(raw, 0, 16, signed=True), values[2:4], values[4:7])


def _fixed_array(data: bytes) -> TickArray:
    ticks = {}
    for offset in range(ARRAY):
        raw = data[12 + 113 * offset : 12 + 113 * (offset + 1)]
        if raw[0]:
            ticks[offset] = _tick(raw[1:])
    return TickArray(_int(data, 8, 4, signed=True), ticks)


def _dynamic_array(data: bytes) -> TickArray:
    ticks, at = {}, 60
    for offset in range(ARRAY):
        if data[at]:
            ticks[offset] = _tick(data[at + 1 : at + 113])
            at += 112
        at += 1
    return TickArray(_int(data, 8, 4, signed=True), ticks)


# --- constant product


def amm_v4_in(given: int, taken: int, amount: int, numerator: int = 25, denominator: int = 10_000) -> int:
    """What an AMM v4 pool gives for an exact amount."""
    net = amount - ceil_div(amount * numerator, denominator)
    return taken * net // (given + net)


def amm_v4_out(given: int, taken: int, wanted: int, numerator: int = 25, denominator: int = 10_000) -> int:
    """What an AMM v4 pool asks for an exact amount."""
    net = ceil_div(given * wanted, taken - wanted)
    return ceil_div(net * denominator, denominator - numerator)


def cpmm_in(given: int, taken: int, amount: int, rate: int, creator: int = 0, on_input: bool = True) -> int:
    """What a CPMM pool gives for an exact amount; rates in millionths."""
    net = amount - ceil_div(amount * (rate + (creator if on_input else 0)), 1_000_000)
    out = taken * net // (given + net)
    return out if on_input else out - ceil_div(out * creator, 1_000_000)
