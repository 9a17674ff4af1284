"""Why a transaction fails, in the same words for every program."""

from __future__ import annotations

from typing import Any

import pytest

from markets.solana.landing.reasons import reason_of
from markets.solana.landing.reference import Reference, parse_reference
from markets.solana.venues import raydium_amm_v4, raydium_clmm, raydium_cpmm, spl_stake_pool, whirlpool
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAM

BUDGET = "ComputeBudget111111111111111111111111111111"
WHIRLPOOL, CPMM, AMM, CLMM = (venue.PROGRAMS[0] for venue in (whirlpool, raydium_cpmm, raydium_amm_v4, raydium_clmm))
POOLS = spl_stake_pool.PROGRAMS[0]


def failed(program: str, code: int) -> list[str]:
    return [f"Program {program} invoke [1]", f"Program {program} failed: custom program error: {code:#x}"]


@pytest.mark.parametrize(
    ("program", "code", "kind", "word"),
    [
        (WHIRLPOOL, 6036, "slippage", "AmountOutBelowMinimum"),
        (WHIRLPOOL, 6038, "stale_tick_array", "TickArraySequenceInvalidIndex"),
        (WHIRLPOOL, 6023, "stale_tick_array", "InvalidTickArraySequence"),
        (WHIRLPOOL, 3012, "account_missing", "AccountNotInitialized"),
        (CPMM, 6005, "slippage", "ExceededSlippage"),
        (CPMM, 6000, "pool_closed", "NotApproved"),
        (AMM, 30, "slippage", "ExceededSlippage"),
        (AMM, 40, "insufficient_funds", "InsufficientFunds"),
        (POOLS, 41, "no_liquidity", "ReserveDepleted"),
        (POOLS, 17, "stale_state", "StakeListAndPoolOutOfDate"),
        (TOKEN_PROGRAM, 1, "insufficient_funds", "InsufficientFunds"),
        (TOKEN_PROGRAM, 17, "frozen", "AccountFrozen"),
        (SYSTEM_PROGRAM, 1, "insufficient_funds", "ResultWithNegativeLamports"),
        (CPMM, 6999, "program_error", "error 6999"),
        ("Unknown1111111111111111111111111111111111111", 6036, "program_error", "6036"),
    ],
)
def test_custom_errors_mean_something_with_their_program(program: str, code: int, kind: str, word: str) -> None:
    error = {"InstructionError": [2, {"Custom": code}]}
    told = reason_of(error, failed(program, code), programs=[BUDGET, BUDGET, program], legs={2: 0})
    assert (told.kind, told.leg) == (kind, 0)
    assert word in told.text
    # Without logs the transaction's own instructions tell the program.
    assert reason_of(error, (), programs=[BUDGET, BUDGET, program]).kind == kind


def test_the_innermost_program_is_the_one_that_failed() -> None:
    logs = [
        f"Program {WHIRLPOOL} invoke [1]",
        f"Program {TOKEN_PROGRAM} invoke [2]",
        f"Program {TOKEN_PROGRAM} failed: custom program error: 0x1",
        f"Program {WHIRLPOOL} failed: custom program error: 0x1",
    ]
    told = reason_of({"InstructionError": [3, {"Custom": 1}]}, logs, programs=[""] * 3 + [WHIRLPOOL], legs={3: 1})
    assert (told.kind, told.leg) == ("insufficient_funds", 1)
    assert told.text.startswith("token program")


def test_anchor_names_go_before_numbers_that_versions_change() -> None:
    logs = [
        f"Program {CLMM} invoke [1]",
        "Program log: AnchorError thrown in programs/amm/src/x.rs:1. Error Code: TooLittleOutputReceived. "
        "Error Number: 6022. Error Message: Too little output received.",
        f"Program {CLMM} failed: custom program error: 0x1786",
    ]
    assert reason_of({"InstructionError": [2, {"Custom": 6022}]}, logs).kind == "slippage"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("BlockhashNotFound", "blockhash"),
        ("AlreadyProcessed", "already_processed"),
        ("InsufficientFundsForFee", "insufficient_funds"),
        ({"InsufficientFundsForRent": {"account_index": 0}}, "insufficient_funds"),
        ("AddressLookupTableNotFound", "lookup_table"),
        ("WouldExceedMaxAccountCostLimit", "congested"),
        ({"InstructionError": [2, "ComputationalBudgetExceeded"]}, "compute_exceeded"),
        ({"InstructionError": [2, "UninitializedAccount"]}, "account_missing"),
        ({"InstructionError": [2, "ProgramFailedToComplete"]}, "program_error"),
        ({"InstructionError": [2, {"BorshIoError": "x"}]}, "program_error"),
        ("SomethingNew", "rejected"),
        ({}, "rejected"),
        ("", "rejected"),
        (None, "rejected"),
        (7, "rejected"),
        ({"InstructionError": []}, "program_error"),
        ({"InstructionError": ["x", None]}, "program_error"),
        ({"InstructionError": [2, {"Custom": "6036"}]}, "program_error"),
    ],
)
def test_errors_of_the_runtime_and_nonsense(error: Any, kind: str) -> None:
    assert reason_of(error, ["nonsense", "Program failed: "]).kind == kind


def test_a_program_that_ran_out_of_units() -> None:
    logs = [f"Program {CPMM} failed: exceeded CUs meter at BPF instruction"]
    assert reason_of({"InstructionError": [2, "ProgramFailedToComplete"]}, logs).kind == "compute_exceeded"


def test_what_a_node_says_is_shortened() -> None:
    assert len(reason_of("x" * 10_000).text) < 300
    assert "http" not in reason_of("see https://key@host/").text


def test_references_are_read_back() -> None:
    reference = Reference("5" * 88, 1_234, "9" * 44)
    assert parse_reference(str(reference)) == reference
    for text in ("", "paper:x", str(reference).replace("solana", "other"), str(reference).replace("1234", "12x4")):
        assert parse_reference(text) is None
    assert parse_reference(f"solana:{'0' * 88}:1:{'9' * 44}") is None
    assert parse_reference(f"solana:{'5' * 88}:{'9' * 30}:{'9' * 44}") is None
    assert parse_reference(f"solana:{'5' * 88}:1:short") is None
