"""Corrections by the chain: results that are not what happened, and transactions without a plan."""

from __future__ import annotations

import pytest

from markets.tokens import SOL_MINT

from .chain_deeds import DROPPED, FILLED, executed, profit_of
from .chain_stage import FEE, TIP, ChainStage

ONE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
BASE = 5_000


@ONE
async def test_a_transaction_without_a_plan_is_named_and_taken_back_when_the_plan_turns_up(stage: ChainStage) -> None:
    await stage.audit()
    plan = stage.plan()
    signature = stage.world.chain.send(bytes(stage.transaction(plan)))
    stage.advance()
    await stage.audit()
    # Within the grace it is waited for; nothing is said against it.
    assert stage.anomalies() == []
    told = await stage.audit()
    rules = {one.rule: one for one in stage.anomalies()}
    assert set(rules) == {"unexplained_transaction", "reconciliation_difference"}
    assert rules["unexplained_transaction"].causation_id == signature
    assert rules["reconciliation_difference"].causation_id == signature
    assert signature in rules["reconciliation_difference"].detail
    assert told[SOL_MINT].difference == profit_of(plan)
    stage.book(stage.submitted(plan, signature), stage.result(plan, signature, FILLED))
    told = await stage.audit()
    assert (told[SOL_MINT].difference, told[SOL_MINT].traded) == (0, profit_of(plan))
    assert len(stage.anomalies()) == 2


async def test_a_result_that_is_not_what_happened_is_corrected(stage: ChainStage, url: str) -> None:
    await stage.audit()
    plan = stage.plan()
    transaction = stage.transaction(plan)
    signature = stage.world.chain.send(bytes(transaction))
    stage.advance()
    honest = stage.result(plan, signature, FILLED)
    lie = honest.replace(
        amount_out=honest.amount_out + 1_000,
        gross_profit=honest.gross_profit + 1_000,
        net_profit=honest.net_profit + 1_000,
        fills=[honest.fills[0], honest.fills[1].replace(amount_out=honest.amount_out + 1_000)],
    )
    stage.book(stage.submitted(plan, signature), lie)
    told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference) == (profit_of(plan), 0)
    [anomaly] = stage.anomalies()
    assert (anomaly.rule, anomaly.causation_id) == ("booked_otherwise", lie.id)
    total = stage.ledger.totals().totals[SOL_MINT]
    assert (total["net_profit"], total["executions"], total["filled"], total["wins"]) == (profit_of(plan), 1, 1, 1)
    assert total["fees_lamports"] + total["tips_lamports"] == FEE + TIP


@ONE
async def test_a_landed_transaction_that_vanished_is_taken_back(stage: ChainStage) -> None:
    await stage.audit()
    _, result = executed(stage, land=False)
    assert stage.ledger.totals().totals[SOL_MINT]["net_profit"] == result.net_profit
    told = await stage.audit()
    # It may still land: nothing is decided.
    assert (told[SOL_MINT].pending, stage.anomalies()) == (1, [])
    stage.advance(60)
    told = await stage.audit()
    assert (told[SOL_MINT].pending, told[SOL_MINT].traded, told[SOL_MINT].difference) == (0, 0, 0)
    [anomaly] = stage.anomalies()
    assert (anomaly.rule, anomaly.causation_id) == ("transaction_vanished", result.id)
    total = stage.ledger.totals().totals[SOL_MINT]
    figures = ("net_profit", "gross_profit", "fees_lamports", "tips_lamports", "cost", "filled", "wins")
    assert ({total[name] for name in figures}, total["executions"]) == ({0}, 1)


@ONE
@pytest.mark.parametrize("late", [False, True])
async def test_a_dropped_transaction_that_landed_after_all_is_booked(stage: ChainStage, late: bool) -> None:
    """Whether the chain is read before or after the result is booked."""
    await stage.audit()
    plan = stage.plan()
    transaction = stage.transaction(plan)
    signature = stage.world.chain.send(bytes(transaction))
    stage.book(stage.submitted(plan, signature))
    stage.advance()
    if late:
        told = await stage.audit()
        # The chain's own word stands until the result is there.
        assert (told[SOL_MINT].traded, told[SOL_MINT].difference, told[SOL_MINT].pending) == (profit_of(plan), 0, 1)
    result = stage.result(plan, signature, DROPPED)
    stage.book(result)
    told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference, told[SOL_MINT].pending) == (profit_of(plan), 0, 0)
    [anomaly] = stage.anomalies()
    assert (anomaly.rule, anomaly.causation_id) == ("transaction_landed_after_all", result.id)
    total = stage.ledger.totals().totals[SOL_MINT]
    assert (total["net_profit"], total["executions"], total["filled"], total["wins"]) == (profit_of(plan), 1, 1, 1)


@ONE
async def test_one_that_was_dropped_and_never_landed_is_right_as_booked(stage: ChainStage) -> None:
    executed(stage, status=DROPPED, land=False)
    stage.advance(80)
    told = await stage.audit()
    assert (told[SOL_MINT].pending, told[SOL_MINT].difference, stage.anomalies()) == (0, 0, [])
