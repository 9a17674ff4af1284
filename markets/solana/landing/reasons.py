"""Why a transaction fails, in words that are the same for every program. Pure.

Programs tell a number, those built with Anchor a name beside it in the log. Numbers mean something only together with
the program, and the program that failed may be one that another called: the log names it. The words here are for people
and for counting; no amount is ever taken from a log.

Sources of the numbers: the programs' public sources: orca-so/whirlpools (error.rs as of February 2025, Apache-2.0),
raydium-io/raydium-amm, raydium-io/raydium-cp-swap, MeteoraAg/dlmm-sdk, solana-program/stake-pool, solana-program/token;
Anchor's own from coral-xyz/anchor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markets.solana.rpc.errors import shown
from markets.solana.venues import (
    marinade,
    meteora_damm_v2,
    meteora_dlmm,
    raydium_amm_v4,
    raydium_clmm,
    raydium_cpmm,
    spl_stake_pool,
    whirlpool,
)
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAMS, Venue

Kind = Literal[
    "slippage",
    "stale_tick_array",
    "no_liquidity",
    "pool_closed",
    "stale_state",
    "insufficient_funds",
    "account_missing",
    "frozen",
    "blockhash",
    "compute_exceeded",
    "already_processed",
    "lookup_table",
    "congested",
    "program_error",
    "rejected",
]

_WORDS: dict[Kind, str] = {
    "slippage": "the pool gives less than the minimum",
    "stale_tick_array": "the price has left the tick arrays that the swap names",
    "no_liquidity": "the pool has not enough liquidity",
    "pool_closed": "the pool does not swap now",
    "stale_state": "the pool must be updated first",
    "insufficient_funds": "the wallet has not enough",
    "account_missing": "an account does not exist or is not opened",
    "frozen": "a token account is frozen",
    "blockhash": "the blockhash is not known or has run out",
    "compute_exceeded": "it used more compute units than its limit",
    "already_processed": "it has been processed already",
    "lookup_table": "a lookup table does not hold what is named by it",
    "congested": "the accounts or the block are too busy",
    "program_error": "the program failed",
    "rejected": "it was rejected",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a transaction fails."""

    kind: Kind
    text: str
    """A sentence for people."""
    leg: int = -1
    """Index of the cycle's leg that failed; -1 where it was none of them."""


_VENUES: dict[str, str] = {
    program: name
    for name, venue in {
        "Whirlpool": whirlpool,
        "Raydium AMM v4": raydium_amm_v4,
        "Raydium CPMM": raydium_cpmm,
        "Raydium CLMM": raydium_clmm,
        "Meteora DLMM": meteora_dlmm,
        "Meteora DAMM v2": meteora_damm_v2,
        "stake pool": spl_stake_pool,
        "Marinade": marinade,
    }.items()
    for program in venue.PROGRAMS
}
_NAMES = {**_VENUES, SYSTEM_PROGRAM: "system program", **dict.fromkeys(TOKEN_PROGRAMS, "token program")}


def _codes(venue: Venue, codes: Mapping[int, tuple[Kind, str]]) -> dict[tuple[str, int], tuple[Kind, str]]:
    return {(program, code): meaning for program in venue.PROGRAMS for code, meaning in codes.items()}


