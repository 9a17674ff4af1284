"""Meteora DLMM in plain Python: raw accounts, made and read, and swaps that walk bin after bin, empty ones too.

Written apart from the native core. Formulas: Meteora's published quoting code (dlmm-sdk, commons) and docs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from .build import MINT_A, MINT_B, NOW, POOL, VAULT_A, VAULT_B, Raw, key, raw_key, token_account
from .ticks import SwapFails, ceil_div

DLMM = "LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo"
PAIR, ARRAY, EXTENSION = (bytes.fromhex(text) for text in ("210b3162b565b10d", "5c8e5cdc059446b5", "506f7c7137ed1205"))
ONE = 1 << 64
U64, U128 = 2**64 - 1, 2**128 - 1
RATE = 10**9


def bin_price(bin_id: int, step: int) -> int:
    """(1 + step / 10,000) ** bin_id as the program rounds it: powers of the inverse, cut off after each product."""
    if bin_id == 0:
        return ONE
    square, power = U128 // (ONE + (step << 64) // 10_000), ONE
    for bit in bin(abs(bin_id))[:1:-1]:
        if bit == "1":
            power = power * square >> 64
        square = square * square >> 64
    if power == 0:
        raise SwapFails("math_overflow")
    return U128 // power if bin_id > 0 else power


@dataclass
class Bin:
    x: int = 0
    y: int = 0
    price: int = 0
    processed: int = 0
    open: int = 0
    asks: bool = False
    processing: int = 0
    age: int = 0

    def layers(self, a_to_b: bool, orders: bool) -> list[int]:
        liquidity = self.y if a_to_b else self.x
        return [liquidity, self.processed, self.open] if orders and self.asks != a_to_b else [liquidity]


@dataclass
class Swapped:
    amount_in: int
    amount_out: int
    fee: int


@dataclass
class Pair:
    step: int = 25
    base_factor: int = 10_000
    power: int = 0
    filter_period: int = 30
    decay_period: int = 600
    reduction: int = 5_000
    control: int = 7_500
    max_accumulator: int = 300_000
    share: int = 500
    function: int = 0
    fee_mode: int = 0
    accumulator: int = 0
    reference: int = 0
    index_reference: int = 0
    updated: int = NOW - 10_000
    active: int = 0
    owed: list[int] = field(default_factory=lambda: [0, 0])
    bins: dict[int, Bin] = field(default_factory=dict)
    absent: frozenset[int] = frozenset()
    """Arrays that are marked and not given."""
    kind: int = 0
    status: int = 0
    activation: tuple[int, int] = (0, 0)
    rewards: bool = False
    version: int = 1
    programs: tuple[int, int] = (0, 0)

    def array_of(self, bin_id: int) -> int:
        return bin_id // 70

    @property
    def marked(self) -> list[int]:
        return sorted({self.array_of(bin_id) for bin_id in self.bins} | self.absent)

    @property
    def has_orders(self) -> bool:
        return self.function == 2 or (self.function == 0 and not self.rewards)

    def accounts(self, *, extension: bool = True, vaults: bool = True) -> list[Raw]:
        """The pair, its extension, its bin arrays by index, its vaults."""
        data = bytearray(904)
        data[:8] = PAIR
        struct.pack_into("<4H2I", data, 8, *self._periods(), self.control, self.max_accumulator)
        struct.pack_into("<H3B", data, 32, self.share, self.power, self.function, self.fee_mode)
        struct.pack_into("<2Ii4xq", data, 40, self.accumulator, self.reference, self.index_reference, self.updated)
        struct.pack_into("<BiHB", data, 75, self.kind, self.active, self.step, self.status)
        data[86] = self.activation[0]
        for at, address in zip((88, 120, 152, 184), (MINT_A, MINT_B, VAULT_A, VAULT_B), strict=True):
            data[at : at + 32] = raw_key(address)
        struct.pack_into("<QQ", data, 216, *self.owed)
        if self.rewards:
            data[264:296] = raw_key(key(77))
        data[584:712] = _bitmap(self.marked, -512, 1024)
        struct.pack_into("<Q", data, 816, self.activation[1])
        data[880:883] = bytes((*self.programs, self.version))
        accounts = [(POOL, DLMM, bytes(data))]
        if extension:
            far = EXTENSION + raw_key(POOL) + _bitmap(self.marked, 512, 6_144)
            far += _bitmap([-1 - index for index in self.marked], 512, 6_144)
            accounts.append((key(300), DLMM, far))
        given = [index for index in self.marked if index not in self.absent]
        accounts += [(key(10_000 + index), DLMM, self._array(index)) for index in given]
        if vaults:
            held = [sum(side) + owed for side, owed in zip(self._held(), self.owed, strict=True)]
            accounts += [token_account(VAULT_A, MINT_A, held[0]), token_account(VAULT_B, MINT_B, held[1])]
        return accounts

    def _periods(self) -> tuple[int, int, int, int]:
        return self.base_factor, self.filter_period, self.decay_period, self.reduction

    def _held(self) -> tuple[list[int], list[int]]:
        asks = [b.open + b.processed if b.asks else 0 for b in self.bins.values()]
        bids = [0 if b.asks else b.open + b.processed for b in self.bins.values()]
        return [b.x for b in self.bins.values()] + asks, [b.y for b in self.bins.values()] + bids

    def _array(self, index: int) -> bytes:
        body = ARRAY + struct.pack("<q8x", index) + raw_key(POOL)
        for bin_id in range(index * 70, index * 70 + 70):
            this = self.bins.get(bin_id, Bin())
            price = this.price or bin_price(bin_id, self.step)
            body += struct.pack("<QQ", this.x, this.y) + price.to_bytes(16, "little") + bytes(80)
            body += struct.pack("<3QIB3x", this.open, this.processing, this.processed, this.age, this.asks)
        return body

    @classmethod
    def parse(cls, accounts: list[Raw]) -> Pair:
        """What a swap may change, from raw accounts; the rest as it is by default."""
        pair = cls()
        for _, _, data in accounts:
            if data[:8] == PAIR:
                fields = struct.unpack_from("<2Ii4xq", data, 40)
                pair.accumulator, pair.reference, pair.index_reference, pair.updated = fields
                pair.active = struct.unpack_from("<i", data, 76)[0]
                pair.owed = list(struct.unpack_from("<QQ", data, 216))
            elif data[:8] == ARRAY:
                first = struct.unpack_from("<q", data, 8)[0] * 70
                for offset in range(70):
                    at = 56 + 144 * offset
                    x, y = struct.unpack_from("<QQ", data, at)
                    waiting, processing, processed, age, asks = struct.unpack_from("<3QIB", data, at + 112)
                    price = int.from_bytes(data[at + 16 : at + 32], "little")
                    this = Bin(x, y, price, processed, waiting, bool(asks), processing, age)
                    if x or y or processed or waiting:
                        pair.bins[first + offset] = this
        return pair

    def state(self) -> tuple[object, ...]:
        """What a swap may change."""
        bins = {
            bin_id: (this.x, this.y, this.processed, this.open, this.processing, this.age)
            for bin_id, this in sorted(self.bins.items())
            if this.x or this.y or this.processed or this.open
        }
        volatility = (self.accumulator, self.reference, self.index_reference, self.updated)
        return volatility, self.active, self.owed, bins

    def rate(self) -> int:
        base = self.base_factor * self.step * 10 * 10**self.power
        moving = ceil_div(self.control * (self.accumulator * self.step) ** 2, 10**11)
        return min(10**8, base + moving)

    def swap(self, a_to_b: bool, amount: int, exact_in: bool = True, now: int = NOW) -> Swapped:
        """Swap and move on; what was changed before a failure stays changed."""
        elapsed = now - self.updated
        if elapsed >= self.filter_period:
            self.index_reference = self.active
            self.reference = self.accumulator * self.reduction // 10_000 if elapsed < self.decay_period else 0
        given = got = fees = 0
        left, visited = amount, 0
        while left:
            here = self.array_of(self.active)
            ahead = [i for i in self.marked if (i <= here if a_to_b else i >= here)]
            if not ahead:
                raise SwapFails("pair_insufficient_liquidity")
            index = max(ahead) if a_to_b else min(ahead)
            visited += 1
            if index in self.absent or visited > 3:
                raise SwapFails("bin_array")
            if index != here:
                self.active = index * 70 + (69 if a_to_b else 0)
            while left and self.array_of(self.active) == index:
                this = self.bins.get(self.active)
                if this is not None and sum(this.layers(a_to_b, self.has_orders)):
                    distance = abs(self.index_reference - self.active)
                    self.accumulator = min(self.max_accumulator, self.reference + 10_000 * distance)
                    used, out, fee = self._in_bin(this, a_to_b, left, exact_in)
                    given, got, fees = given + used, got + out, fees + fee
                    left -= used if exact_in else out
                if left:
                    self.active += -1 if a_to_b else 1
        self.updated = now
        if max(given, got) > U64:
            raise SwapFails("math_overflow")
        return Swapped(given, got, fees)

    def _in_bin(self, this: Bin, a_to_b: bool, left: int, exact_in: bool) -> tuple[int, int, int]:
        """What one bin takes and gives to the user, and the fee."""
        rate, on_input = self.rate(), self.fee_mode == 0 or not a_to_b
        layers = this.layers(a_to_b, self.has_orders)

        def cost(amount: int) -> int:
            needed = ceil_div(amount << 64, this.price) if a_to_b else ceil_div(amount * this.price, ONE)
            if needed > U64:
                raise SwapFails("math_overflow")
            return needed

        def yields(amount: int) -> int:
            return amount * this.price >> 64 if a_to_b else (amount << 64) // this.price

        given = left
        if not exact_in:
            gross = left if on_input else left + ceil_div(left * rate, RATE - rate)
            if gross >= sum(layers):
                given = U64
            else:
                given, wanted = 0, gross
                for layer in layers:
                    given += cost(min(wanted, layer))
                    wanted -= min(wanted, layer)
                given += ceil_div(given * rate, RATE - rate) if on_input else 0
        fee = ceil_div(given * rate, RATE) if on_input else 0
        free = given - fee
        entered, taken = [], []
        for at, layer in enumerate(layers):
            if at and not free:
                entered.append(0)
                taken.append(0)
                continue
            if layer and free >= cost(layer):
                entered.append(cost(layer))
                taken.append(layer)
            else:
                entered.append(free if layer else 0)
                taken.append(yields(free) if layer else 0)
            free -= entered[-1]
        used = given
        if free:
            fee = ceil_div(sum(entered) * rate, RATE - rate) if on_input else 0
            used = sum(entered) + fee
        out = sum(taken)
        if not on_input:
            fee = ceil_div(out * rate, RATE)
            out -= fee
        if not exact_in:
            if not min(out, left):
                return 0, 0, 0
            out = min(out, left)
        self._book(this, a_to_b, entered, taken, fee, on_input)
        return used, out, fee

    def _book(self, this: Bin, a_to_b: bool, entered: list[int], taken: list[int], fee: int, on_input: bool) -> None:
        if a_to_b:
            this.x, this.y = this.x + entered[0], this.y - taken[0]
        else:
            this.x, this.y = this.x - taken[0], this.y + entered[0]
        if len(taken) == 3:
            this.processed -= taken[1]
            if taken[2]:
                this.processed, this.processing = this.processed + this.open - taken[2], this.open
                this.open, this.age = 0, this.age + 1
        total = sum(entered)
        liquidity = ceil_div(fee * entered[0], total) if total else 0
        orders = fee - liquidity if total else 0
        side = (0 if a_to_b else 1) if on_input else 1
        self.owed[side] += orders - orders * 5_000 // 10_000 + liquidity * self.share // 10_000


def _bitmap(indices: list[int], first: int, width: int) -> bytes:
    bits = sum(1 << (index - first) for index in indices if first <= index < first + width)
    return bits.to_bytes(width // 8, "little")
