"""Whirlpools for the stand-in: made up, or recorded, with every account at the address that the program derives."""

from __future__ import annotations

import random
import struct

from localnet.layouts import token_account
from markets.solana.snapshot import PoolAccounts
from markets.solana.venues import whirlpool
from markets.solana.venues.shape import key
from pipeline.messages import Protocol
from tests.pools.build import tick_array, whirlpool_account
from tests.pools.ticks import MAX_TICK, MIN_TICK, sqrt_price

from .rig import Raw, Rig, address, authority_of, patched, plain_mint

MINTS = tuple(sorted((address("mint-a"), address("mint-b")), key=key))
VAULTS = (address("vault-a"), address("vault-b"))
CONFIG = address("whirlpools-config")
FUNDS = 2**61


def pool_address(spacing: int) -> tuple[str, int]:
    return authority_of(
        whirlpool.PROGRAM, b"whirlpool", key(CONFIG), key(MINTS[0]), key(MINTS[1]), struct.pack("<H", spacing)
    )


def made_up(
    ranges: list[tuple[int, int, int]],
    *,
    tick: int = 0,
    spacing: int = 64,
    arrays: bool = True,
    price: int | None = None,
    fee_rate: int = 3_000,
    protocol_rate: int = 300,
    rewards: bool = True,
    dynamic: int = 0,
) -> Rig:
    """Return a pool with positions (lower tick, upper tick, liquidity).

    `arrays`: also where no tick is initialized. `dynamic`: one in so many is in the dynamic layout, 0 for
    none.
    """
    pool, bump = pool_address(spacing)
    net: dict[int, int] = {}
    for lower, upper, amount in ranges:
        net[lower] = net.get(lower, 0) + amount
        net[upper] = net.get(upper, 0) - amount
    span = 88 * spacing
    home = tick // span * span
    starts = {home + offset * span for offset in range(-3, 4)} if arrays else set()
    starts = {start for start in starts if start + span > MIN_TICK and start < MAX_TICK}
    held: dict[int, dict[int, int]] = {start: {} for start in starts}
    for index, change in net.items():
        start = index // span * span
        held.setdefault(start, {})[(index - start) // spacing] = change
    liquidity = sum(amount for lower, upper, amount in ranges if lower <= tick < upper)
    data = whirlpool_account(
        spacing=spacing,
        tick=tick,
        liquidity=liquidity,
        price=price,
        fee_rate=fee_rate,
        protocol_rate=protocol_rate,
        rewards=rewards,
        mints=(MINTS[0], MINTS[1]),
        vaults=VAULTS,
    )
    raw = patched(patched((pool, whirlpool.PROGRAM, data), 8, key(CONFIG)), 40, bytes([bump]))
    rows: list[Raw] = [raw]
    for number, (start, ticks) in enumerate(sorted(held.items())):
        raw_array = tick_array(start, ticks, pool=pool, dynamic=dynamic > 0 and number % dynamic == 0)
        rows.append((whirlpool.tick_array(pool, start), whirlpool.PROGRAM, raw_array))
    rows += [token_account(v, m, pool, FUNDS) for v, m in zip(VAULTS, MINTS, strict=True)]
    return Rig(Protocol.WHIRLPOOL, pool, rows, [plain_mint(mint) for mint in MINTS])


def recorded(row: PoolAccounts) -> Rig:
    """Return a recorded pool; mints and vaults are made up, they were not recorded."""
    data = row.accounts[0][2]
    mints, vaults = whirlpool.mints(data), whirlpool.vaults(data)
    held = [token_account(v, m, row.address, FUNDS) for v, m in zip(vaults, mints, strict=True)]
    return Rig(Protocol.WHIRLPOOL, row.address, [*row.accounts, *held], [plain_mint(mint) for mint in mints])


def drawn(dice: random.Random) -> Rig:
    """Return a drawn pool."""
    spacing = dice.choice([1, 1, 4, 8, 64, 128])
    highest = MAX_TICK // spacing
    centre = dice.randrange(-min(highest, 3_000), min(highest, 3_000))
    if dice.random() < 0.1:
        centre = dice.choice([-highest + 5, highest - 5, dice.randrange(-highest, highest)])
    ranges = []
    for _ in range(dice.randrange(1, 7)):
        width = dice.choice([dice.randrange(1, 120), dice.randrange(1, 2 * highest)])
        lower = max(-highest, min(highest - 1, centre + dice.randrange(-100, 100)))
        upper = min(highest, lower + width)
        ranges.append((lower * spacing, upper * spacing, dice.randrange(1, 2 ** dice.choice([30, 40, 60, 80]))))
    tick = max(MIN_TICK, min(MAX_TICK - 1, centre * spacing + dice.randrange(spacing)))
    floor, ceiling = sqrt_price(tick), sqrt_price(tick + 1)
    return made_up(
        ranges,
        tick=tick,
        spacing=spacing,
        arrays=dice.random() < 0.8,
        price=dice.choice([floor, dice.randrange(floor, ceiling)]),
        fee_rate=dice.choice([0, 1, 100, 500, 3_000, 30_000, 60_000]),
        protocol_rate=dice.choice([0, 300, 1_300, 2_500]),
        rewards=dice.random() < 0.5,
        dynamic=dice.choice([0, 0, 1, 2]),
    )
