"""The market engine: seeded traders on exact pools. Pure: (pools, seed, slot, our fills) -> pools.

A pool's next state is a function of its own state, our fills on it, the seed and the slot, and of nothing else. So a
market that is restarted in the middle of a slot finishes the same slot, whatever part of it had been published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from localnet.draws import Draws
from localnet.fair import PPM, shift_ppm
from localnet.genesis import PROTOCOLS, STAKING, Listing, fair_price, genesis, listings, terms_of
from localnet.stake_pools import updated
from markets.tokens import LAMPORTS_PER_SOL, SOL_MINT, Pair, Registry
from pipeline._core import Pool, QuoteError

Trader = Literal["noise", "informed", "ours"]

# What informed traders try, doubling from the first: the size that pays best at the fair price is taken.
_SMALLEST_LAMPORTS = 50_000_000
_SIZES = 14


@dataclass(frozen=True, slots=True)
class Temper:
    """How lively the simulated traders are; chances per pool and slot, millionths."""

    noise_chance: int = 30_000
    large_chance: int = 60_000
    """Of the noise trades, so many are three times as large as usual."""
    informed_chance: int = 300_000
    informed_profit_lamports: int = 1_000_000
    """An informed trader does not move for less."""


@dataclass(frozen=True, slots=True)
class PoolModel:
    """What the simulated traders know of one pool."""

    address: str
    pair: Pair
    fair_b: int
    """Price at the start: this many base units of token B ..."""
    fair_a: int
    """... for this many of token A."""
    noise_lamports: int
    """Largest ordinary noise trade, worth in lamports."""
    flipped: bool = False
    """True where token A is the pair's quote token: the pair's price is that of B in A."""
    shifts: tuple[int, int] = (-PPM, PPM)
    """The fair price keeps within these: nobody pays more for a staked token than a deposit costs."""
    staking: bool = False
    """True for a stake pool: people stake and unstake there, for no reason that has to do with its price."""

    def value(self, amount: int, *, is_a: bool, shift: int) -> int:
        """Return what an amount of one of the pool's tokens is worth in the other, at the fair price."""
        given, taken = (self.fair_a, self.fair_b) if is_a else (self.fair_b, self.fair_a)
        if is_a is self.flipped:
            # Given is the pair's quote token, and the shift is of the price in it.
            return amount * taken * PPM // (given * (PPM + shift))
        return amount * taken * (PPM + shift) // (given * PPM)


@dataclass(frozen=True, slots=True)
class Trade:
    """One swap that moved a pool."""

    trader: Trader
    pool: str
    a_to_b: bool
    amount_in: int
    amount_out: int


@dataclass(frozen=True, slots=True)
class Order:
    """A swap that one of the traders wants to make."""

    trader: Trader
    a_to_b: bool
    amount_in: int


