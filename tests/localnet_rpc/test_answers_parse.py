"""Every answer is read by `solders.rpc.responses`, the types of the real node."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from solders.message import to_bytes_versioned
from solders.rpc import responses as told

from localnet.node_methods import METHODS

from .nodekit import (
    MINT,
    PURSE_A,
    PURSE_B,
    SOL,
    TABLE,
    TOKENS,
    Stage,
    address,
    memo,
    move_tokens,
    pay,
    payment,
    signed,
    stage,
    table,
    text,
)

A = address("a")
READ = {"commitment": "processed", "encoding": "base64"}
PARSED = {"commitment": "processed", "encoding": "jsonParsed"}
V0 = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
TX: list[Any] = ["TX"]
"""Stands for the signature of a transaction that landed."""

ANSWERS: list[tuple[str, list[Any], str]] = [
    ("getHealth", [], "GetHealthResp"),
    ("getVersion", [], "GetVersionResp"),
    ("getSlot", [], "GetSlotResp"),
    ("getBlockHeight", [], "GetBlockHeightResp"),
    ("getGenesisHash", [], "GetGenesisHashResp"),
    ("getIdentity", [], "GetIdentityResp"),
    ("getSlotLeader", [], "GetSlotLeaderResp"),
    ("getSlotLeaders", [1, 2], "GetSlotLeadersResp"),
    ("getLatestBlockhash", [], "GetLatestBlockhashResp"),
    ("isBlockhashValid", [A], "IsBlockhashValidResp"),
    ("getEpochInfo", [], "GetEpochInfoResp"),
    ("getEpochSchedule", [], "GetEpochScheduleResp"),
    ("getTransactionCount", [], "GetTransactionCountResp"),
    ("getFirstAvailableBlock", [], "GetFirstAvailableBlockResp"),
    ("minimumLedgerSlot", [], "MinimumLedgerSlotResp"),
    ("getBlockTime", [3], "GetBlockTimeResp"),
    ("getBlocks", [1, {"commitment": "confirmed"}], "GetBlocksResp"),
    ("getBlock", [2, V0], "GetBlockResp"),
    ("getBlock", [2, V0 | {"encoding": "jsonParsed"}], "GetBlockResp"),
    ("getBlock", [2, V0 | {"encoding": "base64"}], "GetBlockResp"),
    ("getBlock", [2, {"commitment": "confirmed", "transactionDetails": "signatures"}], "GetBlockResp"),
    ("getBlock", [2, {"commitment": "confirmed", "transactionDetails": "none", "rewards": False}], "GetBlockResp"),
    ("getAccountInfo", [address("nobody")], "GetAccountInfoResp"),
    ("getAccountInfo", [A], "GetAccountInfoResp"),
    ("getAccountInfo", [PURSE_A, READ], "GetAccountInfoResp"),
    ("getAccountInfo", [PURSE_A, PARSED], "GetAccountInfoJsonParsedResp"),
    ("getAccountInfo", [MINT, PARSED], "GetAccountInfoJsonParsedResp"),
    ("getAccountInfo", [TABLE, PARSED], "GetAccountInfoJsonParsedResp"),
    ("getAccountInfo", ["SysvarC1ock11111111111111111111111111111111", PARSED], "GetAccountInfoJsonParsedResp"),
    ("getAccountInfo", [A, PARSED], "GetAccountInfoMaybeJsonParsedResp"),
    ("getMultipleAccounts", [[A, PURSE_A, address("nobody")], READ], "GetMultipleAccountsResp"),
    ("getMultipleAccounts", [[MINT, PURSE_A], PARSED], "GetMultipleAccountsJsonParsedResp"),
    ("getMultipleAccounts", [[A, PURSE_A], PARSED], "GetMultipleAccountsMaybeJsonParsedResp"),
    ("getProgramAccounts", [TOKENS, READ], "GetProgramAccountsResp"),
    ("getProgramAccounts", [TOKENS, READ | {"withContext": True}], "GetProgramAccountsWithContextResp"),
    ("getProgramAccounts", [TOKENS, PARSED], "GetProgramAccountsJsonParsedResp"),
    ("getProgramAccounts", [TOKENS, PARSED | {"withContext": True}], "GetProgramAccountsWithContextJsonParsedResp"),
    ("getBalance", [A], "GetBalanceResp"),
    ("getMinimumBalanceForRentExemption", [0], "GetMinimumBalanceForRentExemptionResp"),
    ("getTokenAccountBalance", [PURSE_A, READ], "GetTokenAccountBalanceResp"),
    ("getTokenSupply", [MINT, READ], "GetTokenSupplyResp"),
    ("getTokenLargestAccounts", [MINT, READ], "GetTokenLargestAccountsResp"),
    ("getTokenAccountsByOwner", [A, {"mint": MINT}, READ], "GetTokenAccountsByOwnerResp"),
    ("getTokenAccountsByOwner", [A, {"programId": TOKENS}, PARSED], "GetTokenAccountsByOwnerJsonParsedResp"),
    ("getTokenAccountsByDelegate", [A, {"programId": TOKENS}, READ], "GetTokenAccountsByDelegateResp"),
    ("getSignatureStatuses", [["TX", "NONE"]], "GetSignatureStatusesResp"),
    ("getTransaction", [*TX, V0], "GetTransactionResp"),
    ("getTransaction", [*TX, V0 | {"encoding": "jsonParsed"}], "GetTransactionResp"),
    ("getTransaction", [*TX, V0 | {"encoding": "base64"}], "GetTransactionResp"),
    ("getTransaction", [*TX, V0 | {"encoding": "base58"}], "GetTransactionResp"),
    ("getTransaction", ["NONE", V0], "GetTransactionResp"),
    ("getTransaction", ["OLD", {"commitment": "confirmed"}], "GetTransactionResp"),
    ("getTransaction", ["BAD", V0], "GetTransactionResp"),
    ("getSignaturesForAddress", [A, {"commitment": "confirmed"}], "GetSignaturesForAddressResp"),
    ("getRecentPrioritizationFees", [[A]], "GetRecentPrioritizationFeesResp"),
    ("getRecentPrioritizationFees", [], "GetRecentPrioritizationFeesResp"),
    ("getFeeForMessage", ["MESSAGE", {"commitment": "processed"}], "GetFeeForMessageResp"),
    ("requestAirdrop", [A, SOL], "RequestAirdropResp"),
    ("sendTransaction", ["NEW", {"encoding": "base64"}], "SendTransactionResp"),
    ("simulateTransaction", ["NEW", {"encoding": "base64", "sigVerify": True}], "SimulateTransactionResp"),
    (
        "simulateTransaction",
        [
            "NEW",
            {
                "encoding": "base64",
                "replaceRecentBlockhash": True,
                "innerInstructions": True,
                "accounts": {"encoding": "base64", "addresses": [A, PURSE_B]},
            },
        ],
        "SimulateTransactionResp",
    ),
    (
        "simulateTransaction",
        ["TOO MUCH", {"encoding": "base64", "accounts": {"addresses": [A]}}],
        "SimulateTransactionResp",
    ),
]


async def prepared(on: Stage) -> dict[str, str]:
    """Let a plain, a failing and a legacy transaction land; return what the names of the table stand for."""
    chain = on.chain
    landed = signed(chain, move_tokens(5), pay("a", address("fresh"), SOL), memo("hello"), tables=[table()])
    failing = signed(chain, move_tokens(9_000_000_000))
    old = payment(chain, 7, legacy=True)
    for one in (landed, failing, old):
        chain.send(bytes(one), preflight=False)
    on.step(3)
    new = payment(chain, 11)
    return {
        "TX": str(landed.signatures[0]),
        "BAD": str(failing.signatures[0]),
        "OLD": str(old.signatures[0]),
        "NONE": str(payment(chain, 12).signatures[0]),
        "NEW": text(new),
        "TOO MUCH": text(payment(chain, 99 * SOL)),
        "MESSAGE": base64.b64encode(to_bytes_versioned(new.message)).decode(),
    }


def filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [filled(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


async def test_every_answer_parses():
    async with stage() as on:
        names = await prepared(on)
        for method, params, kind in ANSWERS:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": filled(params, names)}
            async with on.session.post(on.url, json=body) as response:
                answer = await response.text()
            read: Any = getattr(told, kind).from_json(answer)
            assert type(read).__name__ == kind, (method, params, answer)
            assert hasattr(read, "value"), (method, params, answer)
    assert {method for method, _, _ in ANSWERS} == set(METHODS)


ERRORS: list[tuple[str, list[Any], str, str]] = [
    ("sendTransaction", ["TOO MUCH", {"encoding": "base64"}], "SendTransactionResp", "SendTransactionPreflightFailure"),
    ("getSlot", [{"minContextSlot": 10**6}], "GetSlotResp", "MinContextSlotNotReached"),
    ("getTransaction", [*TX, {"commitment": "confirmed"}], "GetTransactionResp", "UnsupportedTransactionVersion"),
    ("getBlock", [10**6, V0], "GetBlockResp", "BlockNotAvailable"),
    ("getBalance", ["x"], "GetBalanceResp", "InvalidParams"),
    ("getFortune", [], "GetSlotResp", "MethodNotFound"),
]


@pytest.mark.parametrize(("method", "params", "kind", "error"), ERRORS)
async def test_every_error_parses(method: str, params: list[Any], kind: str, error: str):
    async with stage() as on:
        names = await prepared(on)
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": filled(params, names)}
        async with on.session.post(on.url, json=body) as response:
            read: Any = getattr(told, kind).from_json(await response.text())
        assert type(read).__name__ == error + "Message"
        assert read.message


async def test_an_unhealthy_node_says_so():
    async with stage() as on:
        on.step(200)
        await on.fault(behind_slots=150)
        body = {"jsonrpc": "2.0", "id": 1, "method": "getHealth"}
        async with on.session.post(on.url, json=body) as response:
            read: Any = told.GetHealthResp.from_json(await response.text())
        assert type(read) is told.NodeUnhealthyMessage
        assert read.data.num_slots_behind == 150
