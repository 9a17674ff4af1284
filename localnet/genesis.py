"""The simulated pools as they stand before the first trade: real layouts, made-up addresses, prices and liquidity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from typing import Literal

from solders.pubkey import Pubkey

from localnet import stake_pools
from localnet.draws import Draws
from localnet.layouts import (
    TICKS_PER_ARRAY,
    Account,
    WhirlpoolShape,
    amm_v4,
    cpmm,
    cpmm_config,
    key,
    simulated_address,
    tick_array,
    token_account,
    whirlpool,
)
from localnet.stake_pools import Terms
from markets.solana.pools import RawAccount
from markets.solana.venues import raydium_amm_v4 as amm_v4_venue
from markets.solana.venues import raydium_cpmm as cpmm_venue
from markets.solana.venues import whirlpool as whirlpool_venue
from markets.tokens import LAMPORTS_PER_SOL, Pair, Registry, Token
from pipeline.messages import Protocol

# Prices at the start: millionths of a dollar for one SOL, lamports for one whole staked token. Near what the market
# showed in 2025, simulated all the same.
SOL_IN_USDC = 150_000_000
STAKED_IN_LAMPORTS = {
    "JitoSOL": 1_225_000_000,
    "JupSOL": 1_150_000_000,
    "mSOL": 1_320_000_000,
    "hyloSOL": 1_052_000_000,
    "bbSOL": 1_112_000_000,
    "bonkSOL": 1_131_000_000,
    "dSOL": 1_142_000_000,
    "sSOL": 1_120_000_000,
    "stSOL": 1_251_000_000,
    "BNSOL": 1_082_000_000,
    "mpSOL": 1_128_000_000,
    "BGSOL": 1_071_000_000,
    "bSOL": 1_240_000_000,
    "INF": 1_361_000_000,
}
ARRAYS_EACH_SIDE = 2

Venue = Literal["whirlpool", "raydium_amm_v4", "raydium_cpmm", "spl_stake_pool", "marinade"]
STAKING: tuple[Venue, ...] = ("spl_stake_pool", "marinade")
PROTOCOLS: dict[Venue, Protocol] = {
    "whirlpool": Protocol.WHIRLPOOL,
    "raydium_amm_v4": Protocol.RAYDIUM_AMM_V4,
    "raydium_cpmm": Protocol.RAYDIUM_CPMM,
    "spl_stake_pool": Protocol.SPL_STAKE_POOL,
    "marinade": Protocol.MARINADE,
}


@dataclass(frozen=True, slots=True)
class Listing:
    """One pool to be made."""

    pair: Pair
    venue: Venue
    depth: int
    """Constant product: SOL on one side. Concentrated liquidity: SOL that moves the price by one basis point.
    Stake pools: SOL that can be withdrawn at once, or that Marinade's liquidity pool wants."""
    tick_spacing: int = 0
    fee_rate: int = 0
    """Millionths: hundredths of a basis point."""


@dataclass(frozen=True, slots=True)
class GenesisPool:
    """One simulated pool: where it is, what it trades, its accounts."""

    address: str
    venue: Venue
    pair: Pair
    accounts: tuple[RawAccount, ...]


def listings(registry: Registry) -> list[Listing]:
    """Return the pools of the simulation: three or four per pair on different venues, then the stake pools."""
    result: list[Listing] = []
    for index, pair in enumerate(registry.pairs):
        if _stable_side(pair):
            result += [
                Listing(pair, "whirlpool", 120, tick_spacing=4, fee_rate=400),
                Listing(pair, "whirlpool", 40, tick_spacing=64, fee_rate=3000),
                Listing(pair, "raydium_amm_v4", 45_000),
                Listing(pair, "raydium_cpmm", 12_000, fee_rate=2500),
            ]
            continue
        # The first pairs of the list are the deep ones.
        scale = max(2, 12 - index)
        result += [
            Listing(pair, "whirlpool", 15 * scale, tick_spacing=1, fee_rate=100),
            Listing(pair, "whirlpool", 4 * scale, tick_spacing=8, fee_rate=500),
            Listing(pair, "raydium_cpmm", 900 * scale, fee_rate=2500)
            if index % 2
            else Listing(pair, "raydium_amm_v4", 1_200 * scale),
        ]
    for index, pair in enumerate(registry.pairs):
        staked = staked_side(pair)
        if staked is not None:
            is_marinade = staked.symbol == "mSOL"
            depth = 4_000 if is_marinade else 4 * max(2, 12 - index)
            result.append(Listing(pair, "marinade" if is_marinade else "spl_stake_pool", depth))
    return result


def genesis(registry: Registry, seed: int) -> list[GenesisPool]:
    """Return every simulated pool with its raw accounts; the seed moves depths and first prices a little."""
    return [_pool(listing, index, seed) for index, listing in enumerate(listings(registry))]


