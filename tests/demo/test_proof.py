"""The checks of a run against the chain: each holds on what is right, and falls on the one thing that is not."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.demo.chain import Node, Rivalry, moved_before, read_rivalry
from pipeline.demo.proof import SOL, ChainFacts, Landed, crowded_plans, proof_checks, proved, traded
from pipeline.demo.tally import Tally
from pipeline.messages import (
    Anomaly,
    ExecutionPlan,
    ExecutionResult,
    ExecutionStatus,
    ExecutionSubmitted,
    Fill,
    Leg,
    Reconciliation,
)

FEES = {"base_fee": 5_000, "priority_fee": 7_000, "tip": 100_000}


def a_fill(token_in: str, token_out: str, amount_in: int, amount_out: int) -> Fill:
    return Fill(pool="P", token_in=token_in, token_out=token_out, amount_in=amount_in, amount_out=amount_out)


def filled(number: int = 1, **changes: Any) -> ExecutionResult:
    fields: dict[str, Any] = {
        "id": f"r{number}",
        "plan_id": f"p{number}",
        "status": ExecutionStatus.FILLED,
        "token": SOL,
        "signature": f"s{number}",
        "wallet": "W",
        "amount_out": 1_500_000,
        "simulated_amount_out": 1_500_000,
        "fills": [a_fill(SOL, "X", 1_000_000, 40), a_fill("X", SOL, 39, 1_500_000)],
        **FEES,
    }
    return ExecutionResult(**{**fields, **changes})


def a_run() -> tuple[Tally, ChainFacts]:
    tally = Tally()
    failed = ExecutionResult(
        id="r2", plan_id="p2", status=ExecutionStatus.REVERTED, token=SOL, signature="s2", base_fee=5_000, wallet="W"
    )
    dropped = ExecutionResult(
        id="r3", plan_id="p3", status=ExecutionStatus.DROPPED, token=SOL, signature="s3", wallet="W"
    )
    tally.add_all([filled(), failed, dropped])
    tally.add(ExecutionPlan(id="p1", expected_amount_out=1_500_000))
    tally.add(ExecutionSubmitted(id="u1", plan_id="p1", signature="s1"))
    gained = 500_000 - 112_000 - 5_000
    tally.add(
        Reconciliation(id="a", token=SOL, opening=10_000_000, balance=10_000_000 + gained - 9, traded=gained, upkeep=-9)
    )
    tally.add(Reconciliation(id="b", token="X", opening=5, balance=6, traded=1))
    facts = ChainFacts(landed={"s1": Landed(7, False, True), "s2": Landed(8, True, True)})
    facts.holdings = {SOL: 10_000_000 + gained - 9, "X": 6}
    return tally, facts


def held(tally: Tally, facts: ChainFacts) -> list[bool]:
    return [check.held for check in proof_checks(tally, facts)]


def test_what_is_right_holds() -> None:
    tally, facts = a_run()
    assert held(tally, facts) == [True, True, True]
    assert proved(tally)


def test_the_surplus_of_a_leg_is_traded_too() -> None:
    assert traded([filled()]) == {SOL: 500_000 - 112_000, "X": 1}


@pytest.mark.parametrize("field", ["balance", "traded", "upkeep", "difference", "pending"])
def test_one_lamport_too_many_in_the_books(field: str) -> None:
    tally, facts = a_run()
    right = tally.reconciliations[SOL]
    tally.reconciliations[SOL] = right.replace(**{field: getattr(right, field) + 1})
    assert held(tally, facts)[0] is False


def test_the_node_disagrees_with_the_auditor() -> None:
    tally, facts = a_run()
    facts.holdings["X"] = 7
    assert held(tally, facts)[0] is False


def test_books_that_were_never_held_against_the_chain() -> None:
    tally, facts = a_run()
    tally.reconciliations.clear()
    assert held(tally, facts)[0] is False
    assert not proved(tally)


@pytest.mark.parametrize(
    ("signature", "landed"),
    [
        ("s1", None),
        ("s1", Landed(7, True, True)),
        ("s2", None),
        ("s2", Landed(8, False, True)),
        ("s3", Landed(9, False, True)),
    ],
)
def test_a_result_that_the_chain_denies(signature: str, landed: Landed | None) -> None:
    tally, facts = a_run()
    facts.landed.pop(signature, None)
    if landed is not None:
        facts.landed[signature] = landed
    assert held(tally, facts)[1] is False
    # Unless the auditor said so.
    tally.add(Anomaly(id="n", rule="transaction_vanished", causation_id=f"r{signature[1:]}"))
    assert held(tally, facts)[1] is True


def test_a_plan_that_was_signed_twice() -> None:
    tally, facts = a_run()
    tally.add(ExecutionSubmitted(id="u9", plan_id="p1", signature="s9"))
    assert held(tally, facts)[1] is False


def test_a_transaction_of_two_plans() -> None:
    tally, facts = a_run()
    tally.add(ExecutionSubmitted(id="u9", plan_id="p9", signature="s1"))
    assert held(tally, facts)[1] is False


@pytest.mark.parametrize("changes", [{"amount_out": 1_500_001}, {"simulated_amount_out": 1_499_999}])
def test_an_undisturbed_cycle_that_came_out_otherwise(changes: dict[str, int]) -> None:
    tally, facts = a_run()
    tally.results["r1"] = filled(**changes)
    assert held(tally, facts)[2] is False
    facts.disturbed.add("s1")
    assert held(tally, facts)[2] is True


@pytest.mark.parametrize(("predicted", "exactly", "loosely"), [(0, True, True), (-1, False, True), (1, False, False)])
def test_a_careful_prediction_may_be_passed_without_lockstep(predicted: int, exactly: bool, loosely: bool) -> None:
    tally, facts = a_run()
    tally.plans["p1"] = ExecutionPlan(id="p1", expected_amount_out=1_500_000 + predicted)
    assert proof_checks(tally, facts)[2].held is exactly
    assert proof_checks(tally, facts, lockstep=False)[2].held is loosely


@pytest.mark.parametrize(
    ("began_ns", "ended_ns", "pool", "crowded"),
    [(5, 50, "P", True), (5, 9, "P", False), (11, 50, "P", False), (5, 50, "Q", False), (5, None, "P", True)],
)
def test_a_plan_behind_another_of_ours(began_ns: int, ended_ns: int | None, pool: str, crowded: bool) -> None:
    tally = Tally()
    tally.add(ExecutionPlan(id="p1", created_ns=10, legs=[Leg(pool="P"), Leg(pool="R")]))
    tally.add(ExecutionPlan(id="p2", created_ns=began_ns, legs=[Leg(pool=pool)]))
    if ended_ns is not None:
        tally.add(ExecutionResult(id="r2", plan_id="p2", created_ns=ended_ns))
    assert ("p1" in crowded_plans(tally)) is crowded


def entry(signature: str, slot: int, *, failed: bool = False) -> dict[str, Any]:
    return {"signature": signature, "slot": slot, "err": {"InstructionError": [0, "x"]} if failed else None}


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([entry("ours", 8)], False),
        ([entry("later", 8), entry("ours", 8), entry("long ago", 7)], False),
        ([entry("ours", 8), entry("sooner", 8)], True),
        ([entry("ours", 9), entry("between", 8), entry("long ago", 7)], True),
        ([entry("ours", 8), entry("sooner", 8, failed=True), entry("long ago", 5)], False),
        ([entry("other", 8)], False),
    ],
)
def test_who_moved_a_pool_before_us(history: list[dict[str, Any]], expected: bool) -> None:
    assert moved_before(history, "ours", 7) is expected


class Histories(Node):
    """A node that knows the histories of a few addresses, newest first, and nothing else."""

    def __init__(self, **histories: list[dict[str, Any]]) -> None:
        self.histories = histories

    async def call(self, method: str, *params: Any) -> Any:
        assert method == "getSignaturesForAddress"
        return self.histories[params[0]]


@pytest.mark.parametrize(
    ("pool", "status", "first"),
    [
        ([entry("rival", 8), entry("trader", 7)], ExecutionStatus.DROPPED, 1),
        ([entry("trader", 9), entry("rival", 8)], ExecutionStatus.DROPPED, 1),
        ([entry("rival", 8), entry("trader", 8)], ExecutionStatus.DROPPED, 0),
        ([entry("rival", 8), entry("trader", 8, failed=True)], ExecutionStatus.DROPPED, 1),
        ([entry("rival", 9)], ExecutionStatus.DROPPED, 0),  # ours had ended before
        ([entry("trader", 7)], ExecutionStatus.DROPPED, 0),
        ([entry("rival", 8)], ExecutionStatus.FILLED, 0),
    ],
)
async def test_who_was_first_at_a_dropped_plan(pool: list[dict[str, Any]], status: ExecutionStatus, first: int) -> None:
    history = [entry("rival", 8), entry("elsewhere", 6), entry("reverted", 5, failed=True)]
    node = Histories(RIVAL=history, P=pool, Q=[entry("elsewhere", 6)])
    plan = ExecutionPlan(id="p1", legs=[Leg(pool="P", slot=7), Leg(pool="Q", slot=7)])
    result = ExecutionResult(id="r1", plan_id="p1", status=status, slot=7)
    unplanned = ExecutionResult(id="r2", plan_id="gone", status=ExecutionStatus.DROPPED, slot=7)
    assert await read_rivalry(node, "RIVAL", [result, unplanned], {"p1": plan}) == Rivalry(2, first)
