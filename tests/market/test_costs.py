from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.costs import PAR, Costs, SolPrice, cost_in_token, price_against_us, transaction_costs
from markets.tokens import SOL_MINT, USDC_MINT

amounts = st.integers(min_value=0, max_value=10**15)
prices = st.builds(SolPrice, st.integers(min_value=1, max_value=10**18), st.integers(min_value=1, max_value=10**18))


def test_the_priority_fee_is_rounded_up_to_a_whole_lamport():
    costs = transaction_costs(
        lamports_per_signature=5000, signatures=2, compute_units=200_001, micro_lamports_per_unit=50_000, tip_lamports=7
    )
    assert costs == Costs(base_fee=10_000, priority_fee=10_001, tip=7)
    assert costs.lamports == 20_008


@given(amounts, prices)
def test_a_cost_is_rounded_up_by_less_than_one_base_unit(lamports: int, price: SolPrice):
    exact = Fraction(lamports * price.amount, price.lamports)
    cost = cost_in_token(lamports, price)
    assert exact <= cost < exact + 1


@given(st.lists(prices, min_size=1, max_size=8))
def test_costs_are_counted_at_the_dearest_sol(offers: list[SolPrice]):
    chosen = price_against_us(USDC_MINT, offers)
    assert chosen is not None
    assert all(Fraction(chosen.amount, chosen.lamports) >= Fraction(offer.amount, offer.lamports) for offer in offers)


def test_sol_is_at_par_and_a_token_nobody_sells_for_has_no_price():
    assert price_against_us(SOL_MINT, []) is PAR
    assert cost_in_token(65_000, PAR) == 65_000
    assert price_against_us(USDC_MINT, []) is None


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="never negative"):
        Costs(1, -1, 0)
    with pytest.raises(ValueError, match="positive"):
        SolPrice(0, 1)
    with pytest.raises(ValueError, match="never negative"):
        transaction_costs(
            lamports_per_signature=1, signatures=1, compute_units=-1, micro_lamports_per_unit=1, tip_lamports=1
        )
