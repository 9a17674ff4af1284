"""Another arbitrageur: finds cycles of two swaps over the pools of the chain, and bids for them with bundles.

It sees what everybody sees, the pools at the end of a slot, and is no better informed than we are. Whether it looks at
a slot and what it tips is a function of the seed and the slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.transaction import VersionedTransaction

from localnet.draws import Draws
from localnet.fair import PPM
from localnet.genesis import SOL_IN_USDC
from localnet.traders import Trader
from markets.costs import PAR, SolPrice, amount_in_lamports, cost_in_token, transaction_costs
from markets.solana.transactions.cycle import CycleOrder, Unbuildable, build_cycle
from markets.solana.transactions.tips import tip_account
from markets.solana.venues import VENUES, Accounts
from markets.tokens import LAMPORTS_PER_SOL, SOL_MINT, USDC_MINT
from pipeline._core import Candidate, Pool, Searcher
from pipeline.messages import Leg, Protocol

LIMITS = {SOL_MINT: 250 * LAMPORTS_PER_SOL, USDC_MINT: 50_000 * 10**6}
"""Most put into one cycle, base units."""
COMPUTE_LIMIT, MICRO_LAMPORTS = 400_000, 10_000
MOST_BIDS = 3
"""Cycles that it goes for in one slot; no two of them share a pool."""
TIP_SHARES = (20_000, 420_000)
"""Share of its profit that it tips, millionths: from little to a lot."""
TIP_BOUNDS = (50_000, 1_500_000)
"""Lamports; no tip is smaller or larger."""
# What it reckons with: near enough for a tip, and its minimum output admits no loss at that price.
_PRICES = {SOL_MINT: PAR, USDC_MINT: SolPrice(SOL_IN_USDC, LAMPORTS_PER_SOL)}


@dataclass(frozen=True, slots=True)
class Bid:
    """One cycle that the rival wants."""

    transaction: VersionedTransaction
    tip: int
    """Lamports."""
    profit: int
    """Expected before the tip, lamports."""
    pools: tuple[str, ...]


class Rival:
    """Holds the pools as it last saw them."""

    def __init__(self, seed: int, who: Trader, chance: float, tables: Sequence[AddressLookupTableAccount] = ()) -> None:
        """Begin without pools; `chance` is the share of slots that it looks at."""
        self._seed, self._who, self._chance, self._tables = seed, who, round(chance * PPM), tables
        self._costs = transaction_costs(
            lamports_per_signature=5_000,
            signatures=1,
            compute_units=COMPUTE_LIMIT,
            micro_lamports_per_unit=MICRO_LAMPORTS,
            tip_lamports=0,
        ).lamports
        self._ids: dict[str, int] = {}
        self._pools: dict[str, Pool] = {}
        self._searcher = Searcher(list(LIMITS), most_legs=2)
        for token, most in LIMITS.items():
            self._searcher.set_limits(token, most, cost_in_token(self._costs + TIP_BOUNDS[0], _PRICES[token]))

    def see(self, pool: Pool) -> None:
        """Take over a pool's newest state."""
        if not VENUES[Protocol(int(pool.protocol))].ENFORCES_MINIMUM:
            return
        self._pools[pool.address] = pool
        self._searcher.upsert(self._ids.setdefault(pool.address, len(self._ids)), pool)

    def bids(self, slot: int, accounts: Callable[[str], Accounts], blockhash: str) -> list[Bid]:
        """Return what it bids for at the end of a slot, the best first.

        `accounts` gives what swaps with a pool need; `slot` counts from the chain's first.
        """
        if not Draws(self._seed, "rival", slot).chance(self._chance):
            return []
        found = sorted(
            self._searcher.search(None),
            key=lambda one: (-self._lamports(one), one.token, [leg.pool for leg in one.legs]),
        )
        taken: set[str] = set()
        bids: list[Bid] = []
        for candidate in found:
            pools = tuple(leg.pool for leg in candidate.legs)
            if taken.intersection(pools):
                continue
            bid = self._bid(candidate, slot, accounts, blockhash)
            if bid is not None:
                bids.append(bid)
                taken.update(pools)
            if len(bids) == MOST_BIDS:
                break
        return bids

    def _lamports(self, candidate: Candidate) -> int:
        return amount_in_lamports(candidate.amount_out - candidate.amount_in, _PRICES[candidate.token]) - self._costs

    def _bid(self, candidate: Candidate, slot: int, accounts: Callable[[str], Accounts], blockhash: str) -> Bid | None:
        profit = self._lamports(candidate)
        draws = Draws(self._seed, "rival-tip", slot, *(leg.pool for leg in candidate.legs))
        lowest, highest = TIP_BOUNDS
        tip = min(max(profit * draws.between(*TIP_SHARES) // PPM, lowest), highest)
        if tip >= profit:
            return None
        known: dict[str, tuple[str, bytes]] = {}
        for leg in candidate.legs:
            known |= accounts(leg.pool)
        order = CycleOrder(
            legs=[self._leg(leg.pool, leg.a_to_b, leg.amount_in, leg.amount_out) for leg in candidate.legs],
            token=candidate.token,
            amount_in=candidate.amount_in,
            min_amount_out=candidate.amount_in + cost_in_token(self._costs + tip, _PRICES[candidate.token]),
            wallet=self._who.address,
            compute_limit=COMPUTE_LIMIT,
            micro_lamports=MICRO_LAMPORTS,
            tip=tip,
            tip_account=tip_account(candidate.legs[0].pool),
        )
        try:
            message = build_cycle(order, known, self._tables, blockhash)
        except Unbuildable:
            return None
        pools = tuple(leg.pool for leg in candidate.legs)
        return Bid(VersionedTransaction(message, [self._who.key]), tip, profit, pools)

    def _leg(self, address: str, a_to_b: bool, amount_in: int, amount_out: int) -> Leg:
        pool = self._pools[address]
        tokens = (pool.token_a, pool.token_b) if a_to_b else (pool.token_b, pool.token_a)
        return Leg(
            pool=address,
            protocol=Protocol(int(pool.protocol)),
            token_in=tokens[0],
            token_out=tokens[1],
            amount_in=amount_in,
            amount_out=amount_out,
        )