def fair_price(pair: Pair) -> tuple[int, int]:
    """Return the pair's price at the start as (base units of `pair.quote`, base units of `pair.base`)."""
    stable = _stable_side(pair)
    if stable is not None:
        forward = (SOL_IN_USDC, LAMPORTS_PER_SOL)
        return forward if stable is pair.quote else forward[::-1]
    staked = pair.quote if pair.base.kind == "native" else pair.base
    lamports = STAKED_IN_LAMPORTS.get(staked.symbol, LAMPORTS_PER_SOL)
    return (staked.unit, lamports) if staked is pair.quote else (lamports, staked.unit)


def staked_side(pair: Pair) -> Token | None:
    """Return the staked token of a pair with SOL."""
    if "native" not in (pair.base.kind, pair.quote.kind):
        return None
    return next((token for token in (pair.base, pair.quote) if token.kind == "staked"), None)


def terms_of(pair: Pair, seed: int) -> Terms | None:
    """Return the terms of the stake pool behind a pair's staked token, where it has one."""
    staked = staked_side(pair)
    if staked is None:
        return None
    lamports = STAKED_IN_LAMPORTS.get(staked.symbol, LAMPORTS_PER_SOL)
    return stake_pools.terms(seed, staked.symbol, lamports, is_marinade=staked.symbol == "mSOL")


def _stable_side(pair: Pair) -> Token | None:
    return next((token for token in (pair.base, pair.quote) if token.kind == "stable"), None)


def _pool(listing: Listing, index: int, seed: int) -> GenesisPool:
    draws = Draws(seed, "genesis", index)
    # First prices differ by up to 2 bps from pool to pool, depths by up to a fifth.
    nudge = draws.between(-200, 200)
    depth = listing.depth * draws.between(80, 120) // 100
    address = simulated_address(seed, listing.venue, listing.pair.name, index)
    if listing.venue in STAKING:
        return GenesisPool(address, listing.venue, listing.pair, _staking(replace(listing, depth=depth), address, seed))
    first, second = listing.pair.base, listing.pair.quote
    price = fair_price(listing.pair)
    # Raydium's old pools have the quote token second, which is SOL for staked tokens; the others go by the addresses.
    by_quote = listing.venue == "raydium_amm_v4"
    swapped = second.kind == "staked" if by_quote else key(first.mint) > key(second.mint)
    if swapped:
        first, second, price = second, first, price[::-1]
    # second per first, nudged.
    ratio = (price[0] * (1_000_000 + nudge), price[1] * 1_000_000)
    listing = replace(listing, depth=depth)
    if listing.venue == "whirlpool":
        place = whirlpool_place(simulated_address(seed, "whirlpools-config"), (first, second), listing.tick_spacing)
        accounts = _whirlpool(listing, place, (first, second), ratio)
        address = place.address
    else:
        accounts = _constant_product(listing, address, (first, second), ratio)
    return GenesisPool(address, listing.venue, listing.pair, tuple(accounts))


def _staking(listing: Listing, address: str, seed: int) -> tuple[RawAccount, ...]:
    staked, made = staked_side(listing.pair), terms_of(listing.pair, seed)
    assert staked is not None
    assert made is not None
    lamports = listing.depth * LAMPORTS_PER_SOL
    if listing.venue == "marinade":
        return tuple(stake_pools.marinade(address, staked.mint, made, tokens=3_800_000, liquidity=lamports))
    return tuple(stake_pools.stake_pool(address, staked.mint, made, tokens=400_000, reserve=lamports))


def _constant_product(
    listing: Listing, address: str, tokens: tuple[Token, Token], ratio: tuple[int, int]
) -> list[Account]:
    first, second = tokens
    depth = listing.depth
    if first.kind == "native":
        reserve_first = depth * LAMPORTS_PER_SOL
        reserve_second = reserve_first * ratio[0] // ratio[1]
    else:
        reserve_second = depth * LAMPORTS_PER_SOL
        reserve_first = reserve_second * ratio[1] // ratio[0]
    authority = amm_v4_venue.authority() if listing.venue == "raydium_amm_v4" else cpmm_venue.authority()
    vaults = [simulated_address(address, "vault", side) for side in range(2)]
    shares = math.isqrt(reserve_first * reserve_second)
    mints = (first.mint, second.mint)
    decimals = (first.decimals, second.decimals)
    balances = [
        token_account(vaults[0], first.mint, authority, reserve_first),
        token_account(vaults[1], second.mint, authority, reserve_second),
    ]
    if listing.venue == "raydium_amm_v4":
        return [amm_v4(address, mints, vaults, decimals, shares), *balances]
    config = simulated_address("cpmm-config", listing.fee_rate)
    pool = cpmm(address, mints, vaults, decimals, lp_supply=shares, config=config)
    return [pool, cpmm_config(config, listing.fee_rate), *balances]


@dataclass(frozen=True, slots=True)
class _Position:
    lower: int
    upper: int
    liquidity: int


