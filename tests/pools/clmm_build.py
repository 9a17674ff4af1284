"""Raw accounts of made-up Raydium CLMM pools."""

from __future__ import annotations

import struct

from .build import CONFIG, MINT_A, MINT_B, NOW, POOL, VAULT_A, VAULT_B, Raw, key, raw_key
from .clmm import ARRAY, CLMM, U128, sqrt_price


def config_account(*, fee_rate: int = 2_500, protocol_rate: int = 120_000, fund_rate: int = 40_000) -> Raw:
    data = bytearray(117)
    data[:8] = bytes.fromhex("daf42168cbcb2b6f")
    struct.pack_into("<IIHI", data, 43, protocol_rate, fee_rate, 10, fund_rate)
    return CONFIG, CLMM, bytes(data)


def pool_account(
    *,
    spacing: int,
    tick: int,
    liquidity: int,
    price: int | None = None,
    arrays: set[int] = frozenset(),
    status: int = 0,
    open_time: int = 0,
    fee_on: int = 0,
    dynamic: bytes = b"",
) -> bytes:
    data = bytearray(1544)
    data[:8] = bytes.fromhex("f7ede3f5d7c3de46")
    for at, address in ((9, CONFIG), (73, MINT_A), (105, MINT_B), (137, VAULT_A), (169, VAULT_B)):
        data[at : at + 32] = raw_key(address)
    struct.pack_into("<H", data, 235, spacing)
    data[237:253] = liquidity.to_bytes(16, "little")
    data[253:269] = (sqrt_price(tick) if price is None else price).to_bytes(16, "little")
    struct.pack_into("<i", data, 269, tick)
    data[277:293], data[293:309] = (U128 - 5).to_bytes(16, "little"), (777 << 64).to_bytes(16, "little")
    struct.pack_into("<QQ", data, 309, 11, 22)
    data[389], data[390] = status, fee_on
    # Two rewards: one that runs, one that has ended.
    for index, end in enumerate((NOW + 1_000, NOW - 10)):
        base = 397 + 169 * index
        struct.pack_into("<QQQ", data, base + 1, NOW - 5_000, end, NOW - 1_000)
        data[base + 25 : base + 41] = (3 << 64 | 5).to_bytes(16, "little")
        data[base + 57 : base + 89] = raw_key(key(200 + index))
        data[base + 153 : base + 169] = (U128 - 1).to_bytes(16, "little")
    bits = sum(1 << position + 512 for position in arrays if -512 <= position < 512)
    data[904:1032] = bits.to_bytes(128, "little")
    struct.pack_into("<QQQ", data, 1064, 33, 44, open_time)
    data[1096 : 1096 + len(dynamic)] = dynamic
    return bytes(data)


def dynamic_fee(
    *,
    filter_s: int = 30,
    decay_s: int = 600,
    reduction: int = 5_000,
    control: int = 4_000,
    most: int = 350_000,
    start: int = 0,
    floor: int = 0,
    volatility: int = 60_000,
    updated: int = NOW - 100,
) -> bytes:
    """What stands in a pool whose fee moves."""
    return struct.pack("<HHHIIiIIQ", filter_s, decay_s, reduction, control, most, start, floor, volatility, updated)


def extension_account(arrays: set[int]) -> Raw:
    groups = [0] * 28
    for position in arrays:
        if position >= 512:
            groups[position // 512 - 1] |= 1 << position % 512
        elif position < -512:
            groups[14 + (-position - 1) // 512 - 1] |= 1 << position % 512
    data = bytes.fromhex("3c9624db61808b99") + raw_key(POOL)
    return key(3_000), CLMM, data + b"".join(group.to_bytes(64, "little") for group in groups)


def array_account(start: int, spacing: int, ticks: dict[int, tuple[int, int]], orders: dict[int, int]) -> bytes:
    """A tick array; `ticks` by offset: liquidity net and gross, `orders` by offset: what waits there."""
    data = bytearray(10_240)
    data[:8] = bytes.fromhex("c09b55cd31f9812a")
    data[8:40] = raw_key(POOL)
    struct.pack_into("<i", data, 40, start)
    for offset in ticks.keys() | orders.keys():
        net, gross = ticks.get(offset, (0, 0))
        at = 44 + 168 * offset
        struct.pack_into("<i", data, at, start + offset * spacing)
        data[at + 4 : at + 20] = net.to_bytes(16, "little", signed=True)
        data[at + 20 : at + 36] = gross.to_bytes(16, "little")
        data[at + 36 : at + 116] = b"".join(struct.pack("<QQ", 1_000 * offset + number, number) for number in range(5))
        struct.pack_into("<Q", data, at + 124 + 8 * (offset % 2), orders.get(offset, 0))
    data[44 + 168 * 60] = len(ticks)
    return bytes(data)


def clmm_accounts(
    ranges: list[tuple[int, int, int]],
    *,
    tick: int = 0,
    spacing: int = 10,
    orders: dict[int, int] | None = None,
    missing: frozenset[int] = frozenset(),
    extension: bool = True,
    rates: dict[str, int] | None = None,
    **options: object,
) -> list[Raw]:
    """A pool with positions (lower tick, upper tick, liquidity), its liquidity what they add up to at its tick.

    Arrays by their count from tick 0 can be left out; `orders` are limit orders by their tick.
    """
    span = ARRAY * spacing
    ticks: dict[int, tuple[int, int]] = {}
    for lower, upper, amount in ranges:
        for index, sign in ((lower, 1), (upper, -1)):
            net, gross = ticks.get(index, (0, 0))
            ticks[index] = (net + sign * amount, gross + amount)
    arrays = {index // span for index in ticks.keys() | (orders or {}).keys()}
    liquidity = sum(amount for lower, upper, amount in ranges if lower <= tick < upper)
    pool = pool_account(spacing=spacing, tick=tick, liquidity=liquidity, arrays=arrays, **options)
    rows = [(POOL, CLMM, pool), config_account(**(rates or {}))]
    if extension:
        rows.append(extension_account(arrays))
    for number, position in enumerate(sorted(arrays - missing)):
        start = position * span
        inside = {(index - start) // spacing: entry for index, entry in ticks.items() if index // span == position}
        waiting = {
            (index - start) // spacing: amount for index, amount in (orders or {}).items() if index // span == position
        }
        rows.append((key(2_000 + number), CLMM, array_account(start, spacing, inside, waiting)))
    return rows
