"""The decision: six checks, the risk score, and what is refused for one reason alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.messages import ConfidenceBand, Leg, Opportunity, Protocol, RefusalReason
from workers.planner.cycle import cycle_problem, requote
from workers.planner.decide import Approved, Moment, Refused, Rules, decide, planned_legs
from workers.planner.limits import PlanLimits
from workers.planner.open_plans import OpenPlans, Swap
from workers.planner.risk import share

from .opportunities import JITO, SLOT_NS, START_NS, FakePools, a_market, an_opportunity, rules


def deciding(
    opportunity: Opportunity,
    market: FakePools | None = None,
    *,
    allow: Rules | None = None,
    epoch: int | None = 3,
    moment: Moment | None = None,
    open_plans: OpenPlans | None = None,
) -> Approved | Refused:
    market = market or a_market()
    plans = open_plans or OpenPlans()
    return decide(
        opportunity,
        moment or market.moment(opportunity),
        quotes=market,
        open_plans=plans,
        limits=PlanLimits(plans, max_plans=500, window_ns=10**9),
        rules=allow or rules(),
        permit_epoch=epoch,
    )


def reasons(decision: Approved | Refused) -> list[RefusalReason]:
    assert isinstance(decision, Refused), decision
    return [RefusalReason(refusal.reason) for refusal in decision.reasons]


def test_a_good_one_is_approved_at_the_fresh_quote() -> None:
    decision = deciding(an_opportunity())
    assert isinstance(decision, Approved)
    cycle = decision.cycle
    assert cycle.cost == 106_000
    assert cycle.net_profit == cycle.amount_out - 10**9 - 106_000 > 0
    assert decision.min_amount_out == 10**9 + 106_000
    assert decision.permit_epoch == 3
    first, last = planned_legs(decision)
    # The second leg takes exactly what the first is expected to give: less must not do.
    assert (first.amount_in, first.min_amount_out) == (10**9, last.amount_in)
    assert first.amount_out == last.amount_in
    assert (last.amount_out, last.min_amount_out) == (cycle.amount_out, 10**9 + 106_000)
    assert (last.slot, last.quoted_ns) == (10, START_NS + 10 * SLOT_NS)


@pytest.mark.parametrize(
    ("reason", "changes", "settings_", "gap"),
    [
        (RefusalReason.PROFIT_TOO_LOW, {}, {}, 0),
        (RefusalReason.PROFIT_TOO_LOW, {"cost": 20_000_000}, {}, 200),
        (RefusalReason.PROFIT_TOO_LOW, {}, {"sol.min_profit": 10**9}, 200),
        (RefusalReason.PROFIT_TOO_LOW, {}, {"min_profit_bps": 200.0}, 200),
        (RefusalReason.CONFIDENCE_TOO_LOW, {"confidence": 0.49}, {}, 200),
        (RefusalReason.CONFIDENCE_TOO_LOW, {"confidence": math.nan}, {}, 200),
        (RefusalReason.QUOTE_TOO_OLD, {"found_ns": START_NS + 6 * SLOT_NS}, {}, 200),
        (RefusalReason.AMOUNT_OUT_OF_RANGE, {}, {"sol.min_amount_in": 2 * 10**9}, 200),
        (RefusalReason.AMOUNT_OUT_OF_RANGE, {"amount_in": 2 * 10**12}, {}, 200),
        (RefusalReason.SLIPPAGE_TOO_HIGH, {}, {"max_price_impact_bps": 0.5}, 200),
        (RefusalReason.POOL_BLACKLISTED, {}, {"blacklist": ("dear",)}, 200),
        (RefusalReason.POOL_BLACKLISTED, {}, {"blacklist": (JITO,)}, 200),
        (RefusalReason.POOL_BLACKLISTED, {}, {"blacklist": (SOL_MINT,)}, 200),
        (RefusalReason.RISK_TOO_HIGH, {"confidence": 0.6}, {"risk.max_score": 0.1}, 200),
        (RefusalReason.EXPOSURE_LIMIT, {}, {"sol.max_open": 10**9 - 1}, 200),
    ],
)
def test_each_check_refuses_with_its_figures(
    reason: RefusalReason, changes: dict[str, Any], settings_: dict[str, Any], gap: int
) -> None:
    decision = deciding(an_opportunity(**changes), a_market(gap), allow=rules(**settings_))
    assert reason in reasons(decision)
    assert isinstance(decision, Refused)
    for refusal in decision.reasons:
        assert refusal.subject
        assert refusal.measured != refusal.limit


def test_old_pool_states_are_refused_by_pool() -> None:
    market = a_market()
    market.quoted_ns -= 130_000_000_000
    decision = deciding(an_opportunity(), market, moment=Moment(10, START_NS + 10 * SLOT_NS))
    assert reasons(decision) == [RefusalReason.QUOTE_TOO_OLD, RefusalReason.QUOTE_TOO_OLD]
    assert isinstance(decision, Refused)
    assert {refusal.subject for refusal in decision.reasons} == {"cheap", "dear"}


def test_every_reason_is_given() -> None:
    opportunity = an_opportunity(confidence=0.1, found_ns=START_NS, amount_in=2 * 10**12)
    allow = rules(max_price_impact_bps=1.0, blacklist=("dear",), **{"risk.max_score": 0.1, "sol.max_open": 10**12})
    assert set(reasons(deciding(opportunity, a_market(0), allow=allow))) == {
        RefusalReason.PROFIT_TOO_LOW,
        RefusalReason.CONFIDENCE_TOO_LOW,
        RefusalReason.QUOTE_TOO_OLD,
        RefusalReason.AMOUNT_OUT_OF_RANGE,
        RefusalReason.SLIPPAGE_TOO_HIGH,
        RefusalReason.POOL_BLACKLISTED,
        RefusalReason.RISK_TOO_HIGH,
        RefusalReason.EXPOSURE_LIMIT,
        RefusalReason.PROFIT_NOT_CONFIRMED,
    }


def test_a_band_lower_than_the_best_asks_for_a_fresh_quote_that_confirms() -> None:
    for band, trusted in ((ConfidenceBand.VERIFY, 0.8), (ConfidenceBand.CAUTIOUS, 0.6)):
        promising = an_opportunity(confidence=trusted, band=band)
        assert isinstance(deciding(promising), Approved)
        # The fresh quote gives a tenth of what was promised here.
        hardly = promising.replace(gross_profit=10 * promising.gross_profit, net_profit=10 * promising.net_profit)
        assert RefusalReason.PROFIT_NOT_CONFIRMED in reasons(deciding(hardly))
        assert isinstance(deciding(hardly.replace(confidence=0.95, band=ConfidenceBand.EXECUTE)), Approved)


def test_caution_makes_the_amount_small() -> None:
    allow = rules(**{"cautious_amount_ratio": 0.001, "sol.max_amount_in": 10**11})
    cautious = deciding(an_opportunity(confidence=0.6, band=ConfidenceBand.CAUTIOUS), allow=allow)
    assert isinstance(cautious, Approved)
    assert cautious.cycle.amount_in == 10**8
    assert cautious.min_amount_out == 10**8 + cautious.cycle.cost
    verified = deciding(an_opportunity(confidence=0.8, band=ConfidenceBand.VERIFY), allow=allow)
    assert isinstance(verified, Approved)
    assert verified.cycle.amount_in == 10**9


def test_the_lower_of_band_and_figure_counts() -> None:
    claimed = an_opportunity(confidence=0.2, band=ConfidenceBand.EXECUTE)
    assert RefusalReason.CONFIDENCE_TOO_LOW in reasons(deciding(claimed, allow=rules(min_confidence=0.0)))
    nameless = an_opportunity(confidence=0.99, band=ConfidenceBand.SKIP)
    assert RefusalReason.CONFIDENCE_TOO_LOW in reasons(deciding(nameless, allow=rules(min_confidence=0.0)))
    unheard = an_opportunity(confidence=0.99, band=77)
    assert isinstance(deciding(unheard), Approved)


def test_unknown_programs_are_barred() -> None:
    legs = an_opportunity().legs
    for unknown in (Protocol.UNKNOWN, 77):
        decision = deciding(an_opportunity(legs=[legs[0].replace(protocol=unknown), legs[1]]))
        assert reasons(decision) == [RefusalReason.POOL_BLACKLISTED]


def test_a_token_without_limits_is_refused() -> None:
    market = a_market()
    legs = [
        Leg(pool="dear", protocol=Protocol.WHIRLPOOL, token_in=JITO, token_out=SOL_MINT),
        Leg(pool="cheap", protocol=Protocol.WHIRLPOOL, token_in=SOL_MINT, token_out=JITO),
    ]
    decision = deciding(an_opportunity(token=JITO, legs=legs), market)
    assert set(reasons(decision)) == {RefusalReason.AMOUNT_OUT_OF_RANGE, RefusalReason.EXPOSURE_LIMIT}


def test_late_and_halted_are_refused_without_a_quote() -> None:
    market = a_market()
    late = deciding(an_opportunity(), market, moment=Moment(14, START_NS + 14 * SLOT_NS))
    assert reasons(late) == [RefusalReason.EXPIRED]
    halted = deciding(an_opportunity(), market, epoch=None)
    assert reasons(halted) == [RefusalReason.NOT_PERMITTED]
    assert market.asked == 0


@pytest.mark.parametrize("lacking", ["cheap", "dear"])
def test_a_pool_without_a_quote(lacking: str) -> None:
    market = a_market()
    del market.reserves[lacking]
    decision = deciding(an_opportunity(), market)
    assert reasons(decision) == [RefusalReason.QUOTE_MISSING]
    assert isinstance(decision, Refused)
    assert decision.reasons[0].subject == lacking


def test_over_the_liquidity() -> None:
    decision = deciding(an_opportunity(amount_in=1))
    assert reasons(decision) == [RefusalReason.AMOUNT_OUT_OF_RANGE]


def test_a_cost_that_is_too_low_is_not_believed() -> None:
    sol = deciding(an_opportunity(cost=0))
    assert isinstance(sol, Approved)
    assert sol.min_amount_out == 10**9 + 106_000
    # 106,000 lamports at 150 USDC per SOL are 15,900 millionths of a USDC
    usdc = deciding(an_opportunity(token=USDC_MINT, amount_in=10**8, cost=0))
    assert isinstance(usdc, Approved)
    assert usdc.cycle.cost >= 15_900
    dearer = deciding(an_opportunity(token=USDC_MINT, amount_in=10**8, cost=20_000))
    assert isinstance(dearer, Approved)
    assert dearer.cycle.cost == 20_000


def test_without_a_price_of_sol_there_is_no_plan() -> None:
    # USDC -> JitoSOL -> USDC, by a scanner that counts no cost: nothing tells what the lamports are worth.
    deep = 10**15
    market = FakePools({name: {USDC_MINT: deep + 10**14 * (name == "b"), JITO: deep} for name in "ab"})
    legs = [
        Leg(pool="a", protocol=Protocol.WHIRLPOOL, token_in=USDC_MINT, token_out=JITO),
        Leg(pool="b", protocol=Protocol.RAYDIUM_CPMM, token_in=JITO, token_out=USDC_MINT),
    ]
    unpriced = an_opportunity(token=USDC_MINT, amount_in=10**8, cost=0, legs=legs)
    refused = deciding(unpriced, market)
    assert reasons(refused) == [RefusalReason.QUOTE_MISSING]
    assert isinstance(refused, Refused)
    assert refused.reasons[0].subject == SOL_MINT
    # Where the scanner names a cost, its price of SOL sizes the tip too: 150 millionths of a USDC for 1,000 lamports.
    priced = deciding(unpriced.replace(cost=15_900), market, allow=rules(**{"tip.profit_ratio": 0.5}))
    assert isinstance(priced, Approved)
    assert priced.cycle.costs.tip == 1_000_000
    assert priced.cycle.cost == 1_006_000 * 15 // 100


def test_the_tip_is_a_share_of_the_profit_before_it() -> None:
    gross = deciding(an_opportunity()).cycle.amount_out - 10**9
    before = gross - 6_000
    for ratio, tip in ((0.0, 100_000), (0.02, -(-before // 50)), (0.2, 1_000_000)):
        decision = deciding(an_opportunity(), allow=rules(**{"tip.profit_ratio": ratio}))
        assert isinstance(decision, Approved)
        assert decision.cycle.costs.tip == tip
        assert decision.cycle.cost == 6_000 + tip
        assert decision.min_amount_out == 10**9 + 6_000 + tip
        assert decision.cycle.net_profit == before - tip
    # What is left after the tip is what counts as profit.
    dear = rules(**{"tip.profit_ratio": 1.0, "tip.max_lamports": 10**12})
    assert RefusalReason.PROFIT_TOO_LOW in reasons(deciding(an_opportunity(), allow=dear))


def test_programs_that_guard_no_swap_are_barred() -> None:
    legs = an_opportunity().legs
    decision = deciding(an_opportunity(legs=[legs[0].replace(protocol=Protocol.MARINADE), legs[1]]))
    assert reasons(decision) == [RefusalReason.POOL_BLACKLISTED]


@pytest.mark.parametrize(
    "change",
    [
        lambda legs: [],
        lambda legs: [legs[0]],
        lambda legs: [legs[1], legs[0]],
        lambda legs: [legs[0], legs[1].replace(token_out=JITO)],
        lambda legs: [legs[0], legs[1].replace(token_out=USDC_MINT)],
        lambda legs: [legs[0].replace(token_in=JITO), legs[1]],
    ],
)
def test_what_is_no_cycle(change: Callable[[Any], list[Leg]]) -> None:
    assert cycle_problem(an_opportunity()) is None
    assert cycle_problem(an_opportunity(legs=change(an_opportunity().legs)))
    assert cycle_problem(an_opportunity(amount_in=0))


def test_a_gap_is_not_planned_for_twice() -> None:
    plans = OpenPlans()
    first = deciding(an_opportunity(1, amount_in=10**10), open_plans=plans)
    assert isinstance(first, Approved)
    swaps = [Swap(leg.pool, leg.token_in, leg.amount_in) for leg in planned_legs(first)]
    plans.add("first", SOL_MINT, 10**10, swaps, slot=1)
    second = deciding(an_opportunity(2, amount_in=10**10), open_plans=plans)
    assert isinstance(second, Approved)
    assert second.cycle.amount_out < first.cycle.amount_out
    plans.add("second", SOL_MINT, 10**10, [Swap(s.pool, s.token_in, 8 * s.amount_in) for s in swaps], slot=1)
    assert reasons(deciding(an_opportunity(3, amount_in=10**10), open_plans=plans)) == [RefusalReason.PROFIT_TOO_LOW]
    # The market shows the fills in the slot after the results'.
    plans.settle("first", 11)
    plans.settle("second", 11)
    later = deciding(an_opportunity(4, slot=12, amount_in=10**10), open_plans=plans)
    assert isinstance(later, Approved)
    assert later.cycle.amount_out == first.cycle.amount_out


def test_share_is_within_bounds() -> None:
    assert [share(x, 10) for x in (-5, 0, 5, 10, 11, math.inf, math.nan)] == [0, 0, 0.5, 1, 1, 1, 1]
    assert (share(0, 0), share(1, 0)) == (0, 1)


u64 = st.integers(0, 2**64 - 1)
reserve = st.integers(1, 10**15)


@settings(max_examples=300, deadline=None)
@given(
    reserves=st.tuples(reserve, reserve, reserve, reserve),
    amount_in=st.one_of(st.integers(1, 10**12), u64.filter(bool)),
    fees=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9)),
    cost=st.one_of(st.integers(0, 10**9), u64),
    confidence=st.floats(),
    ratio=st.floats(0, 1),
)
def test_a_loss_is_never_planned(
    reserves: tuple[int, int, int, int],
    amount_in: int,
    fees: tuple[int, int, int],
    cost: int,
    confidence: float,
    ratio: float,
) -> None:
    market = FakePools(
        {
            "cheap": {SOL_MINT: reserves[0], JITO: reserves[1]},
            "dear": {SOL_MINT: reserves[2], JITO: reserves[3]},
        }
    )
    opportunity = an_opportunity(
        amount_in=amount_in,
        base_fee=fees[0],
        priority_fee=fees[1],
        tip=fees[2],
        cost=cost,
        confidence=confidence,
    )
    allow = rules(max_price_impact_bps=10_000.0, min_confidence=0.0, **{"tip.profit_ratio": ratio})
    decision = deciding(opportunity, market, allow=allow)
    if isinstance(decision, Refused):
        assert decision.reasons
        assert all(not math.isnan(refusal.measured) for refusal in decision.reasons)
        return
    assert decision.cycle.net_profit >= 1
    assert allow.tip.min_lamports <= decision.cycle.costs.tip <= allow.tip.max_lamports
    assert decision.min_amount_out >= amount_in + max(cost, decision.cycle.costs.lamports)
    assert planned_legs(decision)[-1].min_amount_out == decision.min_amount_out <= decision.cycle.amount_out
    assert 0 <= decision.risk.total <= 1
    fresh = requote(opportunity, market, OpenPlans(), allow.tip)
    assert fresh == decision.cycle
