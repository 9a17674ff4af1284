"""Raw accounts of made-up pools."""

from __future__ import annotations

import struct

import base58

from .reference import AMM_V4, CPMM, TOKEN, TOKEN_2022, WHIRLPOOL
from .ticks import sqrt_price

Raw = tuple[str, str, bytes]
SYSTEM = "11111111111111111111111111111111"
SLOT, NOW = 300_000_000, 1_750_000_000


def key(number: int) -> str:
    """An address, from a small number."""
    return base58.b58encode(number.to_bytes(32, "big")).decode()


POOL, MINT_A, MINT_B, VAULT_A, VAULT_B, CONFIG = (key(number) for number in range(101, 107))


def raw_key(address: str) -> bytes:
    return base58.b58decode(address)


def token_account(
    address: str, mint: str, amount: int, *, owner: str = TOKEN, state: int = 1, extensions: bytes = b""
) -> Raw:
    data = bytearray(165)
    data[0:32] = raw_key(mint)
    struct.pack_into("<Q", data, 64, amount)
    data[108] = state
    if extensions:
        data += b"\x02" + extensions
    return address, owner, bytes(data)


def mint_account(address: str, *, owner: str = TOKEN, extensions: bytes = b"") -> Raw:
    data = bytearray(82)
    data[44], data[45] = 9, 1
    if extensions:
        data += bytes(165 - 82) + b"\x01" + extensions
    return address, owner, bytes(data)


def fee_config(bps: int, maximum: int, *, newer_epoch: int = 0, older: tuple[int, int] = (0, 0)) -> bytes:
    """Token-2022's TransferFeeConfig."""
    body = bytes(72) + struct.pack("<QQHQQH", 0, older[1], older[0], newer_epoch, maximum, bps)
    return struct.pack("<HH", 1, len(body)) + body


def withheld() -> bytes:
    """Token-2022's TransferFeeAmount, which accounts of such a mint carry."""
    return struct.pack("<HHQ", 2, 8, 0)


def tick_array(start: int, ticks: dict[int, int], *, pool: str = POOL, dynamic: bool = False) -> bytes:
    """A tick array with initialized ticks (offset -> liquidity net)."""
    body, bitmap = b"", 0
    for offset in range(88):
        if offset in ticks:
            bitmap |= 1 << offset
            fill = b"".join(struct.pack("<QQ", 1000 * offset + at, at) for at in range(5))
            net = ticks[offset]
            body += b"\x01" + net.to_bytes(16, "little", signed=True) + abs(net).to_bytes(16, "little") + fill
        else:
            body += b"\x00" if dynamic else bytes(113)
    head = struct.pack("<i", start)
    if dynamic:
        return bytes.fromhex("11d8f68ee1c7da38") + head + raw_key(pool) + bitmap.to_bytes(16, "little") + body
    return bytes.fromhex("4561bdbe6e0742bb") + head + body + raw_key(pool)


def whirlpool_account(
    *,
    spacing: int = 64,
    fee_rate: int = 3_000,
    protocol_rate: int = 300,
    liquidity: int = 10**12,
    tick: int = 0,
    price: int | None = None,
    tier: int | None = None,
    rewards: bool = True,
    mints: tuple[str, str] = (MINT_A, MINT_B),
    vaults: tuple[str, str] = (VAULT_A, VAULT_B),
) -> bytes:
    data = bytearray(653)
    data[:8] = bytes.fromhex("3f95d10ce1806309")
    struct.pack_into("<4H", data, 41, spacing, spacing if tier is None else tier, fee_rate, protocol_rate)
    data[49:65] = liquidity.to_bytes(16, "little")
    data[65:81] = (sqrt_price(tick) if price is None else price).to_bytes(16, "little")
    struct.pack_into("<iQQ", data, 81, tick, 11, 22)
    data[101:133], data[133:165] = raw_key(mints[0]), raw_key(vaults[0])
    data[165:181] = (2**128 - 5).to_bytes(16, "little")
    data[181:213], data[213:245] = raw_key(mints[1]), raw_key(vaults[1])
    data[245:261] = (777 << 64).to_bytes(16, "little")
    struct.pack_into("<Q", data, 261, NOW - 1_000)
    if rewards:
        data[269:301] = raw_key(key(200))
        data[365:381] = (3 << 64).to_bytes(16, "little")
        data[381:397] = (2**128 - 1).to_bytes(16, "little")
    return bytes(data)


