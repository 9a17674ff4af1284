"""Errors have the codes of the real node."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from .nodekit import MINT, PURSE_A, TOKENS, address, payment, stage, text

A = address("a")
SIGNATURE = "1" * 64
B64 = {"encoding": "base64"}
LONG = base64.b64encode(bytes(1233)).decode()

INVALID: list[tuple[str, list[Any]]] = [
    ("getBalance", []),
    ("getBalance", ["short"]),
    ("getBalance", [A + A]),
    ("getBalance", [A, {"commitment": "soon"}]),
    ("getBalance", [A, {"minContextSlot": -1}]),
    ("getBalance", [A, "processed"]),
    ("getAccountInfo", [A, {"encoding": "base64+zstd"}]),
    ("getAccountInfo", [A, {"dataSlice": {"offset": 1}}]),
    ("getAccountInfo", [A, {"dataSlice": {"offset": -1, "length": 1}}]),
    ("getMultipleAccounts", [[A] * 101]),
    ("getMultipleAccounts", [A]),
    ("getProgramAccounts", [TOKENS, {"filters": [{"dataSize": 1}] * 5}]),
    ("getProgramAccounts", [TOKENS, {"filters": [{"memcmp": {"offset": 0, "bytes": "z" * 200}}]}]),
    ("getProgramAccounts", [TOKENS, {"filters": [{"memcmp": {"offset": 0, "bytes": "AA", "encoding": "x"}}]}]),
    ("getProgramAccounts", [TOKENS, {"filters": [{"dataSize": 165, "memcmp": {}}]}]),
    ("getTokenAccountsByOwner", [A, {}]),
    ("getTokenAccountsByOwner", [A, {"mint": A}]),
    ("getTokenAccountsByOwner", [A, {"mint": address("nobody")}]),
    ("getTokenAccountsByOwner", [A, {"programId": A}]),
    ("getTokenAccountBalance", [A]),
    ("getTokenAccountBalance", [MINT]),
    ("getTokenSupply", [PURSE_A]),
    ("getMinimumBalanceForRentExemption", [-1]),
    ("getMinimumBalanceForRentExemption", ["165"]),
    ("getSignatureStatuses", [[SIGNATURE] * 257]),
    ("getSignatureStatuses", [["x"]]),
    ("getSignatureStatuses", [[SIGNATURE], {"searchTransactionHistory": 1}]),
    ("getTransaction", [SIGNATURE, {"commitment": "processed"}]),
    ("getTransaction", [SIGNATURE, {"encoding": "morse"}]),
    ("getTransaction", [SIGNATURE, {"maxSupportedTransactionVersion": 256}]),
    ("getTransaction", [A]),
    ("getSignaturesForAddress", [A, {"commitment": "processed"}]),
    ("getSignaturesForAddress", [A, {"limit": 0}]),
    ("getSignaturesForAddress", [A, {"limit": 1001}]),
    ("getSignaturesForAddress", [A, {"before": "x"}]),
    ("getBlock", [1, {"commitment": "processed"}]),
    ("getRecentPrioritizationFees", [[A] * 129]),
    ("getFeeForMessage", ["!"]),
    ("getFeeForMessage", ["QUJD"]),
    ("sendTransaction", []),
    ("sendTransaction", [7]),
    ("sendTransaction", ["0OIl"]),
    ("sendTransaction", ["QUJD", B64]),
    ("sendTransaction", ["", B64]),
    ("sendTransaction", [LONG, B64]),
    ("sendTransaction", ["QUJD", {"encoding": "json"}]),
    ("sendTransaction", ["z" * 5000]),
    ("simulateTransaction", ["TX", B64 | {"accounts": {"addresses": [A], "encoding": "base58"}}]),
    ("simulateTransaction", ["TX", B64 | {"accounts": {"addresses": [A] * 50}}]),
    ("simulateTransaction", ["TX", B64 | {"accounts": {}}]),
    ("simulateTransaction", ["TX", B64 | {"sigVerify": True, "replaceRecentBlockhash": True}]),
    ("requestAirdrop", [A]),
    ("requestAirdrop", [A, -5]),
    ("requestAirdrop", ["x", 5]),
    ("isBlockhashValid", ["x"]),
]
OTHERS: list[tuple[str, list[Any], int]] = [
    ("getAccountInfo", [PURSE_A], -32600),
    ("getAccountInfo", [PURSE_A, {"encoding": "base58"}], -32600),
    ("getFortune", [], -32601),
    ("sendBundle", [[]], -32601),
    ("getBalance", [A, {"minContextSlot": 10**6}], -32016),
    ("getSignaturesForAddress", [A, {"minContextSlot": 10**6}], -32016),
    ("sendTransaction", ["TX", B64 | {"minContextSlot": 10**6}], -32016),
    ("simulateTransaction", ["TX", B64 | {"minContextSlot": 10**6}], -32016),
    ("getBlockTime", [10**6], -32004),
    ("getBlock", [10**6], -32004),
]


@pytest.mark.parametrize(
    ("method", "params", "code"), [(method, params, -32602) for method, params in INVALID] + OTHERS
)
async def test_an_error_has_its_code_and_says_why(method: str, params: list[Any], code: int):
    async with stage() as on:
        given = [text(payment(on.chain)) if one == "TX" else one for one in params]
        error = await on.refused(method, *given)
        assert error["code"] == code
        assert error["message"]
        if code == -32016:
            assert error["data"] == {"contextSlot": 1}


async def test_slots_that_are_gone_or_were_skipped():
    async with stage() as on:
        on.step(5)
        on.chain.rollback(2)
        on.step()
        assert (await on.refused("getBlockTime", 5))["code"] == -32007
        on.step(400)
        assert (await on.refused("getBlockTime", 1))["code"] == -32001
        assert await on.ask("getFirstAvailableBlock") == 1  # transactions are told for longer than blocks


async def test_a_batch_is_answered_one_by_one():
    async with stage() as on:
        calls: list[Any] = [
            {"jsonrpc": "2.0", "id": 1, "method": "getSlot", "params": [{"commitment": "processed"}]},
            {"jsonrpc": "2.0", "id": "two", "method": "getFortune"},
            {"jsonrpc": "2.0", "method": "getSlot"},
            7,
            {"jsonrpc": "1.0", "id": 5, "method": "getSlot"},
        ]
        async with on.session.post(on.url, json=calls) as response:
            told = await response.json()
        assert told[0] == {"jsonrpc": "2.0", "id": 1, "result": 1}
        assert (told[1]["id"], told[1]["error"]["code"]) == ("two", -32601)
        assert [one["error"]["code"] for one in told[2:]] == [-32600, -32600]
        status, nothing = await on.raw('{"jsonrpc": "2.0", "method": "getSlot"}')
        assert (status, nothing) == (200, "")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", -32700),
        ("", -32700),
        ("\x00", -32700),
        ("[" * 100_000, -32700),
        ('{"a":' * 100_000, -32700),
        ("[]", -32600),
        ("{}", -32600),
        ('{"jsonrpc": "2.0", "id": 1, "method": 7}', -32600),
        ('{"jsonrpc": "2.0", "id": [1], "method": "getSlot"}', -32600),
        ('{"jsonrpc": "2.0", "id": 1' + "0" * 40 + ', "method": "getSlot"}', -32600),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getSlot", "params": {"commitment": "processed"}}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getSlot", "params": "x"}', -32602),
    ],
)
async def test_what_is_no_request_is_an_error(body: str, code: int):
    async with stage() as on:
        status, told = await on.raw(body)
        assert status == 200
        assert f'"code":{code}' in told
        async with on.session.ws_connect(on.url) as socket:
            await socket.send_str(body)
            assert (await socket.receive_json(timeout=5))["error"]["code"] in (code, -32601)
