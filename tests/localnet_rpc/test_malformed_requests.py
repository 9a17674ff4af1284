"""Whatever is sent, a node answers with an error and goes on."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solders.hash import Hash

from localnet.node_methods import METHODS, answer
from localnet.rpc_node import Faults
from localnet.services import jsonrpc
from localnet.services.block_engine import BlockEngine
from localnet.services.state import NodeState
from localnet.services.subscriptions import Subscriptions

from .nodekit import MINT, PURSE_A, TOKENS, address, node_chain, payment, stage, text

CHAIN = node_chain()
NODE = NodeState(CHAIN, Faults(), 1)
GOOD = [
    MINT,
    PURSE_A,
    TOKENS,
    address("a"),
    text(payment(CHAIN)),
    str(payment(CHAIN).signatures[0]),
    str(Hash.default()),
    "processed",
    "confirmed",
    "base64",
    "base58",
    "jsonParsed",
    "all",
]
NAMES = [
    "encoding",
    "commitment",
    "minContextSlot",
    "dataSlice",
    "offset",
    "length",
    "filters",
    "memcmp",
    "bytes",
    "dataSize",
    "accounts",
    "addresses",
    "sigVerify",
    "replaceRecentBlockhash",
    "innerInstructions",
    "skipPreflight",
    "preflightCommitment",
    "maxRetries",
    "limit",
    "before",
    "until",
    "mint",
    "programId",
    "mentions",
    "maxSupportedTransactionVersion",
    "transactionDetails",
    "searchTransactionHistory",
    "enableReceivedNotification",
    "withContext",
]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(GOOD)
    | st.text(max_size=20)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
KNOWN = [
    *METHODS,
    "sendBundle",
    "getBundleStatuses",
    "getInflightBundleStatuses",
    "getTipAccounts",
    "accountSubscribe",
    "programSubscribe",
    "logsSubscribe",
    "signatureSubscribe",
    "slotSubscribe",
    "accountUnsubscribe",
]


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KNOWN), st.lists(VALUES, max_size=4))
def test_no_parameters_make_a_method_fail_otherwise_than_it_should(quiet: None, method: str, params: list[Any]):
    told: list[object] = []
    subscriptions = Subscriptions(NODE, told.append)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    for call in (
        lambda method, params: answer(NODE, method, params),
        BlockEngine(NODE).call,
        subscriptions.call,
    ):
        found = jsonrpc.respond(body, call)
        assert isinstance(found, dict)
        assert ("result" in found) != ("error" in found)
        if "error" in found:
            error: Any = found["error"]
            assert error["code"] != -32603 or method == "requestAirdrop", found
        json.loads(jsonrpc.encoded(found))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_make_a_node_fail(quiet: None, body: bytes):
    found = jsonrpc.respond(body, lambda method, params: answer(NODE, method, params))
    if found is not None:
        json.loads(jsonrpc.encoded(found))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_to_a_transaction_makes_a_node_fail(quiet: None, data: st.DataObject):
    raw = bytearray(bytes(payment(CHAIN, 5, tip=2_000)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))]) if data.draw(st.booleans()) else bytes(raw)
    given_ = base64.b64encode(cut).decode()
    calls: list[tuple[str, list[Any]]] = [
        ("sendTransaction", [given_, {"encoding": "base64"}]),
        ("sendTransaction", [given_, {"encoding": "base64", "skipPreflight": True}]),
        ("simulateTransaction", [given_, {"encoding": "base64", "innerInstructions": True}]),
        ("simulateTransaction", [given_, {"encoding": "base64", "replaceRecentBlockhash": True}]),
        ("getFeeForMessage", [given_]),
        ("sendBundle", [[given_], {"encoding": "base64"}]),
    ]
    engine = BlockEngine(NODE)
    for method, params in calls:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        call = engine.call if method == "sendBundle" else (lambda method, params: answer(NODE, method, params))
        found: Any = jsonrpc.respond(body, call)
        assert found.get("error", {}).get("code") != -32603, (method, found)


async def test_a_node_lives_through_a_storm_of_nonsense():
    async with stage() as on, on.session.ws_connect(on.url) as socket:
        bodies = [b"", b"\xff\xfe", b"{" * 1000, b"null", b'"x"', b"[[[]]]", b"\x00" * 100, b"7" * 5000]
        for body in bodies * 3:
            for path in ("/", "/api/v1/bundles", "/api/v1/getTipAccounts"):
                async with on.session.post(on.url + path, data=body) as response:
                    assert response.status in (200, 400)
                    await response.read()
            await socket.send_bytes(body)
            await socket.send_str(body.decode(errors="replace"))
        async with on.session.post(on.url, data=b" " * (2 << 20)) as response:
            assert response.status == 413
        async with on.session.get(on.url + "/nothing") as response:
            assert response.status == 404
        assert await on.ask("getHealth") == "ok"
        on.step()
        assert (await on.ask("getSlot", {"commitment": "processed"})) == 2
