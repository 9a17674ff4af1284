"""What is wrong with a result, judged by itself or by what is booked already."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pipeline.ids import deterministic_id
from pipeline.ledger.chain import CHAIN_CHANGED, HISTORY_PRUNED, RECONCILIATION_DIFFERENCE, UNEXPLAINED_TRANSACTION
from pipeline.ledger.corrections import BOOKED_OTHERWISE, TRANSACTION_LANDED_AFTER_ALL, TRANSACTION_VANISHED
from pipeline.ledger.settlement import SUBMISSION_WITHOUT_RESULT
from pipeline.messages import Anomaly, ExecutionResult, ExecutionStatus, Mode, Severity

__all__ = [
    "BOOKED_OTHERWISE",
    "CHAIN_CHANGED",
    "HISTORY_PRUNED",
    "RECONCILIATION_DIFFERENCE",
    "SUBMISSION_WITHOUT_RESULT",
    "TRANSACTION_LANDED_AFTER_ALL",
    "TRANSACTION_VANISHED",
    "UNEXPLAINED_TRANSACTION",
    "Finding",
    "anomaly",
    "examine",
    "noticed",
]

# Stable names; they are the last part of the anomaly's subject.
LOSS_BEYOND_FEES = "loss_beyond_fees"
LOSS_ON_A_FILL = "loss_on_a_fill"
INCONSISTENT_RESULT = "inconsistent_result"
RESULT_WITHOUT_PLAN = "result_without_plan"
PLAN_EXECUTED_TWICE = "plan_executed_twice"
WALLET_NOT_FOLLOWED = "wallet_not_followed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person should know about one result."""

    rule: str
    severity: Severity
    measured: float
    limit: float
    detail: str


def examine(result: ExecutionResult, followed: Collection[str] = ()) -> list[Finding]:
    """Return what a result says that cannot be right, or should not have happened.

    `followed` are the wallets whose histories are read; none where no chain is.
    """
    found: list[Finding] = []
    gross = result.amount_out - result.amount_in
    net = gross - result.cost
    if net < -result.cost:
        detail = f"lost {-net} base units of {result.token}, {-gross} of them beyond the costs"
        found.append(Finding(LOSS_BEYOND_FEES, Severity.CRITICAL, float(net), float(-result.cost), detail))
    elif result.status == ExecutionStatus.FILLED and net < 0:
        detail = "filled under break-even: min_amount_out should have made it revert"
        found.append(Finding(LOSS_ON_A_FILL, Severity.CRITICAL, float(net), 0.0, detail))
    wrong = _inconsistencies(result, gross, net)
    if wrong:
        found.append(Finding(INCONSISTENT_RESULT, Severity.CRITICAL, float(len(wrong)), 0.0, "; ".join(wrong)))
    if followed and result.signature and result.wallet not in followed:
        detail = f"signed by {result.wallet}, whose history nobody reads: no chain will bear it out"
        found.append(Finding(WALLET_NOT_FOLLOWED, Severity.CRITICAL, 1.0, 0.0, detail))
    return found


def _inconsistencies(result: ExecutionResult, gross: int, net: int) -> list[str]:
    wrong: list[str] = []
    if result.gross_profit != gross:
        wrong.append(f"gross_profit is {result.gross_profit}, amount_out - amount_in is {gross}")
    if result.net_profit != net:
        wrong.append(f"net_profit is {result.net_profit}, gross profit less cost is {net}")
    paid = result.base_fee + result.priority_fee + result.tip
    if (paid == 0) != (result.cost == 0):
        wrong.append(f"cost is {result.cost} where {paid} lamports were paid")
    filled = result.status == ExecutionStatus.FILLED
    if filled and result.fills:
        fills = result.fills
        ends = (fills[0].amount_in, fills[-1].amount_out)
        if ends != (result.amount_in, result.amount_out):
            wrong.append(
                f"the fills run from {ends[0]} to {ends[1]}, not from {result.amount_in} to {result.amount_out}"
            )
        # A leg's amount is fixed when it is planned: what the leg before gave beyond it stays in the wallet.
        if any(left.amount_out < right.amount_in for left, right in pairwise(fills)):
            wrong.append("a fill takes more than the fill before it gave")
    if filled and not result.fills:
        wrong.append("filled without fills")
    if not filled and (result.amount_in or result.amount_out or result.fills):
        wrong.append(f"status {result.status!r} with amounts or fills")
    if result.mode != Mode.PAPER:
        if not result.signature and result.status in (ExecutionStatus.FILLED, ExecutionStatus.REVERTED):
            wrong.append("landed, and no signature says with which transaction")
        if result.signature and not result.last_valid_block_height:
            wrong.append("a transaction without the block height after which it cannot land")
    if result.status == ExecutionStatus.REVERTED and result.tip:
        wrong.append(f"a tip of {result.tip} lamports on a revert")
    return wrong


def anomaly(finding: Finding, *, about: str, correlation_id: str, created_ns: int, producer: str) -> Anomaly:
    """Return the message of a finding; the same finding about the same message has the same id."""
    return Anomaly(
        id=deterministic_id("anomaly", finding.rule, about),
        correlation_id=correlation_id,
        causation_id=about,
        created_ns=created_ns,
        producer=producer,
        severity=finding.severity,
        rule=finding.rule,
        measured=finding.measured,
        limit=finding.limit,
        detail=finding.detail,
    )


def noticed(row: Mapping[str, Any], *, created_ns: int, producer: str) -> Anomaly:
    """Return the message of what was found while booking."""
    return Anomaly(
        id=row["id"],
        correlation_id=row["correlation_id"],
        causation_id=row["about"],
        created_ns=created_ns,
        producer=producer,
        severity=Severity(row["severity"]),
        rule=row["rule"],
        measured=row["measured"],
        limit=row["limit_value"],
        detail=row["detail"],
    )
