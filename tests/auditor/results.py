"""Results and plans to book."""

from __future__ import annotations

from typing import Any

from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.ids import deterministic_id
from pipeline.messages import ExecutionPlan, ExecutionResult, ExecutionStatus, Fill, Leg, Mode, Protocol

JITO = "J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn"
POOLS = ("Pool1111111111111111111111111111111111111111", "Pool2222222222222222222222222222222222222222")


def a_result(
    number: int = 1,
    *,
    amount_in: int = 1_000_000,
    gross: int = 5_000,
    status: ExecutionStatus = ExecutionStatus.FILLED,
    token: str = SOL_MINT,
    fees: tuple[int, int, int] = (5_000, 100, 400),
    cost: int | None = None,
    price: int = 150_000_000,
    **changes: Any,
) -> ExecutionResult:
    """A result as the executor accounts it."""
    filled = status == ExecutionStatus.FILLED
    if status == ExecutionStatus.REVERTED:
        fees = (fees[0], fees[1], 0)
    elif not filled:
        fees = (0, 0, 0)
    cost = sum(fees) if cost is None else cost
    given, taken = (amount_in, amount_in + gross) if filled else (0, 0)
    other = JITO if token != JITO else SOL_MINT
    fills = [
        Fill(
            pool=POOLS[0],
            protocol=Protocol.WHIRLPOOL,
            token_in=token,
            token_out=other,
            amount_in=given,
            amount_out=given,
            expected_amount_out=given,
            slot=7,
        ),
        Fill(
            pool=POOLS[1],
            protocol=Protocol.RAYDIUM_CPMM,
            token_in=other,
            token_out=token,
            amount_in=given,
            amount_out=taken,
            expected_amount_out=taken + 10,
            slot=7,
        ),
    ]
    plan_id = deterministic_id("plan", number)
    fields: dict[str, Any] = {
        "id": deterministic_id("result", plan_id, 1),
        "correlation_id": deterministic_id("opportunity", number),
        "causation_id": plan_id,
        "created_ns": 1_790_000_000_000_000_000 + number,
        "producer": "executor",
        "plan_id": plan_id,
        "status": status,
        "mode": Mode.PAPER,
        "token": token,
        "amount_in": given,
        "amount_out": taken,
        "gross_profit": taken - given,
        "base_fee": fees[0],
        "priority_fee": fees[1],
        "tip": fees[2],
        "cost": cost,
        "net_profit": taken - given - cost,
        "expected_profit": gross - cost + 10,
        "slot": 7,
        "finished_ns": 1_790_000_000_000_000_000 + number,
        "attempt": 1,
        "sol_price_usd_e6": price if filled or status == ExecutionStatus.REVERTED else 0,
        "detail": "" if filled else "because",
        "fills": fills if filled else [],
    }
    return ExecutionResult(**(fields | changes))


def a_plan(number: int = 1, *, token: str = SOL_MINT, **changes: Any) -> ExecutionPlan:
    """The plan of `a_result(number)`."""
    legs = [
        Leg(
            pool=POOLS[0],
            protocol=Protocol.WHIRLPOOL,
            token_in=token,
            token_out=JITO,
            amount_in=1_000_000,
            amount_out=990_000,
        ),
        Leg(
            pool=POOLS[1],
            protocol=Protocol.RAYDIUM_CPMM,
            token_in=JITO,
            token_out=token,
            amount_in=990_000,
            amount_out=1_010_000,
            min_amount_out=1_005_500,
        ),
    ]
    fields: dict[str, Any] = {
        "id": deterministic_id("plan", number),
        "correlation_id": deterministic_id("opportunity", number),
        "causation_id": deterministic_id("opportunity", number),
        "created_ns": 1_790_000_000_000_000_000,
        "producer": "planner",
        "token": token,
        "amount_in": 1_000_000,
        "expected_amount_out": 1_010_000,
        "min_amount_out": 1_005_500,
        "expected_profit": 4_500,
        "base_fee": 5_000,
        "priority_fee": 100,
        "tip": 400,
        "cost": 5_500,
        "slot": 6,
        "legs": legs,
    }
    return ExecutionPlan(**(fields | changes))


__all__ = ["JITO", "POOLS", "SOL_MINT", "USDC_MINT", "a_plan", "a_result"]
