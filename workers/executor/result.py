"""The one result of a plan, from how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from markets.costs import Costs
from markets.venue import (
    NO_TRACE,
    Dropped,
    Filled,
    Landing,
    NotPrepared,
    RanOut,
    RefusedBySimulation,
    RefusedByWallet,
    Reverted,
    Trace,
    in_token,
)
from pipeline.ids import deterministic_id
from pipeline.messages import ExecutionPlan, ExecutionResult, ExecutionStatus, ExecutionSubmitted, Mode


@dataclass(frozen=True, slots=True)
class Expired:
    """Past its deadline at the gate."""

    slot: int
    late_ns: int
    trace: Trace = NO_TRACE


@dataclass(frozen=True, slots=True)
class RefusedByGate:
    """The permit did not allow it at the gate."""

    slot: int
    reason: str
    trace: Trace = NO_TRACE


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Its executor died before the venue saw it."""

    slot: int
    owner: str
    trace: Trace = NO_TRACE


Ending = Landing | NotPrepared | Expired | RefusedByGate | Abandoned


@dataclass(slots=True)
class Stamps:
    """Wall-clock times of one attempt, ns, and the permit's epoch at the gate; 0 where it did not get so far (yet)."""

    received_ns: int
    claimed_ns: int
    gated_ns: int = 0
    finished_ns: int = 0
    attempt: int = 1
    permit_epoch: int = 0


_NOTHING = Costs(0, 0, 0)


def result_id(plan_id: str, attempt: int) -> str:
    """Return the id of a plan's result: the same for whoever publishes it."""
    return deterministic_id("result", plan_id, attempt)


def result_of(plan: ExecutionPlan, ending: Ending, stamps: Stamps, *, mode: Mode, producer: str) -> ExecutionResult:
    """Account one ending to the lamport."""
    status, detail = _status(ending)
    given, taken = (ending.fills[0].amount_in, ending.amount_out) if isinstance(ending, Filled) else (0, 0)
    costs = ending.costs if isinstance(ending, Filled | Reverted) else _NOTHING
    cost, gross, trace = in_token(plan, costs.lamports), taken - given, ending.trace
    return ExecutionResult(
        id=result_id(plan.id, stamps.attempt),
        correlation_id=plan.correlation_id,
        causation_id=plan.id,
        created_ns=stamps.finished_ns,
        producer=producer,
        plan_id=plan.id,
        status=status,
        mode=mode,
        token=plan.token,
        amount_in=given,
        amount_out=taken,
        gross_profit=gross,
        base_fee=costs.base_fee,
        priority_fee=costs.priority_fee,
        tip=costs.tip,
        cost=cost,
        net_profit=gross - cost,
        expected_profit=plan.expected_profit,
        slot=ending.slot,
        received_ns=stamps.received_ns,
        claimed_ns=stamps.claimed_ns,
        gated_ns=stamps.gated_ns,
        finished_ns=stamps.finished_ns,
        attempt=stamps.attempt,
        permit_epoch=stamps.permit_epoch,
        sol_price_usd_e6=ending.sol_price_usd_e6 if isinstance(ending, Filled | Reverted) else 0,
        detail=detail,
        fills=list(ending.fills) if isinstance(ending, Filled) else [],
        signature=trace.signature,
        wallet=trace.wallet,
        bundle=trace.bundle,
        last_valid_block_height=trace.last_valid_block_height,
        simulated_amount_out=trace.simulated_amount_out,
        compute_units=trace.compute_units,
        built_ns=trace.built_ns,
        simulated_ns=trace.simulated_ns,
        submitted_ns=trace.submitted_ns,
        landed_ns=trace.landed_ns,
        resolved=trace.resolved,
    )


def submitted_of(plan: ExecutionPlan, trace: Trace, *, mode: Mode, producer: str, slot: int) -> ExecutionSubmitted:
    """Return the message that tells which transaction belongs to a plan, the same id whoever publishes it."""
    return ExecutionSubmitted(
        id=deterministic_id("submitted", plan.id, 1),
        correlation_id=plan.correlation_id,
        causation_id=plan.id,
        created_ns=trace.submitted_ns,
        producer=producer,
        plan_id=plan.id,
        mode=mode,
        signature=trace.signature,
        wallet=trace.wallet,
        last_valid_block_height=trace.last_valid_block_height,
        token=plan.token,
        slot=slot,
    )


def _status(ending: Ending) -> tuple[ExecutionStatus, str]:
    match ending:
        case Filled():
            return ExecutionStatus.FILLED, ""
        case Reverted():
            return ExecutionStatus.REVERTED, f"leg {ending.leg}: {ending.cause}" if ending.leg >= 0 else ending.cause
        case Dropped():
            return ExecutionStatus.DROPPED, ending.cause
        case RanOut():
            return ExecutionStatus.EXPIRED, ending.cause
        case RefusedBySimulation():
            return ExecutionStatus.REFUSED_BY_SIMULATION, ending.reason
        case RefusedByWallet():
            return ExecutionStatus.REFUSED_BY_WALLET, ending.reason
        case Expired():
            return ExecutionStatus.EXPIRED, f"{ending.late_ns} ns of market time past its deadline at the gate"
        case RefusedByGate():
            return ExecutionStatus.REFUSED_BY_GATE, ending.reason
        case Abandoned():
            return ExecutionStatus.ABANDONED, f"claimed by {ending.owner}, which ended before it began"