_BY_CODE: dict[tuple[str, int], tuple[Kind, str]] = {
    **_codes(
        whirlpool,
        {
            6022: ("program_error", "InvalidTimestamp"),
            6023: ("stale_tick_array", "InvalidTickArraySequence"),
            6035: ("no_liquidity", "ZeroTradableAmount"),
            6036: ("slippage", "AmountOutBelowMinimum"),
            6037: ("slippage", "AmountInAboveMaximum"),
            6038: ("stale_tick_array", "TickArraySequenceInvalidIndex"),
        },
    ),
    **_codes(
        raydium_amm_v4,
        {
            18: ("program_error", "InvalidOwner"),
            22: ("pool_closed", "InvalidStatus"),
            29: ("program_error", "InvalidInput"),
            30: ("slippage", "ExceededSlippage"),
            40: ("insufficient_funds", "InsufficientFunds"),
        },
    ),
    **_codes(
        raydium_cpmm,
        {
            6000: ("pool_closed", "NotApproved"),
            6002: ("insufficient_funds", "EmptySupply"),
            6005: ("slippage", "ExceededSlippage"),
            6006: ("no_liquidity", "ZeroTradingTokens"),
        },
    ),
    **_codes(
        meteora_dlmm,
        {
            6003: ("slippage", "ExceededAmountSlippageTolerance"),
            6004: ("slippage", "ExceededBinSlippageTolerance"),
            6007: ("no_liquidity", "ZeroLiquidity"),
            6009: ("stale_tick_array", "BinArrayNotFound"),
            6012: ("no_liquidity", "PairInsufficientLiquidity"),
        },
    ),
    **_codes(
        spl_stake_pool,
        {
            16: ("stale_state", "StakeListOutOfDate"),
            17: ("stale_state", "StakeListAndPoolOutOfDate"),
            29: ("no_liquidity", "DepositTooSmall"),
            35: ("no_liquidity", "SolWithdrawalTooLarge"),
            39: ("slippage", "ExceededSlippage"),
            41: ("no_liquidity", "ReserveDepleted"),
        },
    ),
    (SYSTEM_PROGRAM, 1): ("insufficient_funds", "ResultWithNegativeLamports"),
    **{(program, 1): ("insufficient_funds", "InsufficientFunds") for program in TOKEN_PROGRAMS},
    **{(program, 4): ("program_error", "OwnerMismatch") for program in TOKEN_PROGRAMS},
    **{(program, 17): ("frozen", "AccountFrozen") for program in TOKEN_PROGRAMS},
}

# Names that programs built with Anchor write into their logs, whatever number a version of theirs gives them.
_BY_NAME: dict[str, Kind] = {
    "TooLittleOutputReceived": "slippage",
    "PriceSlippageCheck": "slippage",
    "ExceededSlippage": "slippage",
    "ExceededAmountSlippageTolerance": "slippage",
    "ExceededBinSlippageTolerance": "slippage",
    "AmountOutBelowMinimum": "slippage",
    "InvalidFirstTickArrayAccount": "stale_tick_array",
    "NotEnoughTickArrayAccount": "stale_tick_array",
    "InvalidTickArray": "stale_tick_array",
    "InvalidTickArraySequence": "stale_tick_array",
    "TickArraySequenceInvalidIndex": "stale_tick_array",
    "BinArrayNotFound": "stale_tick_array",
    "LiquidityInsufficient": "no_liquidity",
    "InsufficientLiquidityForDirection": "no_liquidity",
    "PairInsufficientLiquidity": "no_liquidity",
    "NotApproved": "pool_closed",
    "PoolDisabled": "pool_closed",
    "TradeIsNotEnabled": "pool_closed",
    "AccountNotInitialized": "account_missing",
    "AccountNotEnoughKeys": "account_missing",
    "AccountOwnedByWrongProgram": "account_missing",
    "AccountDiscriminatorNotFound": "account_missing",
}
# Anchor's own numbers, of every program that is built with it.
_ANCHOR: dict[int, tuple[Kind, str]] = {
    3005: ("account_missing", "AccountNotEnoughKeys"),
    3007: ("account_missing", "AccountOwnedByWrongProgram"),
    3012: ("account_missing", "AccountNotInitialized"),
}

