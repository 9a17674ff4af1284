"""The search over stake pools: prices that do not move with the amount, limits, and a fee that climbs."""

from __future__ import annotations

import pytest

from markets.solana.pools import Pool, QuoteError, Searcher
from markets.tokens import SOL_MINT
from pipeline.messages import Protocol

from .build import MINT_A, NOW, POOL, SLOT, amm_v4_accounts, key
from .stake_build import RENT, marinade_accounts, stake_pool_accounts


@pytest.mark.parametrize(("reserve", "bound"), [(RENT + 10**10, True), (10**15, False)])
def test_the_search_stops_where_the_reserve_ends(reserve: int, bound: bool) -> None:
    """The token costs 1 % less than its stake pool pays: what the reserve holds is taken, and no more."""
    stake = Pool.parse(Protocol.SPL_STAKE_POOL, POOL, stake_pool_accounts(10**15, 10**15, reserve), SLOT, 0, NOW)
    market = amm_v4_accounts(1_010 * 10**12, 1_000 * 10**12, pool=key(300), mints=(MINT_A, SOL_MINT))
    searcher = Searcher([SOL_MINT])
    searcher.upsert(1, stake)
    searcher.upsert(2, Pool.parse(Protocol.RAYDIUM_AMM_V4, key(300), market, SLOT, 0, NOW))
    searcher.set_limits(SOL_MINT, 10**15, 0)
    (found,) = searcher.search()
    assert [leg.pool_id for leg in found.legs] == [2, 1]
    left = stake.info()["available_lamports"] - found.amount_out
    assert left >= 0
    assert (left <= 2) is bound


@pytest.mark.parametrize("sol_leg", [60_000 * 10**9, 21_500 * 10**9, 9_000 * 10**9])
def test_the_search_finds_the_size_on_a_climbing_fee(sol_leg: int) -> None:
    """The token costs a few percent less than it stands for: no size of a fine grid brings more than the one found."""
    stake = Pool.parse(
        Protocol.MARINADE,
        POOL,
        marinade_accounts(10**16, 10**16, sol_leg=sol_leg, reserve=0, tickets=0, msol_leg=0),
        SLOT,
        0,
        NOW,
    )
    market = amm_v4_accounts(1_080 * 10**12, 1_000 * 10**12, pool=key(300), mints=(MINT_A, SOL_MINT))
    cheap = Pool.parse(Protocol.RAYDIUM_AMM_V4, key(300), market, SLOT, 0, NOW)
    searcher = Searcher([SOL_MINT])
    searcher.upsert(1, stake)
    searcher.upsert(2, cheap)
    searcher.set_limits(SOL_MINT, 10**15, 0)
    (found,) = searcher.search()

    def profit(amount: int) -> int:
        try:
            return stake.quote_in(True, cheap.quote_in(False, amount).amount_out).amount_out - amount
        except QuoteError:
            return 0

    best = max(profit(amount) for amount in range(10**10, 60_000 * 10**9, 10**10))
    assert found.net_profit == profit(found.amount_in)
    # Within one step of the fee the best size lies at the step's end: at most the step's worth is missed.
    assert found.net_profit * 1_000 >= best * 995
