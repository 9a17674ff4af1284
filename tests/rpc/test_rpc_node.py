"""The simulated node: answers and errors in the real one's shapes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from localnet.chain_view import CLOCK, ChainView
from localnet.rpc_node import Faults, RpcNode

from .stage import PROGRAM, A, B, C, nodes, small_chain, write


@asynccontextmanager
async def node(chain: ChainView | None = None, **faults: Any) -> AsyncIterator[tuple[RpcNode, str]]:
    async with nodes(chain or small_chain(), Faults(**faults)) as ([one], [url]):
        yield one, url


async def ask(url: str, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": "x", "method": method, "params": list(params)}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        answer = await response.json()
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == "x"
    return answer.get("result", answer.get("error"))


async def test_what_a_node_says_of_itself():
    async with node() as (_, url):
        assert await ask(url, "getHealth") == "ok"
        assert (await ask(url, "getVersion"))["solana-core"].endswith("simulated")
        assert await ask(url, "getSlot") == await ask(url, "getBlockHeight") == 100
        assert await ask(url, "getGenesisHash") == small_chain().genesis


async def test_accounts_have_the_real_shape():
    async with node() as (_, url):
        answer = await ask(url, "getAccountInfo", B, {"encoding": "base64"})
        assert answer["context"]["slot"] == 100
        assert answer["value"] == {
            "data": ["YmJiYmJiYmJiYmJiYmJiYmJiYmI=", "base64"],
            "executable": False,
            "lamports": 148 * 6960,
            "owner": PROGRAM,
            "rentEpoch": 2**64 - 1,
            "space": 20,
        }
        assert (await ask(url, "getAccountInfo", C))["value"] is None
        cut = {"encoding": "base64", "dataSlice": {"offset": 18, "length": 8}}
        assert (await ask(url, "getAccountInfo", B, cut))["value"]["data"] == ["YmI=", "base64"]
        both = (await ask(url, "getMultipleAccounts", [C, A]))["value"]
        assert both[0] is None
        assert both[1]["space"] == 10
        found = await ask(url, "getProgramAccounts", PROGRAM, {"filters": [{"dataSize": 10}]})
        assert [one["pubkey"] for one in found] == [A]
        match = {"memcmp": {"offset": 0, "bytes": "4Z7", "encoding": "base58"}}
        found = await ask(url, "getProgramAccounts", PROGRAM, {"filters": [match], "withContext": True})
        assert found["context"]["slot"] == 100
        assert (await ask(url, "getAccountInfo", CLOCK))["value"]["space"] == 40


ERRORS: list[tuple[str, list[Any], int]] = [
    ("getNothing", [], -32601),
    ("getAccountInfo", [], -32602),
    ("getAccountInfo", ["0OIl"], -32602),
    ("getAccountInfo", [7], -32602),
    ("getAccountInfo", [A, {"encoding": "base64+zstd"}], -32602),
    ("getAccountInfo", [A, {"encoding": "morse"}], -32602),
    ("getLatestBlockhash", [], -32601),
    ("sendTransaction", ["x"], -32601),
    ("getAccountInfo", [A, {"minContextSlot": 101}], -32016),
    ("getMultipleAccounts", [A], -32602),
    ("getMultipleAccounts", [[A] * 101], -32602),
    ("getProgramAccounts", [PROGRAM, {"filters": [{"dataSize": 1}] * 5}], -32602),
    ("getProgramAccounts", [PROGRAM, {"filters": ["x"]}], -32602),
    ("getProgramAccounts", [PROGRAM, {"filters": [{"memcmp": {"offset": 0, "bytes": "0OIl"}}]}], -32602),
    ("getProgramAccounts", [PROGRAM, {"filters": [{"memcmp": {"offset": 0, "bytes": "z" * 200}}]}], -32602),
    ("getSlot", [{"minContextSlot": 1000}], -32016),
]


@pytest.mark.parametrize(("method", "params", "code"), ERRORS)
async def test_errors_have_the_real_codes(method: str, params: list[Any], code: int):
    async with node() as (_, url):
        error = await ask(url, method, *params)
        assert error["code"] == code
        assert error["message"]
        if code == -32016:
            assert error["data"] == {"contextSlot": 100}


@pytest.mark.parametrize(("body", "code"), [("{", -32700), ("[]", -32600), ("7", -32600), ("[" * 10_000, -32700)])
async def test_what_is_no_request_is_an_error(body: str, code: int):
    async with node() as (_, url), aiohttp.ClientSession() as session:
        async with session.post(url, data=body) as response:
            assert (await response.json())["error"]["code"] == code
        async with session.get(url) as response:
            assert response.status == 405


async def test_a_node_far_behind_is_unhealthy():
    chain = small_chain()
    for number in range(200):
        write(chain, bytes([number]))
    async with node(chain, behind_slots=150) as (_, url):
        error = await ask(url, "getHealth")
        assert error["code"] == -32005
        assert error["data"] == {"numSlotsBehind": 150}
        assert await ask(url, "getSlot") == 150


async def test_subscribers_are_told_of_what_changed_and_of_nothing_else():
    chain = small_chain()
    async with node(chain) as (one, url), aiohttp.ClientSession() as session, session.ws_connect(url) as socket:

        async def call(method: str, *params: Any) -> Any:
            await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
            answer = await socket.receive_json()
            return answer.get("result", answer.get("error"))

        account = await call("accountSubscribe", B, {"encoding": "base64"})
        other = await call("accountSubscribe", A)
        slots = await call("slotSubscribe")
        assert len({account, other, slots}) == one.subscriptions == 3
        write(chain, b"new")
        one.told()
        told = [await socket.receive_json() for _ in range(2)]
        assert told[0]["method"] == "accountNotification"
        assert told[0]["params"]["subscription"] == account
        assert told[0]["params"]["result"]["context"]["slot"] == 101
        assert told[0]["params"]["result"]["value"]["data"] == ["bmV3", "base64"]
        assert told[1]["params"] == {"result": {"parent": 100, "root": 69, "slot": 101}, "subscription": slots}
        assert await call("accountUnsubscribe", account) is True
        assert (await call("accountUnsubscribe", account))["message"] == "Invalid subscription id."
        assert (await call("signatureSubscribe"))["code"] == -32601
        assert await call("slotUnsubscribe", slots) is True
        write(chain, b"newer")
        one.told()
        with pytest.raises(asyncio.TimeoutError):
            await socket.receive(timeout=0.05)
        one.cut()
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


async def test_a_client_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("localnet.rpc_node.MAX_UNSENT", 20)
    chain = small_chain()
    async with node(chain) as (one, url), aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "accountSubscribe", "params": [B]})
        await socket.receive_json()
        for number in range(30):
            write(chain, bytes([number]))
            one.told()
        await asyncio.sleep(0.05)
        assert one.subscriptions == 0


async def test_faults_are_switched_from_outside_and_nonsense_is_refused():
    async with node() as (one, url), aiohttp.ClientSession() as session:
        async with session.put(url + "/faults", json={"failed": 1.0}) as response:
            assert response.status == 204
        async with session.post(url, data="{}") as response:
            assert response.status == 503
        for body in ('{"sad": 1}', '{"failed": true}', '{"silent": 1}', '{"failed": "x"}', "[1]", "{"):
            async with session.put(url + "/faults", data=body) as response:
                assert response.status == 400, body
        assert one.faults == Faults(failed=1.0)


async def test_the_same_seed_gives_the_same_faults():
    async def outcomes(seed: int) -> list[int]:
        async with nodes(small_chain(), Faults(failed=0.5)) as ([one], [url]), aiohttp.ClientSession() as session:
            one.state.random.seed(seed)
            found = []
            for _ in range(20):
                async with session.post(url, data="{}") as response:
                    found.append(response.status)
            return found

    assert await outcomes(7) == await outcomes(7)
    assert set(await outcomes(7)) == {200, 503}


def test_a_chain_goes_forward_only_and_forgets_what_is_long_past():
    chain = small_chain()
    with pytest.raises(ValueError, match="does not come after"):
        chain.advance(100, 1, [])
    chain.advance(101, 1, [(B, None)])
    assert B not in chain.newest.accounts
    assert B in chain.at(1).accounts
    assert chain.at(10**6).slot == 0
    assert json.dumps(chain.genesis)
