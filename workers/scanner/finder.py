"""The search of one slot: pools in, profitable cycles out. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markets.costs import PAR, Costs, SolPrice, cost_in_token, price_against_us
from markets.solana.venues import VENUES
from markets.tokens import LAMPORTS_PER_SOL, SOL_MINT
from pipeline._core import Candidate, Pool, QuoteError, Searcher

CYCLE_LEGS = (2, 3)
"""How many swaps a cycle may have."""
_UNGUARDED = frozenset(int(protocol) for protocol, venue in VENUES.items() if not venue.ENFORCES_MINIMUM)


@dataclass(frozen=True, slots=True)
class HeldPool:
    """One pool, and the market time of its state."""

    pool: Pool
    observed_ns: int


@dataclass(frozen=True, slots=True)
class Found:
    """A cycle that pays after all costs."""

    candidate: Candidate
    pools: tuple[HeldPool, ...]
    """One per leg."""
    costs: Costs
    """What the transaction of so many swaps costs, lamports."""
    cost: int
    """The same in the cycle's token, rounded up."""

    @property
    def net_profit(self) -> int:
        """Return what is left after the pools' fees and the transaction's costs."""
        return self.candidate.amount_out - self.candidate.amount_in - self.cost


class Finder:
    """Holds the pools between two searches, and knows what a transaction costs in every token that cycles end in."""

    def __init__(self, costs: Callable[[int], Costs], limits: Mapping[str, int]) -> None:
        """Begin without pools.

        `costs` tells what a transaction of so many swaps costs; `limits` are the tokens that cycles start in, with the
        largest amount of each.
        """
        self._costs = {legs: costs(legs) for legs in CYCLE_LEGS}
        self.limits = dict(limits)
        self.pools: dict[int, HeldPool] = {}
        self._searcher = Searcher(list(limits))
        self._offers: dict[str, dict[int, SolPrice]] = {token: {} for token in limits if token != SOL_MINT}
        self._sol: dict[str, SolPrice | None] = dict.fromkeys(limits)
        for token in limits:
            self._price(token)

    def put(self, pool_id: int, pool: Pool, observed_ns: int) -> None:
        """Take over a pool's newest state; one whose program guards no swap has no place in a cycle."""
        if int(pool.protocol) in _UNGUARDED:
            return
        self.pools[pool_id] = HeldPool(pool, observed_ns)
        self._searcher.upsert(pool_id, pool)
        self._offer(pool_id, pool)

    def drop(self, pool_id: int) -> None:
        """Forget a pool."""
        if self.pools.pop(pool_id, None) is None:
            return
        self._searcher.remove(pool_id)
        for token, offers in self._offers.items():
            if offers.pop(pool_id, None) is not None:
                self._price(token)

    def search(self, changed: Sequence[int] | None) -> list[Found]:
        """Return the cycles that pay, the best first: those through changed pools, or all of them."""
        candidates = self._searcher.search(None if changed is None else list(changed))
        found = [found for found in map(self._found, candidates) if found is not None and found.net_profit > 0]
        return sorted(found, key=_rank)

    @property
    def examined(self) -> int:
        """Return how many directed cycles the last search looked at."""
        return self._searcher.examined

    @property
    def left_out(self) -> int:
        """Return how many cycles that look promising the last search did not size, as there were too many."""
        return self._searcher.left_out

    def cost_in(self, token: str, legs: int = CYCLE_LEGS[0]) -> int | None:
        """Return what a transaction of so many swaps costs in a token; None where nothing tells SOL's price in it."""
        price = self._sol[token]
        return None if price is None else cost_in_token(self._costs[legs].lamports, price)

    def _found(self, candidate: Candidate) -> Found | None:
        legs = len(candidate.legs)
        cost = self.cost_in(candidate.token, legs)
        if cost is None:
            return None
        pools = tuple(self.pools[leg.pool_id] for leg in candidate.legs)
        return Found(candidate, pools, self._costs[legs], cost)

    def _offer(self, pool_id: int, pool: Pool) -> None:
        """Note what the pool gives for one SOL, where that is the price of a token that cycles end in."""
        token = pool.token_b if pool.token_a == SOL_MINT else pool.token_a
        offers = self._offers.get(token)
        if offers is None or SOL_MINT not in (pool.token_a, pool.token_b):
            return
        try:
            out = pool.quote_in(pool.token_a == SOL_MINT, LAMPORTS_PER_SOL).amount_out
        except QuoteError:
            out = 0
        if out:
            offers[pool_id] = SolPrice(out, LAMPORTS_PER_SOL)
        else:
            offers.pop(pool_id, None)
        self._price(token)

    def _price(self, token: str) -> None:
        price = PAR if token == SOL_MINT else price_against_us(token, list(self._offers[token].values()))
        if price != self._sol[token]:
            self._sol[token] = price
            # The cheapest transaction: what pays for a dearer one is looked at afterwards.
            cost = self.cost_in(token)
            if cost is not None:
                self._searcher.set_limits(token, self.limits[token], cost)


def _rank(found: Found) -> tuple[int, str, Iterable[str]]:
    return -found.net_profit, found.candidate.token, [leg.pool for leg in found.candidate.legs]
