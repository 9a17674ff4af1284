"""The Raydium CLMM program in plain Python.

It walks bitmaps and tick arrays as the program does, bit by bit; the native core never does. Layouts and formulas:
raydium-io/raydium-clmm, programs/amm/src.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from .build import CONFIG, NOW, POOL, Raw
from .reference import Moved
from .ticks import MAX_TICK, MIN_TICK, SwapFails, ceil_div

CLMM = "CAMMCzo5YL8w4VFF8KVHrK22GGUsp5VTaW7grrKgrWqK"
ARRAY = 60
U64, U128 = 2**64 - 1, 2**128 - 1
MIN_SQRT_PRICE, MAX_SQRT_PRICE = 4295048016, 79226673521066979257578248091

# fmt: off
FACTORS = [0xfffcb933bd6fb800, 0xfff97272373d4000, 0xfff2e50f5f657000, 0xffe5caca7e10f000, 0xffcb9843d60f7000,
            0xff973b41fa98e800, 0xff2ea16466c9b000, 0xfe5dee046a9a3800, 0xfcbe86c7900bb000, 0xf987a7253ac65800,
            0xf3392b0822bb6000, 0xe7159475a2caf000, 0xd097f3bdfd2f2000, 0xa9f746462d9f8000, 0x70d869a156f31c00,
            0x31be135f97ed3200, 0x9aa508b5b85a500, 0x5d6af8dedc582c, 0x2216e584f5fa]
# fmt: on


def sqrt_price(tick: int) -> int:
    ratio = 1 << 64
    for bit, factor in enumerate(FACTORS):
        if abs(tick) >> bit & 1:
            ratio = ratio * factor >> 64
    return U128 // ratio if tick > 0 else ratio


def tick_at(price: int) -> int:
    """The greatest tick whose price is not above this one, by bisection."""
    low, high = MIN_TICK, MAX_TICK
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sqrt_price(middle) <= price else (low, middle - 1)
    return low


@dataclass
class Tick:
    index: int
    net: int
    gross: int
    fee_outside: list[int]
    reward_outside: list[int]
    orders: int

    @property
    def initialized(self) -> bool:
        return self.gross > 0 or self.orders > 0


@dataclass
class Reward:
    on: bool
    state: int
    opens: int
    ends: int
    updated: int
    emissions: int
    total: int
    growth: int


@dataclass
class MovingFee:
    filter_s: int
    decay_s: int
    reduction: int
    control: int
    most: int
    start: int
    """Group where the price was: groups are stretches of one tick spacing."""
    floor: int
    volatility: int
    updated: int

    def rate(self, base: int, spacing: int) -> int:
        part = ceil_div(self.control * (self.volatility * spacing) ** 2, 100_000 * 10_000**2)
        return min(100_000, base + min(100_000, part))

    def see(self, group: int) -> None:
        self.volatility = min(self.most, self.floor + 10_000 * abs(self.start - group))

    def aged(self, group: int, now: int) -> MovingFee:
        """The same, as a swap at this time begins with."""
        age = max(0, now - self.updated)
        if age < self.filter_s:
            return replace(self)
        floor = self.volatility * self.reduction // 10_000 if age < self.decay_s else 0
        return replace(self, start=group, floor=floor, updated=now)


@dataclass
class Clmm:
    spacing: int
    fee_rate: int
    protocol_rate: int
    fund_rate: int
    liquidity: int
    price: int
    tick: int
    fee_growth: list[int]
    protocol_owed: list[int]
    fund_owed: list[int]
    rewards: list[Reward]
    near: int
    """Bitmap of the arrays -512..511."""
    groups: list[int] | None
    """Bitmaps of 512 arrays each: 14 upwards from 512, 14 downwards from -513."""
    moving: MovingFee | None
    arrays: dict[int, list[Tick]] = field(default_factory=dict)
    """All 60 ticks of an array, by its start."""

    @classmethod
    def parse(cls, accounts: list[Raw]) -> Clmm:
        rows = {address: data for address, _, data in accounts}
        data, config = rows[POOL], rows[CONFIG]
        protocol, fee, _, fund = struct.unpack_from("<IIHI", config, 43)
        pool = cls(
            spacing=_int(data, 235, 2),
            fee_rate=fee,
            protocol_rate=protocol,
            fund_rate=fund,
            liquidity=_int(data, 237, 16),
            price=_int(data, 253, 16),
            tick=_int(data, 269, 4, signed=True),
            fee_growth=[_int(data, 277, 16), _int(data, 293, 16)],
            protocol_owed=[_int(data, 309, 8), _int(data, 317, 8)],
            fund_owed=[_int(data, 1064, 8), _int(data, 1072, 8)],
            rewards=[_reward(data, 397 + 169 * index) for index in range(3)],
            near=_int(data, 904, 128),
            groups=None,
            moving=MovingFee(*struct.unpack_from("<HHHIIiIIQ", data, 1096)) if any(data[1096:1176]) else None,
        )
        for _, owner, raw in accounts:
            if owner == CLMM and raw[:8].hex() == "3c9624db61808b99":
                pool.groups = [_int(raw, 40 + 64 * group, 64) for group in range(28)]
            elif owner == CLMM and raw[:8].hex() == "c09b55cd31f9812a":
                pool.arrays[_int(raw, 40, 4, signed=True)] = [_tick(raw, 44 + 168 * at) for at in range(ARRAY)]
        return pool

    @property
    def span(self) -> int:
        return ARRAY * self.spacing

    def exists(self, start: int) -> bool:
        position = start // self.span
        if -512 <= position < 512:
            return bool(self.near >> position + 512 & 1)
        if self.groups is None:
            raise SwapFails("missing_tick_array_bitmap_extension_account")
        group = position // 512 - 1 if position > 0 else 14 + (-position - 1) // 512 - 1
        return bool(self.groups[group] >> position % 512 & 1)

    def next_array(self, start: int, down: bool) -> int:
        """Where the next array with initialized ticks starts."""
        while True:
            start += -self.span if down else self.span
            if start + self.span <= MIN_TICK or start > MAX_TICK:
                raise SwapFails("liquidity_insufficient")
            if self.exists(start):
                return start

    def open(self, start: int) -> list[Tick]:
        if start not in self.arrays:
            raise SwapFails("not_enough_tick_array_account")
        return self.arrays[start]

    def swap(self, down: bool, amount: int, exact_in: bool = True, limit: int = 0, now: int = NOW) -> Moved:
        """Swap and move on; raises before anything changed where the program would fail."""
        bound = limit or (MIN_SQRT_PRICE + 1 if down else MAX_SQRT_PRICE - 1)
        ahead = MIN_SQRT_PRICE < bound < self.price if down else self.price < bound < MAX_SQRT_PRICE
        if not ahead or amount == 0:
            raise SwapFails("sqrt_price_limit_overflow")
        start = self.tick // self.span * self.span
        inside = self.exists(start)
        if not inside:
            start = self.next_array(start, down)
        array = self.open(start)
        rewards = [reward if not reward.on else _grown(reward, self.liquidity, now) for reward in self.rewards]
        left, got, fees, owed, fund = amount, 0, 0, 0, 0
        price, tick, liquidity, growth = self.price, self.tick, self.liquidity, self.fee_growth[0 if down else 1]
        crossed: list[tuple[Tick, int]] = []
        group = tick // self.spacing
        moving = self.moving.aged(group, now) if self.moving else None
        while left and price != bound:
            entry = self._within(array, start, tick, down)
            if entry is None and not inside:
                inside = True
                entry = _first(array, down)
            elif entry is None:
                start = self.next_array(start, down)
                array = self.open(start)
                entry = _first(array, down)
            edge = sqrt_price(entry.index)
            target = max(bound, edge) if down else min(bound, edge)
            ahead = liquidity
            while True:
                rate, stop, passing = self.fee_rate, target, True
                if moving:
                    moving.see(group)
                    rate = moving.rate(self.fee_rate, self.spacing)
                    passing = liquidity == 0 or moving.volatility == moving.most
                    border = sqrt_price(max(MIN_TICK, min(MAX_TICK, (group if down else group + 1) * self.spacing)))
                    if not passing:
                        stop = max(target, border) if down else min(target, border)
                spent, brought, fee, after = step(left, rate, liquidity, price, stop, exact_in, down)
                left -= spent + fee if exact_in else brought
                got += brought if exact_in else spent + fee
                if left < 0 or got > U64:
                    raise SwapFails("calculate_overflow")
                fees += fee
                shares = fee * self.protocol_rate // 10**6, fee * self.fund_rate // 10**6
                owed, fund = owed + shares[0], fund + shares[1]
                if liquidity:
                    growth = growth + ((fee - sum(shares) << 64) // liquidity) & U128
                if after == edge:
                    if entry.orders:
                        raise SwapFails("limit_orders")
                    ahead = liquidity + (-entry.net if down else entry.net)
                    if not 0 <= ahead <= U128:
                        raise SwapFails("liquidity_add_value_err")
                    crossed.append((entry, growth))
                    tick = entry.index - 1 if down else entry.index
                elif after != price:
                    tick = tick_at(after)
                price = after
                if moving:
                    if passing:
                        at = entry.index if price == edge else tick
                        group = at // self.spacing - (1 if not down and at % self.spacing == 0 else 0)
                        if moving.volatility != moving.most:
                            moving.see(group)
                    group += -1 if down else 1
                if not left or price == target:
                    break
            liquidity = ahead
        used = amount - left
        moved = Moved(used, got, fees) if exact_in else Moved(got, used, fees)
        if (left and not limit) or not moved.amount_in or not moved.amount_out:
            raise SwapFails("partial_fill_error")
        side = 0 if down else 1
        for entry, then in crossed:
            growths = [then, self.fee_growth[1]] if down else [self.fee_growth[0], then]
            entry.fee_outside = [now_ - old & U128 for now_, old in zip(growths, entry.fee_outside, strict=True)]
            entry.reward_outside = [
                reward.growth - old & U128 if reward.on else old
                for reward, old in zip(rewards, entry.reward_outside, strict=True)
            ]
        self.price, self.tick, self.liquidity, self.rewards = price, tick, liquidity, rewards
        self.moving = moving
        self.fee_growth[side] = growth
        self.protocol_owed[side] += owed
        self.fund_owed[side] += fund
        return moved

    def _within(self, array: list[Tick], start: int, tick: int, down: bool) -> Tick | None:
        """The next initialized tick in the array that a tick lies in."""
        if tick // self.span * self.span != start:
            return None
        offset = (tick - start) // self.spacing
        order = range(offset, -1, -1) if down else range(offset + 1, ARRAY)
        return next((array[at] for at in order if array[at].initialized), None)


def _first(array: list[Tick], down: bool) -> Tick:
    found = [entry for entry in array if entry.initialized]
    if not found:
        raise SwapFails("invalid_tick_array")
    return found[-1 if down else 0]


def _grown(reward: Reward, liquidity: int, now: int) -> Reward:
    until = min(now, reward.ends)
    if now <= reward.opens or until < reward.updated:
        return reward
    elapsed = until - reward.updated
    growth, total = reward.growth, reward.total
    if liquidity:
        growth = growth + elapsed * reward.emissions // liquidity & U128
        total = total + ceil_div(elapsed * reward.emissions, 1 << 64) & U64
    state = 2 if reward.opens <= until < reward.ends else 3 if until == reward.ends else reward.state
    return Reward(True, state, reward.opens, reward.ends, until, reward.emissions, total, growth)


def delta_0(p: int, q: int, liquidity: int, up: bool) -> int:
    numerator, denominator = (liquidity << 64) * abs(p - q), p * q
    return ceil_div(numerator, denominator) if up else numerator // denominator


def delta_1(p: int, q: int, liquidity: int, up: bool) -> int:
    numerator = liquidity * abs(p - q)
    return ceil_div(numerator, 1 << 64) if up else numerator >> 64


def step(
    left: int, rate: int, liquidity: int, price: int, target: int, exact_in: bool, down: bool
) -> tuple[int, int, int, int]:
    """Amount in, amount out, fee, price after."""
    amounts_in, amounts_out = (delta_0, delta_1) if down else (delta_1, delta_0)
    if exact_in:
        usable = left * (10**6 - rate) // 10**6
        enough = amounts_in(price, target, liquidity, True) <= usable
    else:
        usable = left
        enough = amounts_out(price, target, liquidity, False) <= usable
    after = target if enough else next_price(price, liquidity, usable, exact_in, down)
    if after < target if down else after > target:
        raise SwapFails("require_gte_violated")
    spent, brought = amounts_in(price, after, liquidity, True), amounts_out(price, after, liquidity, False)
    if spent > U64 or brought > U64:
        raise SwapFails("max_token_overflow")
    if exact_in and after != target:
        return spent, brought, left - spent, after
    return spent, brought if exact_in else min(brought, left), ceil_div(spent * rate, 10**6 - rate), after


def next_price(price: int, liquidity: int, amount: int, exact_in: bool, down: bool) -> int:
    if liquidity == 0:
        raise SwapFails("zero_liquidity")
    if down == exact_in:
        whole = liquidity << 64
        denominator = whole + (amount if exact_in else -amount) * price
        if denominator <= 0:
            raise SwapFails("calculate_overflow")
        after = ceil_div(whole * price, denominator)
    else:
        after = price + ((amount << 64) // liquidity if exact_in else -ceil_div(amount << 64, liquidity))
    if not 0 <= after <= U128:
        raise SwapFails("calculate_overflow")
    return after


def _reward(data: bytes, at: int) -> Reward:
    opens, ends, updated = struct.unpack_from("<QQQ", data, at + 1)
    return Reward(
        on=any(data[at + 57 : at + 89]),
        state=data[at],
        opens=opens,
        ends=ends,
        updated=updated,
        emissions=_int(data, at + 25, 16),
        total=_int(data, at + 41, 8),
        growth=_int(data, at + 153, 16),
    )


def _tick(data: bytes, at: int) -> Tick:
    return Tick(
        index=_int(data, at, 4, signed=True),
        net=_int(data, at + 4, 16, signed=True),
        gross=_int(data, at + 20, 16),
        fee_outside=[_int(data, at + 36, 16), _int(data, at + 52, 16)],
        reward_outside=[_int(data, at + 68 + 16 * index, 16) for index in range(3)],
        orders=_int(data, at + 124, 8) + _int(data, at + 132, 8),
    )


def _int(data: bytes, at: int, size: int, *, signed: bool = False) -> int:
    return int.from_bytes(data[at : at + size], "little", signed=signed)
