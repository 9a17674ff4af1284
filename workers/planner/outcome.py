"""The one answer to an opportunity, as a message."""

from __future__ import annotations

from pipeline.ids import deterministic_id
from pipeline.messages import ExecutionPlan, Mode, Opportunity, PlanRefusal
from workers.planner.decide import Approved, Moment, Refused, planned_legs

_INT64_MAX = 2**63 - 1


def outcome_id(opportunity_id: str) -> str:
    """Return the id of the answer, plan or refusal alike: the stream then drops a second answer as a repeat."""
    return deterministic_id("outcome", opportunity_id)


def outcome_of(
    opportunity: Opportunity,
    decision: Approved | Refused,
    moment: Moment,
    *,
    mode: Mode,
    created_ns: int,
    producer: str,
) -> ExecutionPlan | PlanRefusal:
    """Return the plan or the refusal that a decision means."""
    if isinstance(decision, Refused):
        return PlanRefusal(
            id=outcome_id(opportunity.id),
            correlation_id=opportunity.id,
            causation_id=opportunity.id,
            created_ns=created_ns,
            producer=producer,
            token=opportunity.token,
            amount_in=opportunity.amount_in,
            net_profit=max(-_INT64_MAX - 1, min(decision.net_profit, _INT64_MAX)),
            risk_score=decision.risk.total,
            slot=moment.slot,
            refused_ns=moment.now_ns,
            reasons=decision.reasons,
        )
    cycle, risk = decision.cycle, decision.risk
    return ExecutionPlan(
        id=outcome_id(opportunity.id),
        correlation_id=opportunity.id,
        causation_id=opportunity.id,
        created_ns=created_ns,
        producer=producer,
        mode=mode,
        token=opportunity.token,
        amount_in=cycle.amount_in,
        expected_amount_out=cycle.amount_out,
        min_amount_out=decision.min_amount_out,
        expected_profit=cycle.net_profit,
        base_fee=cycle.costs.base_fee,
        priority_fee=cycle.costs.priority_fee,
        tip=cycle.costs.tip,
        cost=cycle.cost,
        confidence=opportunity.confidence,
        risk_score=risk.total,
        age_risk=risk.age,
        profit_risk=risk.profit,
        confidence_risk=risk.confidence,
        slippage_risk=risk.slippage,
        slot=moment.slot,
        planned_ns=moment.now_ns,
        expires_ns=opportunity.expires_ns,
        permit_epoch=decision.permit_epoch,
        legs=planned_legs(decision),
    )
