"""The one result of a plan, from how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from markets.venue import Dropped, Filled, Landing, Reverted
from pipeline.ids import deterministic_id
from pipeline.messages import ExecutionPlan, ExecutionResult, ExecutionStatus, Mode


@dataclass(frozen=True, slots=True)
class Expired:
    """Past its deadline at the gate."""

    slot: int
    late_ns: int


@dataclass(frozen=True, slots=True)
class RefusedByGate:
    """The permit did not allow it at the gate."""

    slot: int
    reason: str


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Its executor died before the venue saw it."""

    slot: int
    owner: str


Ending = Landing | Expired | RefusedByGate | Abandoned


@dataclass(slots=True)
class Stamps:
    """Wall-clock times of one attempt, ns, and the permit's epoch at the gate; 0 where it did not get so far (yet)."""

    received_ns: int
    claimed_ns: int
    gated_ns: int = 0
    finished_ns: int = 0
    attempt: int = 1
    permit_epoch: int = 0


@dataclass(frozen=True, slots=True)
class _Paid:
    amount_in: int = 0
    amount_out: int = 0
    base_fee: int = 0
    priority_fee: int = 0
    tip: int = 0
    cost: int = 0


def result_id(plan_id: str, attempt: int) -> str:
    """Return the id of a plan's result: the same for whoever publishes it."""
    return deterministic_id("result", plan_id, attempt)


def result_of(plan: ExecutionPlan, ending: Ending, stamps: Stamps, *, mode: Mode, producer: str) -> ExecutionResult:
    """Account one ending to the lamport."""
    status, detail = _status(ending)
    paid = _paid(plan, ending)
    gross = paid.amount_out - paid.amount_in
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
        amount_in=paid.amount_in,
        amount_out=paid.amount_out,
        gross_profit=gross,
        base_fee=paid.base_fee,
        priority_fee=paid.priority_fee,
        tip=paid.tip,
        cost=paid.cost,
        net_profit=gross - paid.cost,
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
    )


def _status(ending: Ending) -> tuple[ExecutionStatus, str]:
    match ending:
        case Filled():
            return ExecutionStatus.FILLED, ""
        case Reverted():
            return ExecutionStatus.REVERTED, f"leg {ending.leg}: {ending.cause}"
        case Dropped():
            return ExecutionStatus.DROPPED, ending.cause
        case Expired():
            return ExecutionStatus.EXPIRED, f"{ending.late_ns} ns of market time past its deadline at the gate"
        case RefusedByGate():
            return ExecutionStatus.REFUSED_BY_GATE, ending.reason
        case Abandoned():
            return ExecutionStatus.ABANDONED, f"claimed by {ending.owner}, which ended before it began"


def _paid(plan: ExecutionPlan, ending: Ending) -> _Paid:
    """Return what changed hands: everything on a fill, the network's fees on a revert, else nothing."""
    match ending:
        case Filled():
            given, taken = ending.fills[0].amount_in, ending.amount_out
            return _Paid(given, taken, plan.base_fee, plan.priority_fee, plan.tip, plan.cost)
        case Reverted():
            fees, total = plan.base_fee + plan.priority_fee, plan.base_fee + plan.priority_fee + plan.tip
            # The plan's cost in the token, less the tip's share of it, rounded up.
            cost = -(-plan.cost * fees // total) if total else 0
            return _Paid(base_fee=plan.base_fee, priority_fee=plan.priority_fee, cost=cost)
        case _:
            return _Paid()