def whirlpool_accounts(
    ranges: list[tuple[int, int, int]],
    *,
    tick: int = 0,
    spacing: int = 64,
    dynamic: bool = False,
    pool: str = POOL,
    **options: object,
) -> list[Raw]:
    """A pool with positions (lower tick, upper tick, liquidity), its liquidity what they add up to at its tick."""
    net: dict[int, int] = {}
    for lower, upper, amount in ranges:
        net[lower] = net.get(lower, 0) + amount
        net[upper] = net.get(upper, 0) - amount
    span = 88 * spacing
    arrays: dict[int, dict[int, int]] = {}
    for index, change in net.items():
        start = index // span * span
        arrays.setdefault(start, {})[(index - start) // spacing] = change
    liquidity = sum(amount for lower, upper, amount in ranges if lower <= tick < upper)
    data = whirlpool_account(spacing=spacing, tick=tick, liquidity=liquidity, **options)
    rows = [(pool, WHIRLPOOL, data)]
    for number, (start, ticks) in enumerate(sorted(arrays.items())):
        kind = dynamic and number % 2 == 0
        rows.append((key(1_000 + number), WHIRLPOOL, tick_array(start, ticks, pool=pool, dynamic=kind)))
    return rows


def amm_v4_accounts(
    coin: int,
    pc: int,
    *,
    owed: tuple[int, int] = (0, 0),
    fee: tuple[int, int] = (25, 10_000),
    status: int = 6,
    open_time: int = 0,
    pool: str = POOL,
    mints: tuple[str, str] = (MINT_A, MINT_B),
    owner: str = TOKEN,
) -> list[Raw]:
    data = bytearray(752)
    struct.pack_into("<Q", data, 0, status)
    struct.pack_into("<QQQQ", data, 176, *fee, *owed)
    struct.pack_into("<Q", data, 224, open_time)
    data[336:368], data[368:400] = raw_key(VAULT_A), raw_key(VAULT_B)
    data[400:432], data[432:464] = raw_key(mints[0]), raw_key(mints[1])
    return [
        (pool, AMM_V4, bytes(data)),
        token_account(VAULT_A, mints[0], coin, owner=owner),
        token_account(VAULT_B, mints[1], pc, owner=owner),
    ]


def cpmm_accounts(
    vault_a: int,
    vault_b: int,
    *,
    owed: tuple[int, int] = (0, 0),
    rates: tuple[int, int, int] = (2_500, 120_000, 40_000),
    creator_rate: int = 0,
    creator_on: int = 0,
    creator_enabled: bool = False,
    status: int = 0,
    open_time: int = 0,
    pool: str = POOL,
    mints: tuple[str, str] = (MINT_A, MINT_B),
    owners: tuple[str, str] = (TOKEN, TOKEN),
    vault_extensions: bytes = b"",
) -> list[Raw]:
    data = bytearray(637)
    data[:8] = bytes.fromhex("f7ede3f5d7c3de46")
    data[8:40] = raw_key(CONFIG)
    data[72:104], data[104:136] = raw_key(VAULT_A), raw_key(VAULT_B)
    data[168:200], data[200:232] = raw_key(mints[0]), raw_key(mints[1])
    data[232:264], data[264:296] = raw_key(owners[0]), raw_key(owners[1])
    data[329] = status
    struct.pack_into("<QQ", data, 341, *owed)
    struct.pack_into("<Q", data, 373, open_time)
    data[389], data[390] = creator_on, creator_enabled
    config = bytearray(236)
    config[:8] = bytes.fromhex("daf42168cbcb2b6f")
    struct.pack_into("<QQQ", config, 12, *rates)
    struct.pack_into("<Q", config, 108, creator_rate)

    def vault(address: str, mint: str, amount: int, owner: str) -> Raw:
        extensions = vault_extensions if owner == TOKEN_2022 else b""
        return token_account(address, mint, amount, owner=owner, extensions=extensions)

    return [
        (pool, CPMM, bytes(data)),
        (CONFIG, CPMM, bytes(config)),
        vault(VAULT_A, mints[0], vault_a, owners[0]),
        vault(VAULT_B, mints[1], vault_b, owners[1]),
    ]


def oracle_account(
    *,
    filter_s: int = 30,
    decay_s: int = 600,
    reduction: int = 5_000,
    control: int = 4_000,
    most: int = 350_000,
    size: int = 64,
    major: int = 64,
    updated: int = NOW - 100,
    major_at: int = NOW - 90,
    start: int = 20_000,
    group: int = 0,
    volatility: int = 60_000,
    opens: int = 0,
    pool: str = POOL,
    address: str = key(4_000),
) -> Raw:
    """The adaptive-fee oracle of a Whirlpool."""
    data = bytearray(254)
    data[:8] = bytes.fromhex("8bc283b38cb3e5f4")
    data[8:40] = raw_key(pool)
    struct.pack_into("<QHHHIIHH", data, 40, opens, filter_s, decay_s, reduction, control, most, size, major)
    struct.pack_into("<QQIiI", data, 82, updated, major_at, start, group, volatility)
    return address, WHIRLPOOL, bytes(data)
