"""What plans and people do on the stage's chain."""

from __future__ import annotations

from typing import Any

from solders.instruction import Instruction
from solders.system_program import TransferParams, transfer

from markets.solana.transactions.keys import pubkey
from pipeline.messages import ExecutionPlan, ExecutionStatus

from .chain_stage import AMOUNT, FEE, TIP, ChainStage

FILLED, REVERTED, DROPPED = ExecutionStatus.FILLED, ExecutionStatus.REVERTED, ExecutionStatus.DROPPED


def pay(source: Any, target: str, lamports: int) -> Instruction:
    return transfer(TransferParams(from_pubkey=source.pubkey(), to_pubkey=pubkey(target), lamports=lamports))


def executed(stage: ChainStage, number: int = 1, *, status: ExecutionStatus = FILLED, land: bool = True) -> Any:
    """A plan, its transaction on the chain (or not), and what the executor tells of it."""
    plan = stage.plan(number)
    transaction = stage.transaction(plan)
    signature = str(transaction.signatures[0])
    stage.book(stage.submitted(plan, signature))
    if land:
        assert stage.world.chain.send(bytes(transaction)) == signature
    stage.advance()
    result = stage.result(plan, signature, status)
    stage.book(result)
    return plan, result


def profit_of(plan: ExecutionPlan) -> int:
    return plan.expected_amount_out - AMOUNT - FEE - TIP