_TRANSACTION: dict[str, Kind] = {
    "BlockhashNotFound": "blockhash",
    "AlreadyProcessed": "already_processed",
    "AccountNotFound": "insufficient_funds",
    "InsufficientFundsForFee": "insufficient_funds",
    "InsufficientFundsForRent": "insufficient_funds",
    "InvalidAccountForFee": "insufficient_funds",
    "ProgramAccountNotFound": "account_missing",
    "AddressLookupTableNotFound": "lookup_table",
    "InvalidAddressLookupTableOwner": "lookup_table",
    "InvalidAddressLookupTableData": "lookup_table",
    "InvalidAddressLookupTableIndex": "lookup_table",
    "AccountInUse": "congested",
    "TooManyAccountLocks": "congested",
    "WouldExceedMaxBlockCostLimit": "congested",
    "WouldExceedMaxAccountCostLimit": "congested",
    "WouldExceedMaxVoteCostLimit": "congested",
    "WouldExceedAccountDataBlockLimit": "congested",
}
_INSTRUCTION: dict[str, Kind] = {
    "ComputationalBudgetExceeded": "compute_exceeded",
    "InsufficientFunds": "insufficient_funds",
    "NotEnoughAccountKeys": "account_missing",
    "MissingAccount": "account_missing",
    "UninitializedAccount": "account_missing",
    "UnsupportedProgramId": "account_missing",
    "IncorrectProgramId": "program_error",
}

_FAILED = re.compile(r"^Program (\w{32,44}) failed: ")
_CODE = re.compile(r"^Program \w{32,44} failed: custom program error: 0x([0-9a-fA-F]{1,8})$")
_ANCHOR_NAME = re.compile(r"Error Code: (\w{1,64})\. ")


def reason_of(
    error: Any, logs: Sequence[str] = (), *, programs: Sequence[str] = (), legs: Mapping[int, int] | None = None
) -> Reason:
    """Return why a transaction fails.

    `error` is a TransactionError as JSON-RPC shows it, `programs` are those of its top-level instructions, `legs` tells
    which leg of the cycle an instruction is.
    """
    if isinstance(error, dict) and isinstance(error.get("InstructionError"), list):
        return _instruction_error(error["InstructionError"], logs, programs, legs or {})
    name = error if isinstance(error, str) else next(iter(error), "") if isinstance(error, dict) else ""
    kind: Kind = _TRANSACTION.get(str(name), "rejected")
    return Reason(kind, f"{_WORDS[kind]} ({shown(str(name)) or 'no reason was told'})")


def _instruction_error(
    told: Sequence[Any], logs: Sequence[str], programs: Sequence[str], legs: Mapping[int, int]
) -> Reason:
    index = told[0] if told and type(told[0]) is int else -1
    cause = told[1] if len(told) > 1 else ""
    program, inner_code = _failed_program(logs)
    if not program and 0 <= index < len(programs):
        program = programs[index]
    leg = legs.get(index, -1)
    where = _NAMES.get(program, program or "a program")
    if isinstance(cause, dict) and type(cause.get("Custom")) is int:
        kind, name = _custom(program, cause["Custom"] if inner_code is None else inner_code, _anchor_name(logs))
    else:
        name = cause if isinstance(cause, str) else next(iter(cause), "") if isinstance(cause, dict) else ""
        kind = _INSTRUCTION.get(name, "program_error")
        if name == "ProgramFailedToComplete" and any("exceeded CUs meter" in line for line in logs):
            kind = "compute_exceeded"
    return Reason(kind, f"{where}: {_WORDS[kind]} ({shown(name)})", leg)


def _custom(program: str, code: int, name: str) -> tuple[Kind, str]:
    if name in _BY_NAME:
        return _BY_NAME[name], name
    known = _BY_CODE.get((program, code)) or (_ANCHOR.get(code) if program in _VENUES else None)
    return known or ("program_error", f"{name or 'error'} {code}")


def _failed_program(logs: Sequence[str]) -> tuple[str, int | None]:
    """Return the innermost program that failed, and its number: those that called it tell theirs after it."""
    for line in logs:
        if found := _FAILED.match(line):
            code = _CODE.match(line)
            return found[1], int(code[1], 16) if code else None
    return "", None


def _anchor_name(logs: Sequence[str]) -> str:
    for line in logs:
        if found := _ANCHOR_NAME.search(line):
            return found[1]
    return ""
