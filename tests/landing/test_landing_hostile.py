"""Answers of any form: read, or refused as malformed, and nothing else."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from markets.solana.landing import fee_market, outcome, simulate, tracker
from markets.solana.rpc.accounts import Malformed
from markets.solana.venues import whirlpool
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAM
from markets.tokens import SOL_MINT
from pipeline.messages import ExecutionPlan, Leg, Protocol

PAYER = Pubkey.from_bytes(b"p" * 32)
OTHER = Pubkey.from_bytes(b"o" * 32)
SWAP = Instruction(Pubkey.from_string(whirlpool.PROGRAMS[0]), b"", [AccountMeta(OTHER, False, True)])
MESSAGE = MessageV0.try_compile(PAYER, [SWAP], [], Hash.default())
ENCODED = base64.b64encode(bytes(VersionedTransaction.populate(MESSAGE, [Signature.default()]))).decode()
ASKED = simulate.Asked([Leg(protocol=Protocol.WHIRLPOOL)], SOL_MINT, str(PAYER), str(OTHER))

words = st.sampled_from(
    [
        "context", "slot", "value", "blockhash", "lastValidBlockHeight", "prioritizationFee", "err", "logs", "meta",
        "unitsConsumed", "innerInstructions", "index", "instructions", "confirmationStatus", "confirmed", "processed",
        "transaction", "InstructionError", "Custom", "1" * 44, "x",
    ]
)  # fmt: skip
leaves = st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | words | st.text(max_size=4)
answers = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=5), max_leaves=25
)
IN_CONTEXT = {"context": {"slot": 7}}


def readers() -> dict[str, Any]:
    return {
        "simulate": lambda answer: simulate._read(answer, ENCODED, MESSAGE, [], ASKED),
        "statuses": lambda answer: tracker._statuses(["a"], answer),
        "blockhash": fee_market._blockhash,
        "samples": fee_market._samples,
        "transaction": lambda answer: outcome._read(answer, "s", ExecutionPlan(), str(PAYER)),
    }


@pytest.mark.parametrize("name", list(readers()))
@given(answer=answers, value=answers)
@example(
    answer=None, value={"err": None, "innerInstructions": [{"index": 0, "instructions": [{"programIdIndex": 99}]}]}
)
@example(answer=None, value=[None])
@example(answer=None, value=[{"confirmationStatus": "odd", "slot": 1}])
@example(answer=None, value=[{"confirmationStatus": {}, "slot": 1}])
@example(answer=None, value=[{"confirmationStatus": "confirmed", "slot": True}])
@example(answer=None, value={"err": {"InstructionError": [0, {"Custom": 1}]}, "logs": ["x"]})
@example(answer=None, value={"err": {}, "logs": [None]})
@example(answer=[{"prioritizationFee": -1}], value=None)
@example(answer=[{"prioritizationFee": True}], value=None)
def test_nonsense_is_malformed(name: str, answer: Any, value: Any) -> None:
    read = readers()[name]
    for told in (answer, IN_CONTEXT | {"value": value}):
        try:
            read(told)
        except Malformed:
            continue


def test_what_is_sound_is_read() -> None:
    read = readers()
    assert read["samples"]([{"slot": 1, "prioritizationFee": 9}]) == (9,)
    # Anybody can offer such a price for no units at all: a node that tells of it is no bad node.
    assert read["samples"]([{"slot": 1, "prioritizationFee": 2**64 - 1}]) == (2**64 - 1,)
    told = IN_CONTEXT | {"value": {"blockhash": "1" * 32, "lastValidBlockHeight": 157}}
    assert read["blockhash"](told) == ("1" * 32, 157, 7)
    statuses = read["statuses"](IN_CONTEXT | {"value": [{"confirmationStatus": "confirmed", "slot": 5}]})
    assert (statuses["a"].slot, statuses["a"].commitment) == (5, "confirmed")
    assert read["statuses"](IN_CONTEXT | {"value": [None]}) == {}
    simulated = read["simulate"](IN_CONTEXT | {"value": {"err": None, "unitsConsumed": 3, "innerInstructions": []}})
    assert (simulated.slot, simulated.units, simulated.amount_out, simulated.failure) == (7, 3, 0, None)
    assert read["transaction"](None) is None


@pytest.mark.parametrize("logs", [5, 1.5, True, {"a": 1}, None, [None, 7]])
def test_logs_that_are_no_lines_are_none(logs: Any) -> None:
    signature, paid = str(Signature.default()), [5_000, 0, 0]
    meta = {"err": None, "fee": 5_000, "preBalances": paid, "postBalances": [0, 0, 0], "logMessages": logs}
    told = {"slot": 1, "blockTime": None, "transaction": [ENCODED, "base64"], "meta": meta}
    found = outcome._read(told, signature, ExecutionPlan(), str(PAYER))
    assert found is not None
    assert found.logs == ()


def test_only_what_came_from_others_counts() -> None:
    def moved(source: str, destination: str, lamports: int) -> dict[str, Any]:
        info = {"source": source, "destination": destination, "lamports": lamports}
        return {"programId": SYSTEM_PROGRAM, "parsed": {"type": "transfer", "info": info}}

    def token(source: str, destination: str, amount: int) -> dict[str, Any]:
        info = {"source": source, "destination": destination, "amount": str(amount)}
        return {"programId": TOKEN_PROGRAM, "parsed": {"type": "transfer", "info": info}}

    wallet, account, pool = str(PAYER), str(OTHER), str(Hash.new_unique())
    inner = [
        token(account, pool, 1_000),
        token(pool, account, 700),
        token(account, account, 50),
        moved(pool, wallet, 30),
        moved(wallet, account, 9),
        moved(account, wallet, 4),
    ]
    told = [{"index": 0, "instructions": inner}, {"index": 5, "instructions": [token(pool, account, 10**9)]}]
    simulated = readers()["simulate"](IN_CONTEXT | {"value": {"err": None, "innerInstructions": told[:1]}})
    assert simulated.amount_out == 730
    # Of another instruction, one that is not there: not the last leg's.
    assert readers()["simulate"](IN_CONTEXT | {"value": {"err": None, "innerInstructions": told}}).amount_out == 730


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("simulate", {"err": None, "unitsConsumed": -1, "innerInstructions": []}),
        ("simulate", {"err": None, "unitsConsumed": 1, "innerInstructions": None}),
        ("simulate", {"err": None, "logs": "x"}),
        ("blockhash", {"blockhash": "1" * 32, "lastValidBlockHeight": 149}),
        ("blockhash", {"blockhash": "0" * 32, "lastValidBlockHeight": 500}),
        ("blockhash", {"blockhash": "1" * 44, "lastValidBlockHeight": 500}),
        ("statuses", []),
        ("statuses", [{"slot": 1}]),
    ],
)
def test_what_is_not_sound_is_refused(name: str, value: Any) -> None:
    with pytest.raises(Malformed):
        readers()[name](IN_CONTEXT | {"value": value})
