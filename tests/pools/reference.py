"""Pools in plain Python: slow, from the raw accounts, walking tick array after tick array as the programs do.

Written apart from the native core, from the programs' behaviour, so that a mistake in one shows in the other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

WHIRLPOOL = "whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc"
AMM_V4 = "675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8"
CPMM = "CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C"
TOKEN = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
TOKEN_2022 = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"

MIN_TICK, MAX_TICK = -443_636, 443_636
MIN_SQRT_PRICE, MAX_SQRT_PRICE = 4_295_048_016, 79_226_673_515_401_279_992_447_579_055
U64 = 2**64 - 1
U128 = 2**128 - 1
ARRAY = 88

# fmt: off
_UP = [79232123823359799118286999567, 79236085330515764027303304731, 79244008939048815603706035061,
       79259858533276714757314932305, 79291567232598584799939703904, 79355022692464371645785046466,
       79482085999252804386437311141, 79736823300114093921829183326, 80248749790819932309965073892,
       81282483887344747381513967011, 83390072131320151908154831281, 87770609709833776024991924138,
       97234110755111693312479820773, 119332217159966728226237229890, 179736315981702064433883588727,
       407748233172238350107850275304, 2098478828474011932436660412517, 55581415166113811149459800483533,
       38992368544603139932233054999993551]
_DOWN = [18445821805675392311, 18444899583751176498, 18443055278223354162, 18439367220385604838, 18431993317065449817,
         18417254355718160513, 18387811781193591352, 18329067761203520168, 18212142134806087854, 17980523815641551639,
         17526086738831147013, 16651378430235024244, 15030750278693429944, 12247334978882834399, 8131365268884726200,
         3584323654723342297, 696457651847595233, 26294789957452057, 37481735321082]
# fmt: on


class SwapFails(Exception):
    """The program would fail."""


def sqrt_price(tick: int) -> int:
    if tick >= 0:
        ratio = 1 << 96
        for bit, factor in enumerate(_UP):
            if tick >> bit & 1:
                ratio = ratio * factor >> 96
        return ratio >> 32
    ratio = 1 << 64
    for bit, factor in enumerate(_DOWN):
        if -tick >> bit & 1:
            ratio = ratio * factor >> 64
    return ratio


def tick_at(price: int) -> int:
    """The greatest tick whose price is not above this one, by bisection."""
    low, high = MIN_TICK, MAX_TICK
    while low < high:
        middle = (low + high + 1) // 2
        if sqrt_price(middle) <= price:
            low = middle
        else:
            high = middle - 1
    return low


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


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


# --- adaptive fees


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