@dataclass(frozen=True, slots=True)
class WhirlpoolPlace:
    """Where a Whirlpool is: the program signs for its vaults as the address that it derives."""

    address: str
    bump: int
    config: str


def whirlpool_place(config: str, tokens: tuple[Token, Token], tick_spacing: int) -> WhirlpoolPlace:
    """Return the address that the program derives for a pool of two tokens, sorted by their mints' bytes."""
    seeds = [b"whirlpool", key(config), key(tokens[0].mint), key(tokens[1].mint), tick_spacing.to_bytes(2, "little")]
    found, bump = Pubkey.find_program_address(seeds, Pubkey.from_string(whirlpool_venue.PROGRAM))
    return WhirlpoolPlace(str(found), bump, config)


def _whirlpool(
    listing: Listing, place: WhirlpoolPlace, tokens: tuple[Token, Token], ratio: tuple[int, int]
) -> list[Account]:
    first, second = tokens
    address = place.address
    spacing = listing.tick_spacing
    with localcontext() as context:
        context.prec = 60
        step = Decimal("1.0001")
        tick = int((Decimal(ratio[0]) / Decimal(ratio[1])).ln() // step.ln())
        # The price stands in the middle of its tick, far from the rounding of the program's own table.
        root = ((step.ln() * (2 * tick + 1)) / 4).exp()
        sqrt_price = int(root * 2**64)
        # Moving the price by one basis point takes liquidity * root * 0.00005 of the second token.
        lamports = listing.depth * LAMPORTS_PER_SOL
        per_bps = Decimal(lamports) if second.kind == "native" else Decimal(lamports) * ratio[0] / ratio[1]
        total = int(per_bps / (root * Decimal("0.00005")))
    span = spacing * TICKS_PER_ARRAY
    home = tick // span * span
    starts = [home + offset * span for offset in range(-ARRAYS_EACH_SIDE, ARRAYS_EACH_SIDE + 1)]
    positions = _positions(tick, spacing, starts[0], starts[-1] + span - spacing, total)
    ticks: dict[int, tuple[int, int]] = {}
    for position in positions:
        for edge, net in ((position.lower, position.liquidity), (position.upper, -position.liquidity)):
            old = ticks.get(edge, (0, 0))
            ticks[edge] = (old[0] + net, old[1] + position.liquidity)
    amount_a, amount_b = _holdings(positions, tick, sqrt_price)
    vaults = (simulated_address(address, "vault", 0), simulated_address(address, "vault", 1))
    shape = WhirlpoolShape(
        address=address,
        config=place.config,
        bump=place.bump,
        mint_a=first.mint,
        mint_b=second.mint,
        vault_a=vaults[0],
        vault_b=vaults[1],
        tick_spacing=spacing,
        fee_rate=listing.fee_rate,
        protocol_fee_rate=1300,
        sqrt_price=sqrt_price,
        tick=tick,
        liquidity=sum(position.liquidity for position in positions if position.lower <= tick < position.upper),
    )
    arrays = [
        tick_array(
            whirlpool_venue.tick_array(address, start),
            address,
            start,
            spacing,
            {edge: value for edge, value in ticks.items() if start <= edge < start + span},
        )
        for start in starts
    ]
    return [
        whirlpool(shape),
        *arrays,
        token_account(vaults[0], first.mint, address, amount_a),
        token_account(vaults[1], second.mint, address, amount_b),
    ]


def _positions(tick: int, spacing: int, lowest: int, highest: int, total: int) -> list[_Position]:
    """Spread the liquidity: a broad floor, a belt, and a narrow band around the price."""

    def edges(distance: int) -> tuple[int, int]:
        low = max(lowest, (tick - distance) // spacing * spacing)
        return low, min(highest, ((tick + distance) // spacing + 1) * spacing)

    widest = (lowest, highest)
    parts = [(widest, 50), (edges(40 * spacing), 30), (edges(10 * spacing), 20)]
    return [_Position(low, high, total * share // 100) for (low, high), share in parts]


def _holdings(positions: Sequence[_Position], tick: int, sqrt_price: int) -> tuple[int, int]:
    """Return what the positions hold of both tokens, rounded up: what the vaults must have at least."""
    amount_a = amount_b = Decimal(0)
    with localcontext() as context:
        context.prec = 60
        step = Decimal("1.0001").ln() / 2
        here = Decimal(sqrt_price) / 2**64
        for position in positions:
            low, high = (step * position.lower).exp(), (step * position.upper).exp()
            middle = low if tick < position.lower else high if tick >= position.upper else here
            amount_a += position.liquidity * (1 / middle - 1 / high)
            amount_b += position.liquidity * (middle - low)
    # A little more than the positions are worth, as real vaults have: fees not yet collected.
    return int(amount_a) + 1_000_000, int(amount_b) + 1_000_000
