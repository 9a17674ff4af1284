"""Meteora DAMM v2 in plain Python: raw accounts, made and read, and swaps in exact fractions where the program rounds.

Written apart from the native core. Formulas: the program's published source (github.com/MeteoraAg/damm-v2).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

from .build import MINT_A, MINT_B, NOW, POOL, SLOT, VAULT_A, VAULT_B, Raw, raw_key, token_account
from .ticks import SwapFails

DAMM = "cpamdpZCGKUy5JxQXB4dcpGPiikHawvSWAd6mEn1sGG"
DISCRIMINATOR = bytes.fromhex("f19a6d0411b16dbc")
ONE = 1 << 64
U64, U128 = 2**64 - 1, 2**128 - 1
RATE = 10**9
LOWEST, HIGHEST = 4_295_048_016, 79_226_673_521_066_979_257_578_248_091
OUTPUT, IN_B, COMPOUNDING = range(3)
LINEAR, EXPONENTIAL, LIMITER, CAP_LINEAR, CAP_EXPONENTIAL = range(5)


@dataclass
class Swapped:
    amount_in: int
    amount_out: int
    fee: int


def narrow(value: int) -> int:
    if not 0 <= value <= U64:
        raise SwapFails("math_overflow")
    return value


@dataclass
class Damm:
    liquidity: int = 10**9 << 64
    price: int = ONE
    lowest: int = LOWEST
    highest: int = HIGHEST
    reserves: tuple[int, int] = (0, 0)
    collect: int = OUTPUT
    cliff: int = 2_500_000
    base_mode: int = LINEAR
    periods: int = 0
    second: tuple[int, int] = (0, 0)
    """Low and high half of the second factor."""
    reduction: int = 0
    initial_price: int = ONE
    protocol_percent: int = 20
    compounding_bps: int = 0
    moving: bool = False
    max_accumulator: int = 14_460_000
    control: int = 956
    bin_step: int = 1
    bin_step_x64: int = 1_844_674_407_370_955
    filter_period: int = 10
    decay_period: int = 120
    decay: int = 5_000
    updated: int = NOW - 60
    price_reference: int = ONE
    accumulator: int = 0
    reference: int = 0
    owed: tuple[int, int] = (0, 0)
    opened: int = SLOT - 1_000
    by_time: bool = False
    status: int = 0
    fee_version: int = 1
    layout: int = 1
    programs: tuple[int, int] = (0, 0)

    def accounts(self, *, vaults: bool = True) -> list[Raw]:
        """The pool and its vaults."""
        data = bytearray(1_112)
        data[:8] = DISCRIMINATOR
        struct.pack_into("<QB5xHIIQ", data, 8, self.cliff, self.base_mode, self.periods, *self.second, self.reduction)
        data[48] = self.protocol_percent
        struct.pack_into("<HB", data, 54, self.compounding_bps, self.moving)
        struct.pack_into("<II4HQ", data, 64, *self._volatile())
        wide = (self.bin_step_x64, self.price_reference, self.accumulator, self.reference, self.initial_price)
        for at, value in zip(range(88, 168, 16), wide, strict=True):
            data[at : at + 16] = value.to_bytes(16, "little")
        for at, address in zip((168, 200, 232, 264), (MINT_A, MINT_B, VAULT_A, VAULT_B), strict=True):
            data[at : at + 32] = raw_key(address)
        for at, value in ((360, self.liquidity), (424, self.lowest), (440, self.highest), (456, self.price)):
            data[at : at + 16] = value.to_bytes(16, "little")
        struct.pack_into("<QQ", data, 392, *self.owed)
        switches = (self.by_time, self.status, *self.programs, self.collect, 0, self.fee_version)
        struct.pack_into("<Q7B", data, 472, self.opened, *switches)
        struct.pack_into("<QQB", data, 680, *self.reserves, self.layout)
        accounts = [(POOL, DAMM, bytes(data))]
        if vaults:
            held = [min(U64, amount + owed + 5) for amount, owed in zip(self.held(), self.owed, strict=True)]
            accounts += [token_account(VAULT_A, MINT_A, held[0]), token_account(VAULT_B, MINT_B, held[1])]
        return accounts

    def _volatile(self) -> tuple[int, ...]:
        periods = (self.bin_step, self.filter_period, self.decay_period, self.decay)
        return self.max_accumulator, self.control, *periods, self.updated

    def held(self) -> tuple[int, int]:
        if self.collect == COMPOUNDING:
            return self.reserves
        return math.floor(self._a(self.price, self.highest)), math.floor(self._b(self.lowest, self.price))

    def written(self, data: bytes) -> tuple[int, ...]:
        """What a swap writes, from raw bytes."""
        wide = [int.from_bytes(data[at : at + 16], "little") for at in (456, 104, 120, 136)]
        return (*wide, *struct.unpack_from("<Q", data, 80), *struct.unpack_from("<QQ", data, 392),
                *struct.unpack_from("<QQ", data, 680))  # fmt: skip

    def state(self) -> tuple[int, ...]:
        """The same, as it should be."""
        wide = (self.price, self.price_reference, self.accumulator, self.reference)
        return (*wide, self.updated, *self.owed, *self.reserves)

    def _a(self, one: int, other: int) -> Fraction:
        """Amount of token a between two roots of prices."""
        return Fraction(self.liquidity, min(one, other)) - Fraction(self.liquidity, max(one, other))

    def _b(self, one: int, other: int) -> Fraction:
        return Fraction(self.liquidity * abs(one - other), 1 << 128)

    def base_rate(self, a_to_b: bool, now: int) -> int:
        if self.base_mode == LIMITER:
            limited = bool(self.second[0] or self.second[1] or self.periods or self.reduction)
            if limited and not a_to_b and now <= self.opened + self.second[0]:
                raise SwapFails("rate_limiter_applied")
            return self.cliff
        if self.base_mode in (LINEAR, EXPONENTIAL):
            period = self.second[0] | self.second[1] << 32
            if period == 0:
                return self.cliff
            passed = (now - self.opened) // period
        elif now > self.opened + self.second[1]:
            passed = self.periods
        elif self.price <= self.initial_price:
            passed = 0
        else:
            passed = (self.price - self.initial_price) * 10_000 // self.initial_price // self.second[0]
        passed = min(passed, self.periods)
        if self.base_mode in (LINEAR, CAP_LINEAR):
            return narrow(self.cliff - self.reduction * passed)
        if self.reduction == 0:
            return self.cliff
        # Squares of the base, each product cut off to 64 bits after the point.
        square, power = ONE - (self.reduction << 64) // 10_000, ONE
        if square < 0:
            raise SwapFails("math_overflow")
        while passed:
            if passed & 1:
                power = power * square >> 64
            square, passed = square * square >> 64, passed >> 1
        if power == 0:
            raise SwapFails("math_overflow")
        return math.ceil(Fraction(power * self.cliff, ONE))

    def rate(self, a_to_b: bool, slot: int, now: int) -> int:
        rate = self.base_rate(a_to_b, now if self.by_time else slot)
        if self.moving:
            rate += math.ceil(Fraction(self.control * (self.accumulator * self.bin_step) ** 2, 10**11))
        return min(rate, (500_000_000, 990_000_000)[self.fee_version])

    def swap(self, a_to_b: bool, amount: int, exact_in: bool = True, slot: int = SLOT, now: int = NOW) -> Swapped:
        """Swap and move on."""
        rate = Fraction(self.rate(a_to_b, slot, now), RATE)
        on_input = self.collect != OUTPUT and not a_to_b
        if exact_in:
            given = amount
            entered = given - math.ceil(given * rate) if on_input else given
            left, price = self._give(a_to_b, entered)
            received = left if on_input else left - math.ceil(left * rate)
        else:
            received = amount
            left = received if on_input else narrow(math.ceil(received / (1 - rate)))
            entered, price = self._take(a_to_b, left)
            given = narrow(math.ceil(entered / (1 - rate))) if on_input else entered
        fee = given - entered if on_input else left - received
        if given == 0 or received == 0:
            raise SwapFails("amount_is_zero")
        protocol = fee * self.protocol_percent // 100
        compounded = (fee - protocol) * self.compounding_bps // 10_000
        # Fees are in token a only where they come from an output that is token a.
        in_a = not a_to_b and not on_input
        self.owed = (self.owed[0] + protocol * in_a, self.owed[1] + protocol * (not in_a))
        a, b = self.reserves
        if self.layout == 1:
            a, b = (a + entered, b - left) if a_to_b else (a - left, b + entered)
            self.reserves = (a & U64, b & U64)
        if self.collect == COMPOUNDING:
            self.reserves = (narrow(a), narrow(b + compounded))
            price = math.isqrt((self.reserves[1] << 128) // self.reserves[0])
        if self.moving:
            self._settle(price, now)
        self.price = price
        return Swapped(given, received, fee)

    def _settle(self, price: int, now: int) -> None:
        elapsed = max(0, now - self.updated)
        if elapsed >= self.filter_period:
            self.price_reference = self.price
            kept = self.accumulator * self.decay // 10_000
            self.reference = kept if elapsed < self.decay_period else 0
        distance = self._bins(price, self.price_reference)
        self.accumulator = min(self.max_accumulator, self.reference + 10_000 * distance)
        if self._bins(price, self.price):
            self.updated = now

    def _bins(self, one: int, other: int) -> int:
        ratio = (max(one, other) << 64) // min(one, other)
        if ratio > U128:
            raise SwapFails("math_overflow")
        return (ratio - ONE) // self.bin_step_x64 * 2

    def _give(self, a_to_b: bool, amount: int) -> tuple[int, int]:
        if self.collect == COMPOUNDING:
            x, y = self.reserves if a_to_b else self.reserves[::-1]
            return y * amount // narrow(x + amount), self.price
        if self.liquidity == 0:
            raise SwapFails("insufficient_liquidity")
        if a_to_b:
            # The reserve of token a as it would be down to a price of 0: L / root.
            price = math.ceil(self.liquidity / (Fraction(self.liquidity, self.price) + amount))
            out = self._b(price, self.price)
        else:
            price = self.price + math.floor(Fraction(amount << 128, self.liquidity))
            out = self._a(self.price, price) if price <= U128 else Fraction(0)
        self._reach(price)
        return narrow(math.floor(out)), price

    def _take(self, a_to_b: bool, amount: int) -> tuple[int, int]:
        if self.collect == COMPOUNDING:
            x, y = self.reserves if a_to_b else self.reserves[::-1]
            if amount >= y:
                raise SwapFails("math_overflow")
            return narrow(math.ceil(Fraction(x * amount, y - amount))), self.price
        if self.liquidity == 0:
            raise SwapFails("insufficient_liquidity")
        if a_to_b:
            price = self.price - math.ceil(Fraction(amount << 128, self.liquidity))
            self._reach(price)
            needed = self._a(price, self.price)
        else:
            depth = Fraction(self.liquidity, self.price) - amount
            if depth <= 0:
                raise SwapFails("math_overflow")
            price = math.ceil(self.liquidity / depth)
            self._reach(price)
            needed = self._b(self.price, price)
        return narrow(math.ceil(needed)), price

    def _reach(self, price: int) -> None:
        if not self.lowest <= price <= self.highest:
            raise SwapFails("price_range_violation")
