"""One answer for each opportunity, whatever is repeated, lost or restarted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.messages import ExecutionPlan, Mode, Opportunity, PlanRefusal, RefusalReason, decode
from workers.planner.limits import PlanLimits
from workers.planner.open_plans import OpenPlans
from workers.planner.outcome import outcome_id
from workers.planner.planner import Planner

from .opportunities import FakePools, a_market, allowed, an_opportunity, halted, rules


def a_planner(market: FakePools | None = None, gate: Callable[[], Any] = allowed, **settings_: Any) -> Planner:
    allow = rules(**settings_)
    plans = OpenPlans()
    return Planner(
        rules=allow,
        open_plans=plans,
        limits=PlanLimits(plans, max_plans=allow.settings.max_plans, window_ns=allow.settings.window_ms * 1_000_000),
        market=market or a_market(),
        gate=gate,
        mode=Mode.PAPER,
        wall_ns=lambda: 42,
        producer="planner",
    )


def test_a_plan_says_everything() -> None:
    opportunity = an_opportunity()
    plan = a_planner().answer(opportunity)
    assert isinstance(plan, ExecutionPlan)
    assert plan.id == outcome_id(opportunity.id)
    assert plan.correlation_id == plan.causation_id == opportunity.id
    assert (plan.created_ns, plan.producer, plan.mode) == (42, "planner", Mode.PAPER)
    assert plan.expected_profit == plan.expected_amount_out - plan.amount_in - plan.cost
    assert plan.min_amount_out == plan.amount_in + plan.cost == plan.legs[-1].min_amount_out
    assert (plan.base_fee, plan.priority_fee, plan.tip) == (5_000, 1_000, 100_000)
    assert (plan.slot, plan.expires_ns, plan.permit_epoch) == (10, opportunity.expires_ns, 3)
    assert 0 < plan.risk_score <= 1
    assert decode(plan.encode()) == plan


def test_nothing_is_planned_when_halted_or_disabled() -> None:
    for planner in (a_planner(gate=halted), a_planner(enabled=False)):
        refusal = planner.answer(an_opportunity())
        assert isinstance(refusal, PlanRefusal)
        assert [reason.reason for reason in refusal.reasons] == [RefusalReason.NOT_PERMITTED]
        assert planner.open_plans == 0
        assert decode(refusal.encode()) == refusal


def test_the_same_answer_until_it_is_stored_then_none() -> None:
    market = a_market()
    planner = a_planner(market)
    first = planner.answer(an_opportunity())
    market.reserves.clear()  # a second look would refuse
    assert planner.answer(an_opportunity()) is first
    planner.stored(an_opportunity().id)
    assert planner.answer(an_opportunity()) is None
    assert planner.open_plans == 1


def test_a_restarted_planner_knows_what_was_decided() -> None:
    before = a_planner(**{"sol.max_open": 15 * 10**8})
    plan = before.answer(an_opportunity(1))
    refusal = before.answer(an_opportunity(2))
    assert isinstance(plan, ExecutionPlan)
    assert isinstance(refusal, PlanRefusal)
    after = a_planner(**{"sol.max_open": 15 * 10**8})
    after.remember(plan)
    after.remember(refusal)
    assert after.answer(an_opportunity(1)) is None
    assert after.answer(an_opportunity(2)) is None
    again = after.answer(an_opportunity(3))
    assert isinstance(again, PlanRefusal)
    assert [reason.reason for reason in again.reasons] == [RefusalReason.EXPOSURE_LIMIT]


def test_huge_figures_make_a_refusal_and_no_error() -> None:
    for opportunity in (
        an_opportunity(cost=2**64 - 1, amount_in=2**64 - 1),
        an_opportunity(net_profit=-(2**63), found_ns=-(2**63), expires_ns=-(2**63)),
        an_opportunity(base_fee=2**64 - 1, priority_fee=2**64 - 1, tip=2**64 - 1),
    ):
        refusal = a_planner().answer(opportunity)
        assert isinstance(refusal, PlanRefusal)
        assert decode(refusal.encode()) == refusal


repeats = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["answer", "store", "fail", "restart"])), max_size=40)


@settings(max_examples=100, deadline=None)
@given(steps=repeats, gap=st.sampled_from([0, 200]))
def test_exactly_one_outcome_per_opportunity(steps: list[tuple[int, str]], gap: int) -> None:
    """However often it comes, publishes fail and the planner restarts: the stream holds one answer for it."""
    stream: dict[str, bytes] = {}
    planner, waiting = a_planner(a_market(gap)), {}
    for number, step in steps:
        opportunity: Opportunity = an_opportunity(number)
        if step == "answer":
            outcome = planner.answer(opportunity)
            if outcome is not None:
                waiting[opportunity.id] = outcome
        elif step == "store" and opportunity.id in waiting:
            outcome = waiting.pop(opportunity.id)
            # The server drops what has an id that it knows.
            assert stream.setdefault(outcome.id, outcome.encode()) == outcome.encode()
            planner.stored(opportunity.id)
        elif step == "fail":
            waiting.pop(opportunity.id, None)
        elif step == "restart":
            waiting.clear()
            planner = a_planner(a_market(200 - gap))
            for payload in stream.values():
                planner.remember(decode(payload))
    for number in {number for number, _ in steps}:
        outcome = planner.answer(an_opportunity(number))
        if outcome is not None:
            assert stream.setdefault(outcome.id, outcome.encode()) == outcome.encode()
    assert set(stream) == {outcome_id(an_opportunity(number).id) for number, _ in steps}
