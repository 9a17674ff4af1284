"""What is wrong with a result, and what a profit is worth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.pnl import exact, timestamp
from pipeline.ledger import Value
from pipeline.messages import ExecutionResult, ExecutionStatus, Mode
from workers.auditor.findings import anomaly, examine
from workers.auditor.valuation import value_of

from .results import JITO, SOL_MINT, USDC_MINT, a_result


def rules(result: ExecutionResult) -> list[str]:
    return [finding.rule for finding in examine(result)]


@pytest.mark.parametrize("status", list(ExecutionStatus)[1:])
def test_an_honest_result_is_not_reported(status: ExecutionStatus) -> None:
    assert rules(a_result(1, gross=6_000, status=status)) == []


def test_losses() -> None:
    assert rules(a_result(1, gross=5_499)) == ["loss_on_a_fill"]
    assert rules(a_result(1, gross=0)) == ["loss_on_a_fill"]
    assert rules(a_result(1, gross=-1)) == ["loss_beyond_fees"]


@pytest.mark.parametrize(
    "changes",
    [
        {"gross_profit": 1},
        {"net_profit": 1},
        {"cost": 0, "net_profit": 6_000},
        {"fills": []},
        {"fills": list(reversed(a_result(1, gross=6_000).fills))},
        {"status": ExecutionStatus.DROPPED},
        {"status": 99},
    ],
)
def test_what_does_not_add_up(changes: dict) -> None:
    assert "inconsistent_result" in rules(a_result(1, gross=6_000).replace(**changes))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"signature": "s", "wallet": "w", "last_valid_block_height": 9}, False),
        ({}, True),
        ({"signature": "s", "wallet": "w"}, True),
    ],
)
def test_what_no_chain_can_ever_bear_out(changes: dict[str, Any], wrong: bool) -> None:
    """A fill on a chain without its transaction, or with one of which nobody can say when it is too late."""
    result = a_result(1, gross=6_000, mode=Mode.LOCALNET, **changes)
    assert rules(result) == (["inconsistent_result"] if wrong else [])


def test_a_wallet_that_nobody_follows() -> None:
    result = a_result(1, gross=6_000, mode=Mode.LIVE, signature="s", wallet="w", last_valid_block_height=9)
    assert [found.rule for found in examine(result, frozenset({"v"}))] == ["wallet_not_followed"]
    assert examine(result, frozenset({"v", "w"})) == []
    assert examine(a_result(1, gross=6_000), frozenset({"v"})) == []


def test_a_tip_on_a_revert() -> None:
    reverted = a_result(1, status=ExecutionStatus.REVERTED)
    assert rules(reverted.replace(tip=1, cost=reverted.cost + 1, net_profit=reverted.net_profit - 1)) == [
        "inconsistent_result"
    ]


def test_the_same_finding_is_the_same_message() -> None:
    [finding] = examine(a_result(1, gross=-1))
    first = anomaly(finding, about="r", correlation_id="o", created_ns=1, producer="auditor")
    again = anomaly(finding, about="r", correlation_id="o", created_ns=2, producer="auditor")
    assert first.id == again.id
    assert (first.causation_id, first.correlation_id, first.measured, first.limit) == ("r", "o", -5_501.0, -5_500.0)


def test_values() -> None:
    assert value_of(SOL_MINT, 10**9, 150_000_000) == Value(10**9, 150_000_000)
    assert value_of(SOL_MINT, 10**9, 0) == Value(10**9, None)
    assert value_of(USDC_MINT, 150_000_000, 150_000_000) == Value(10**9, 150_000_000)
    assert value_of(USDC_MINT, 1, 0) == Value(None, 1)
    assert value_of(JITO, 5, 150_000_000) == Value(None, None)
    assert value_of(JITO, 0, 0) == Value(0, 0)
    assert value_of(SOL_MINT, -1, 150_000_000) == Value(-1, -1)
    assert value_of(USDC_MINT, -1, 150_000_000) == Value(-7, -1)


@given(net=st.integers(-(2**62), 2**62), price=st.integers(1, 2**40))
def test_values_are_rounded_against_us(net: int, price: int) -> None:
    usd = value_of(SOL_MINT, net, price).usd_e6
    assert usd is not None
    assert usd * 10**9 <= net * price < (usd + 1) * 10**9
    lamports = value_of(USDC_MINT, net, price).lamports
    assert lamports is not None
    assert lamports * price <= net * 10**9 < (lamports + 1) * price


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        (0, 9, "0.000000000"),
        (1, 9, "0.000000001"),
        (-1, 9, "-0.000000001"),
        (-1_234_567_890, 9, "-1.234567890"),
        (2**63 - 1, 6, "9223372036854.775807"),
        (15, 0, "15"),
        (-15, 0, "-15"),
        (None, 9, ""),
    ],
)
def test_decimals_are_exact(amount: int | None, decimals: int, text: str) -> None:
    assert exact(amount, decimals) == text


def test_times_that_are_none() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000000000Z"
    assert timestamp(2**63 - 1).startswith("2262-04-11T")
    assert timestamp(-(2**63)).startswith("1677-09-21T")
