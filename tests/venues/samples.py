"""Small pools of every venue, laid out by hand."""

import struct

from markets.solana.venues import (
    Swap,
    Venue,
    marinade,
    meteora_damm_v2,
    meteora_dlmm,
    raydium_amm_v4,
    raydium_clmm,
    raydium_cpmm,
    spl_stake_pool,
    whirlpool,
)
from markets.solana.venues.shape import TOKEN_2022_PROGRAM, TOKEN_PROGRAM, discriminator
from markets.tokens import SOL_MINT, USDC_MINT
from tests.venues.recordings import laid_out

POOL = "HJPjoWUrhoZzkNfRpHuieeFk9WcZWjwy6PBjZ81ngndJ"
VAULTS = ("ANP74VNsHwSrq9uUSjiSNyNWvf6ZPrKTmE4gHoNd13Lg", "75HgnSvXbWKZBpZHveX68ZzAhDqMzNDS29X6BGLtxMo1")
CONFIG = "D4FPEruKEHrG5TenZ2mpDGEfu1iUvTiqBxvpU8HLBvC2"
USER = "J6ksVSmKYzHeVT3P4pzkPEDNP56hezuZanhXQ8JNTvS5"
SOURCE = "mDABzxpxQM4syX3QsuborrVd8v4qnPPSyj14BJuK5X6"
DESTINATION = "C2CejjJ5QXKNf58P2bJzafSAffhRL7iQYeHfKz4HNWwc"
NOW, SLOT = 1_750_000_000, 345_000_000


def swap(a_to_b: bool, minimum: int = 7) -> Swap:
    return Swap(a_to_b, 1_000, minimum, USER, SOURCE, DESTINATION)


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def amm_v4(status: int = 6, open_time: int = 0, supply: int = 1) -> bytes:
    return laid_out(
        752,
        (0, u64(status)),
        (224, u64(open_time)),
        (336, VAULTS[0]),
        (368, VAULTS[1]),
        (400, SOL_MINT),
        (432, USDC_MINT),
        (720, u64(supply)),
    )


def cpmm(status: int = 0, open_time: int = 0, supply: int = 1) -> bytes:
    return laid_out(
        637,
        (0, discriminator("PoolState", "account")),
        (8, CONFIG),
        (72, VAULTS[0]),
        (104, VAULTS[1]),
        (168, SOL_MINT),
        (200, USDC_MINT),
        (232, TOKEN_PROGRAM),
        (264, TOKEN_2022_PROGRAM),
        (296, POOL),
        (329, bytes([status])),
        (333, u64(supply)),
        (373, u64(open_time)),
    )


def clmm(status: int = 0, open_time: int = 0, tick: int = 0, spacing: int = 10, arrays: tuple[int, ...] = ()) -> bytes:
    bitmap = sum(1 << number + 512 for number in arrays)
    return laid_out(
        1544,
        (0, discriminator("PoolState", "account")),
        (9, CONFIG),
        (73, SOL_MINT),
        (105, USDC_MINT),
        (137, VAULTS[0]),
        (169, VAULTS[1]),
        (235, struct.pack("<H", spacing)),
        (269, struct.pack("<i", tick)),
        (389, bytes([status])),
        (904, bitmap.to_bytes(128, "little")),
        (1080, u64(open_time)),
    )


def dlmm(
    status: int = 0, kind: int = 0, by_time: int = 0, point: int = 0, active: int = 0, arrays: tuple[int, ...] = ()
) -> bytes:
    bitmap = sum(1 << number + 512 for number in arrays)
    return laid_out(
        904,
        (0, discriminator("LbPair", "account")),
        (75, bytes([kind])),
        (76, struct.pack("<i", active)),
        (82, bytes([status])),
        (86, bytes([by_time])),
        (88, SOL_MINT),
        (120, USDC_MINT),
        (152, VAULTS[0]),
        (184, VAULTS[1]),
        (552, CONFIG),
        (584, bitmap.to_bytes(128, "little")),
        (816, u64(point)),
    )


def damm(status: int = 0, by_time: int = 0, point: int = 0, liquidity: int = 1) -> bytes:
    return laid_out(
        1112,
        (0, discriminator("Pool", "account")),
        (168, SOL_MINT),
        (200, USDC_MINT),
        (232, VAULTS[0]),
        (264, VAULTS[1]),
        (360, liquidity.to_bytes(16, "little")),
        (472, u64(point)),
        (480, bytes([by_time, status])),
    )


def whirl(tick: int = 0, spacing: int = 64, tier: int | None = None) -> bytes:
    tier = spacing if tier is None else tier
    return laid_out(
        653,
        (0, discriminator("Whirlpool", "account")),
        (41, struct.pack("<HH", spacing, tier)),
        (81, struct.pack("<i", tick)),
        (101, SOL_MINT),
        (133, VAULTS[0]),
        (181, USDC_MINT),
        (213, VAULTS[1]),
    )


def stake(lamports: int = 1, supply: int = 1, epoch: int = SLOT // 432_000) -> bytes:
    return laid_out(
        611,
        (0, b"\x01"),
        (130, VAULTS[0]),
        (162, USDC_MINT),
        (194, VAULTS[1]),
        (226, TOKEN_PROGRAM),
        (258, u64(lamports)),
        (266, u64(supply)),
        (274, u64(epoch)),
    )


def marinade_state(paused: int = 0, supply: int = 1) -> bytes:
    return laid_out(
        2616,
        (0, discriminator("State", "account")),
        (8, USDC_MINT),
        (104, VAULTS[1]),
        (420, VAULTS[0]),
        (504, u64(supply)),
        (608, bytes([paused])),
    )


WHOLE: list[tuple[Venue, bytes]] = [
    (whirlpool, whirl()),
    (raydium_amm_v4, amm_v4()),
    (raydium_cpmm, cpmm()),
    (raydium_clmm, clmm()),
    (meteora_dlmm, dlmm()),
    (meteora_damm_v2, damm()),
    (spl_stake_pool, stake()),
    (marinade, marinade_state()),
]


def known(venue: Venue, data: bytes) -> dict[str, tuple[str, bytes]]:
    mints = {mint: (TOKEN_PROGRAM, bytes(82)) for mint in (SOL_MINT, USDC_MINT)}
    return {POOL: (venue.PROGRAMS[0], data), **mints}
