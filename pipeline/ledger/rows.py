"""From messages to rows of the books: what may stand there, and which figures are computed and not believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.ledger.models import AMOUNT_MAX, Proof
from pipeline.messages import ExecutionPlan, ExecutionResult, ExecutionStatus, ExecutionSubmitted, Mode, enum_name

_ID_MAX = 64
_SIGNATURE_MAX = 128


@dataclass(frozen=True, slots=True)
class Value:
    """A net profit at the price of its fill; None where there was no price."""

    lamports: int | None
    usd_e6: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One result with its sequence in EXECUTED."""

    sequence: int
    result: ExecutionResult


@dataclass(frozen=True, slots=True)
class SubmissionEntry:
    """One submission with its sequence in EXECUTED."""

    sequence: int
    submission: ExecutionSubmitted


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """One plan with its sequence in PLANNED."""

    sequence: int
    plan: ExecutionPlan


Valuer = Callable[[str, int, int], Value]


def unbookable(message: ExecutionResult | ExecutionSubmitted | ExecutionPlan) -> str | None:
    """Return why a message cannot stand in the books, or None.

    A well-formed message may still carry what no database column and no sum can hold.
    """
    numbers = [message.slot]
    texts = [message.id, message.correlation_id, message.token]
    optional: list[str] = []
    if isinstance(message, ExecutionSubmitted):
        numbers.append(message.last_valid_block_height)
        texts += [message.plan_id, message.wallet]
        optional = [message.signature]
        if not message.signature:
            return "a submission without a signature"
    else:
        numbers += [message.amount_in, message.base_fee, message.priority_fee, message.tip, message.cost]
    if isinstance(message, ExecutionResult):
        numbers += [message.amount_out, message.sol_price_usd_e6, message.simulated_amount_out, message.compute_units]
        numbers.append(message.last_valid_block_height)
        texts.append(message.plan_id)
        optional = [message.signature, message.wallet, message.bundle]
        for fill in message.fills:
            texts += [fill.pool, fill.token_in, fill.token_out]
            numbers += [fill.amount_in, fill.amount_out, fill.expected_amount_out, fill.slot]
        numbers.append(message.amount_out - message.amount_in - message.cost)
    elif isinstance(message, ExecutionPlan):
        numbers += [message.min_amount_out, message.expected_amount_out]
        texts += [text for leg in message.legs for text in (leg.pool, leg.token_in, leg.token_out)]
    if any(abs(number) > AMOUNT_MAX for number in numbers):
        return f"an amount is over {AMOUNT_MAX}"
    if any(not text or not _fits(text, _ID_MAX) for text in texts):
        return f"an id or address is empty, over {_ID_MAX} characters, or not printable ASCII"
    if any(not _fits(text, _SIGNATURE_MAX) for text in optional) or len(getattr(message, "wallet", "")) > _ID_MAX:
        return f"a signature is over {_SIGNATURE_MAX} characters, or not printable ASCII"
    return None


def _fits(text: str, most: int) -> bool:
    return len(text) <= most and text.isascii() and (text.isprintable() or not text)


def execution_row(entry: Entry, value: Valuer, now: int) -> dict[str, Any]:
    """Return the row of a result; profits are computed here, not believed."""
    result = entry.result
    gross = result.amount_out - result.amount_in
    net = gross - result.cost
    worth = value(result.token, net, result.sol_price_usd_e6)
    filled = result.status == ExecutionStatus.FILLED
    on_chain = result.mode != Mode.PAPER and bool(result.signature)
    others = [fill.token_out for fill in result.fills if fill.token_out != result.token]
    return {
        "id": result.id,
        "plan_id": result.plan_id,
        "opportunity_id": result.correlation_id,
        "sequence": entry.sequence,
        "status": enum_name(result.status),
        "executions": 1,
        "filled": int(filled),
        "wins": int(filled and net > 0),
        "corrects": None,
        "signature": result.signature,
        "wallet": result.wallet,
        "bundle": result.bundle,
        "last_valid_block_height": result.last_valid_block_height,
        "simulated_amount_out": result.simulated_amount_out,
        "compute_units": result.compute_units,
        "proof": (Proof.PENDING if on_chain else Proof.NONE).value,
        "mode": enum_name(result.mode),
        "token": result.token,
        "other_token": others[0] if others else None,
        "amount_in": result.amount_in,
        "amount_out": result.amount_out,
        "gross_profit": gross,
        "base_fee": result.base_fee,
        "priority_fee": result.priority_fee,
        "tip": result.tip,
        "cost": result.cost,
        "net_profit": net,
        "expected_profit": result.expected_profit,
        "expected_of_filled": result.expected_profit if filled else 0,
        "sol_price_usd_e6": result.sol_price_usd_e6,
        "net_lamports": fitting(worth.lamports),
        "net_usd_e6": fitting(worth.usd_e6),
        "slot": result.slot,
        "attempt": result.attempt,
        "created_ns": result.created_ns,
        "finished_ns": result.finished_ns,
        "booked_ns": now,
        "plan_checked": False,
        "detail": result.detail.replace("\0", ""),
    }


def fill_rows(result: ExecutionResult) -> list[dict[str, Any]]:
    """Return one row for each filled leg."""
    return [
        {
            "execution_id": result.id,
            "position": position,
            "pool": fill.pool,
            "protocol": enum_name(fill.protocol),
            "token_in": fill.token_in,
            "token_out": fill.token_out,
            "amount_in": fill.amount_in,
            "amount_out": fill.amount_out,
            "expected_amount_out": fill.expected_amount_out,
            "slot": fill.slot,
        }
        for position, fill in enumerate(result.fills)
    ]


def plan_row(entry: PlanEntry) -> dict[str, Any]:
    """Return the row of a plan."""
    plan = entry.plan
    others = [leg.token_out for leg in plan.legs if leg.token_out != plan.token]
    return {
        "id": plan.id,
        "opportunity_id": plan.correlation_id,
        "sequence": entry.sequence,
        "token": plan.token,
        "other_token": others[0] if others else plan.token,
        "pools": ",".join(leg.pool for leg in plan.legs),
        "legs": json.dumps([[leg.pool, enum_name(leg.protocol), leg.token_in, leg.token_out] for leg in plan.legs]),
        "amount_in": plan.amount_in,
        "min_amount_out": plan.min_amount_out,
        "expected_amount_out": plan.expected_amount_out,
        "expected_profit": plan.expected_profit,
        "base_fee": plan.base_fee,
        "priority_fee": plan.priority_fee,
        "tip": plan.tip,
        "cost": plan.cost,
        "slot": plan.slot,
        "created_ns": plan.created_ns,
    }


def submission_row(entry: SubmissionEntry) -> dict[str, Any]:
    """Return the row of a submission."""
    submission = entry.submission
    return {
        "signature": submission.signature,
        "plan_id": submission.plan_id,
        "opportunity_id": submission.correlation_id,
        "sequence": entry.sequence,
        "wallet": submission.wallet,
        "token": submission.token,
        "mode": enum_name(submission.mode),
        "last_valid_block_height": submission.last_valid_block_height,
        "slot": submission.slot,
        "resulted": False,
    }


def fitting(amount: int | None) -> int | None:
    """Return an amount, or None for one that an absurd price made too large."""
    return amount if amount is not None and abs(amount) <= AMOUNT_MAX else None