@dataclass(frozen=True, slots=True)
class OwnFill:
    """One leg of an execution of ours, to be applied to the market's pools."""

    plan: str
    pool: str
    token_in: str
    amount_in: int
    amount_out: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one slot did to one pool."""

    pool: Pool
    trades: tuple[Trade, ...]
    differing: tuple[OwnFill, ...] = ()
    """Fills that gave another amount here than the executor reported, or none."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The traders and their pools' models; holds no pool state."""

    seed: int
    models: Mapping[str, PoolModel]
    temper: Temper = Temper()
    origin: int = 0
    """Slot at which prices stand where they start: draws and fair prices go by how many slots have passed since."""

    def step(self, pool: Pool, slot: int, fills: Sequence[OwnFill] = (), *, trading: bool = True) -> Step:
        """Return one pool's next state: our fills of the slot before in order, then the traders of this slot."""
        trades: list[Trade] = []
        differing: list[OwnFill] = []
        pool = updated(pool, slot)
        for fill in fills:
            a_to_b = fill.token_in == pool.token_a
            try:
                pool, trade = _swap(pool, "ours", a_to_b, fill.amount_in)
            except QuoteError:
                differing.append(fill)
                continue
            trades.append(trade)
            if trade.amount_out != fill.amount_out:
                differing.append(fill)
        if trading:
            for decide in self.deciders(pool.address):
                order = decide(pool, slot)
                if order is None:
                    continue
                try:
                    pool, trade = _swap(pool, order.trader, order.a_to_b, order.amount_in)
                except QuoteError:
                    continue
                trades.append(trade)
        return Step(pool, tuple(trades), tuple(differing))

    def deciders(self, address: str) -> tuple[Callable[[Pool, int], Order | None], ...]:
        """Return who may trade with a pool in a slot, one after the other: each decides on the pool as it is then."""
        model = self.models.get(address)
        if model is None:
            return ()
        return (self.noise,) if model.staking else (self.noise, self.informed)

    def noise(self, pool: Pool, slot: int) -> Order | None:
        """Buy or sell without a reason: small sizes are the most frequent."""
        slot -= self.origin
        draws = Draws(self.seed, "noise", slot, pool.address)
        if not draws.chance(self.temper.noise_chance):
            return None
        model = self.models[pool.address]
        a_to_b = draws.chance(PPM // 2)
        largest = model.noise_lamports * (3 if draws.chance(self.temper.large_chance) else 1)
        lamports = largest * draws.between(1, 1000) * draws.between(1, 1000) // 1_000_000
        amount = _worth(model, pool, a_to_b, lamports)
        return Order("noise", a_to_b, amount) if amount > 0 else None

    def informed(self, pool: Pool, slot: int) -> Order | None:
        """Close the gap to the fair price, where that pays."""
        slot -= self.origin
        draws = Draws(self.seed, "informed", slot, pool.address)
        if not draws.chance(self.temper.informed_chance):
            return None
        model = self.models[pool.address]
        lowest, highest = model.shifts
        shift = max(lowest, min(highest, shift_ppm(self.seed, model.pair, slot)))
        minimum = self.temper.informed_profit_lamports
        best: tuple[int, bool, int] | None = None
        for a_to_b in (True, False):
            floor = _worth(model, pool, a_to_b, minimum)
            for exponent in range(_SIZES):
                amount = _worth(model, pool, a_to_b, _SMALLEST_LAMPORTS << exponent)
                try:
                    out = pool.quote_in(a_to_b, amount).amount_out
                except QuoteError:
                    break
                profit = model.value(out, is_a=not a_to_b, shift=shift) - amount
                if profit < floor and exponent == 0 and profit < 0:
                    break
                # Profits of the two directions are in different tokens, but only one of them can be positive.
                if profit >= floor and (best is None or profit > best[0]):
                    best = (profit, a_to_b, amount)
        return None if best is None else Order("informed", best[1], best[2])


def _swap(pool: Pool, trader: Trader, a_to_b: bool, amount: int) -> tuple[Pool, Trade]:
    moved, quote = pool.swap(a_to_b, amount)
    return moved, Trade(trader, pool.address, a_to_b, quote.amount_in, quote.amount_out)


def _worth(model: PoolModel, pool: Pool, a_to_b: bool, lamports: int) -> int:
    """Return so many lamports' worth of the token that goes in, at the price of the start."""
    token_in, other = (pool.token_a, pool.token_b) if a_to_b else (pool.token_b, pool.token_a)
    if token_in == SOL_MINT:
        return lamports
    assert other == SOL_MINT, (token_in, other)
    return model.value(lamports, is_a=not a_to_b, shift=0)


def offline_engine(
    registry: Registry, seed: int, temper: Temper | None = None, *, origin: int = 0
) -> tuple[Engine, dict[str, Pool]]:
    """Return the traders and the pools of the simulated market as it begins, which it does after slot `origin`."""
    pools: dict[str, Pool] = {}
    models: dict[str, PoolModel] = {}
    for listing, made in zip(listings(registry), genesis(registry, seed), strict=True):
        pool = Pool.parse(PROTOCOLS[made.venue], made.address, list(made.accounts), 0, 0, 0)
        quote_units, base_units = fair_price(made.pair)
        flipped = pool.token_a != made.pair.base.mint
        fair_b, fair_a = (base_units, quote_units) if flipped else (quote_units, base_units)
        pools[made.address] = pool
        models[made.address] = PoolModel(
            address=made.address,
            pair=made.pair,
            fair_b=fair_b,
            fair_a=fair_a,
            noise_lamports=_noise_lamports(listing),
            flipped=flipped,
            shifts=_shifts(made.pair, seed),
            staking=made.venue in STAKING,
        )
    return Engine(seed, models, temper or Temper(), origin), pools


def _noise_lamports(listing: Listing) -> int:
    reach = listing.depth * LAMPORTS_PER_SOL
    match listing.venue:
        case "whirlpool":
            # A usual noise trade moves a concentrated pool by up to 10 basis points and a constant product by up to 40.
            return reach * 10
        case "raydium_amm_v4" | "raydium_cpmm":
            return reach // 500
        case "spl_stake_pool":
            # And takes or brings up to a tenth of what a stake pool can pay out.
            return reach // 10
        case "marinade":
            return reach // 100


def _shifts(pair: Pair, seed: int) -> tuple[int, int]:
    made = terms_of(pair, seed)
    if made is None:
        return -PPM, PPM
    # The pair's price is that of its base in its quote: it falls when a staked quote token is worth more.
    return (-made.ceiling_ppm, PPM) if pair.base.kind == "native" else (-PPM, made.ceiling_ppm)


def own_fills(fills: Iterable[OwnFill]) -> dict[str, list[OwnFill]]:
    """Return fills by pool: in order of plan id, and in order of the legs within a plan."""
    by_pool: dict[str, list[OwnFill]] = {}
    for fill in sorted(fills, key=lambda fill: fill.plan):
        by_pool.setdefault(fill.pool, []).append(fill)
    return by_pool
