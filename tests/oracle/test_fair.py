"""Fair values: exact in base units, and silent where nobody can say."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.oracle.fair import FairValues, Limits, Worth
from markets.oracle.pyth import OracleRefused
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.messages import OraclePrice

S = 1_000_000_000
NOW = 1_800_000_000 * S
LST, OTHER, SIX = "lst", "other-lst", "six"
DECIMALS = {SOL_MINT: 9, USDC_MINT: 6, LST: 9, OTHER: 9, SIX: 6}


def price(token: str, dollars: int, *, age_s: int = 0, confidence: int = 0, source: str = "pyth") -> OraclePrice:
    return OraclePrice(
        token=token,
        source=source,
        price=dollars,
        confidence=confidence,
        exponent=-8,
        published_ns=NOW - age_s * S,
    )


def values(*prices: OraclePrice) -> FairValues:
    fair = FairValues(DECIMALS)
    for each in prices:
        fair.take(each, NOW)
    return fair


def sol_and_usdc() -> FairValues:
    return values(price(SOL_MINT, 150_00000000, age_s=2), price(USDC_MINT, 1_00000000, age_s=7))


def reason(fair: FairValues, message: OraclePrice) -> str:
    with pytest.raises(OracleRefused) as caught:
        fair.take(message, NOW)
    return caught.value.reason


def test_sol_and_usdc_in_base_units() -> None:
    fair = sol_and_usdc()
    assert fair.worth(SOL_MINT, 2 * S, USDC_MINT, NOW) == Worth(300_000_000, "pyth", 7 * S)
    assert fair.worth(USDC_MINT, 300_000_000, SOL_MINT, NOW) == Worth(2 * S, "pyth", 7 * S)
    # One hundredth of a lamport's worth is nothing.
    assert fair.worth(SOL_MINT, 1, USDC_MINT, NOW) is None


def test_a_stake_pool_needs_no_oracle() -> None:
    fair = values()
    fair.set_rate(LST, 5, 4, NOW - 3 * S)
    fair.set_rate(OTHER, 3, 2, NOW - 9 * S)
    assert fair.worth(LST, 100, SOL_MINT, NOW) == Worth(125, "stake_pool", 3 * S)
    assert fair.worth(SOL_MINT, 126, LST, NOW) == Worth(100, "stake_pool", 3 * S)
    assert fair.worth(LST, 120, OTHER, NOW) == Worth(100, "stake_pool", 9 * S)
    assert fair.worth(LST, 100, USDC_MINT, NOW) is None


def test_an_lst_in_dollars_goes_through_sol() -> None:
    fair = sol_and_usdc()
    fair.set_rate(LST, 5, 4, NOW - 20 * S)
    assert fair.worth(LST, S, USDC_MINT, NOW) == Worth(187_500_000, "stake_pool+pyth", 20 * S)
    assert fair.worth(USDC_MINT, 187_500_000, LST, NOW) == Worth(S, "pyth+stake_pool", 20 * S)
    fair.take(price(LST, 200_00000000, source="hermes"), NOW)
    worth = fair.worth(LST, S, USDC_MINT, NOW)
    assert worth is not None
    assert worth.amount_out == 200_000_000, "a price of its own stands before the rate"
    assert worth.source == "hermes+pyth"


def test_age_is_honoured_at_the_time_of_asking() -> None:
    fair = FairValues(DECIMALS, Limits(max_age_ns=10 * S, rate_max_age_ns=30 * S))
    for token in (SOL_MINT, USDC_MINT):
        fair.take(price(token, 100), NOW)
    fair.set_rate(LST, 1, 1, NOW)
    assert fair.worth(SOL_MINT, S, USDC_MINT, NOW + 10 * S) is not None
    assert fair.worth(SOL_MINT, S, USDC_MINT, NOW + 10 * S + 1) is None
    assert fair.worth(LST, S, SOL_MINT, NOW + 30 * S) is not None
    assert fair.worth(LST, S, SOL_MINT, NOW + 30 * S + 1) is None


def test_a_wide_interval_takes_the_price_away() -> None:
    fair = sol_and_usdc()
    fair.take(price(SOL_MINT, 150_00000000, confidence=1_50000000), NOW)
    assert reason(fair, price(SOL_MINT, 150_00000000, confidence=1_50000001)) == "wide_interval"
    assert fair.worth(SOL_MINT, S, USDC_MINT, NOW) is None


def test_a_price_that_is_not_valid_takes_the_one_before_away() -> None:
    fair = sol_and_usdc()
    assert reason(fair, price(SOL_MINT, 0)) == "bad_price"
    assert fair.worth(SOL_MINT, S, USDC_MINT, NOW) is None
    fair.take(price(SOL_MINT, 160_00000000), NOW)
    assert fair.worth(SOL_MINT, S, USDC_MINT, NOW) is not None


def test_older_and_future_and_foreign_prices_are_refused() -> None:
    fair = sol_and_usdc()
    assert reason(fair, price(SOL_MINT, 1, age_s=3)) == "older"
    assert reason(fair, price(SOL_MINT, 1, age_s=-6)) == "from_the_future"
    assert reason(fair, price("unknown", 1)) == "wrong_feed"
    assert reason(fair, OraclePrice(token=SOL_MINT, price=1, exponent=40, published_ns=NOW)) == "bad_price"
    assert fair.worth(SOL_MINT, 2 * S, USDC_MINT, NOW) == Worth(300_000_000, "pyth", 7 * S)


def test_rates() -> None:
    fair = values()
    fair.set_rate(LST, 5, 4, NOW)
    fair.set_rate(LST, 9, 4, NOW - 1)
    assert fair.worth(LST, 100, SOL_MINT, NOW) == Worth(125, "stake_pool", 0)
    fair.set_rate(LST, 0, 4, NOW)
    assert fair.worth(LST, 100, SOL_MINT, NOW) is None
    fair.set_rate(LST, 5, 4, NOW)
    fair.clear()
    assert fair.worth(LST, 100, SOL_MINT, NOW) is None
    fair.set_rate(SOL_MINT, 2, 1, NOW)
    fair.set_rate(LST, 1, 1, NOW)
    assert fair.worth(SOL_MINT, 100, LST, NOW) == Worth(100, "stake_pool", 0)


def test_what_has_no_worth() -> None:
    fair = sol_and_usdc()
    assert fair.worth(SOL_MINT, S, SOL_MINT, NOW) is None
    assert fair.worth(SOL_MINT, 0, USDC_MINT, NOW) is None
    assert fair.worth(SOL_MINT, -1, USDC_MINT, NOW) is None
    assert fair.worth(USDC_MINT, 2**64 - 1, SOL_MINT, NOW) is None, "more than an amount can be"


@given(
    st.integers(1, 2**62), st.integers(-18, 9), st.integers(1, 2**62), st.integers(-18, 9), st.integers(1, 2**64 - 1)
)
def test_worth_is_the_exact_fraction_rounded_down(sol: int, sol_e: int, six: int, six_e: int, amount: int) -> None:
    fair = FairValues(DECIMALS)
    fair.take(OraclePrice(token=SOL_MINT, price=sol, exponent=sol_e, published_ns=NOW), NOW)
    fair.take(OraclePrice(token=SIX, price=six, exponent=six_e, published_ns=NOW), NOW)
    exact = Fraction(amount, 10**9) * sol * Fraction(10) ** sol_e / (six * Fraction(10) ** six_e) * 10**6
    worth = fair.worth(SOL_MINT, amount, SIX, NOW)
    wanted = exact.numerator // exact.denominator
    assert (0 if worth is None else worth.amount_out) == (wanted if wanted < 2**64 else 0)
