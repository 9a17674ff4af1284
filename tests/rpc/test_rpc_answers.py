"""What a node answers and is no answer: it costs that node, and is never taken for one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from localnet.rpc_node import Faults
from markets.solana.rpc.accounts import Malformed, accounts_at, program_accounts, slot_number
from markets.solana.rpc.errors import Unanswered, failure_of, shown
from markets.solana.rpc.line import Answer
from markets.solana.rpc.settings import PoolSettings
from markets.solana.rpc.transport import result_of, retry_after_s

from .stage import PROGRAM, A, C, nodes, result, rpc, saying, server, small_chain

GOOD = Faults

LIES: dict[str, str] = {
    "empty": "",
    "no json": "<html>",
    "nan": '{"jsonrpc":"2.0","id":1,"result":NaN}',
    "deep": "[" * 100_000,
    "a list": "[]",
    "null": "null",
    "no result": '{"jsonrpc":"2.0","id":1}',
    "of another call": '{"jsonrpc":"2.0","id":2,"result":{"context":{"slot":100},"value":[null]}}',
    "error without a code": '{"jsonrpc":"2.0","id":1,"error":{"message":"no"}}',
    "no context": result({"value": [None]}),
    "no slot": result({"context": {}, "value": [None]}),
    "slot true": result({"context": {"slot": True}, "value": [None]}),
    "slot negative": result({"context": {"slot": -1}, "value": [None]}),
    "slot huge": result({"context": {"slot": 1 << 70}, "value": [None]}),
    "too few": result({"context": {"slot": 100}, "value": []}),
    "too many": result({"context": {"slot": 100}, "value": [None, None]}),
    "not base64": result(
        {"context": {"slot": 100}, "value": [{"owner": PROGRAM, "lamports": 1, "data": ["!!", "base64"]}]}
    ),
    "other encoding": result(
        {"context": {"slot": 100}, "value": [{"owner": PROGRAM, "lamports": 1, "data": ["", "base58"]}]}
    ),
    "no owner": result({"context": {"slot": 100}, "value": [{"lamports": 1, "data": ["", "base64"]}]}),
    "owner no address": result(
        {"context": {"slot": 100}, "value": [{"owner": "0" * 40, "lamports": 1, "data": ["", "base64"]}]}
    ),
    "negative balance": result(
        {"context": {"slot": 100}, "value": [{"owner": PROGRAM, "lamports": -1, "data": ["", "base64"]}]}
    ),
    "more than its space": result(
        {"context": {"slot": 100}, "value": [{"owner": PROGRAM, "lamports": 1, "data": ["YWE=", "base64"], "space": 1}]}
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_every_answer_that_is_none_fails_over(lie: str):
    async with server(saying(LIES[lie])) as url, nodes(small_chain(), GOOD()) as (_, urls), rpc([url, *urls]) as pool:
        assert (await pool.get_accounts([C])).slot == 100
        assert pool.endpoints[0].failures == 1


async def test_a_node_that_drips_its_answer_is_given_up():
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    async with server(drip) as url, rpc([url], PoolSettings(timeout_s=0.2, deadline_s=0.5, attempts=1)) as pool:
        with pytest.raises(Unanswered, match=r"did not answer within 0\.2 s"):
            await pool.get_slot()


async def test_a_node_that_breaks_off_is_a_bad_answer():
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"jsonrpc"')
        assert request.transport is not None
        request.transport.close()
        return response

    async with server(break_off) as url, rpc([url], PoolSettings(attempts=1)) as pool:
        with pytest.raises(Unanswered, match="broke off"):
            await pool.get_slot()


async def test_an_answer_larger_than_any_honest_one_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("markets.solana.rpc.pool.MAX_ANSWER_BYTES", 1000)
    async with server(saying(" " * 2000)) as url, rpc([url], PoolSettings(attempts=1)) as pool:
        with pytest.raises(Unanswered, match="sent more than"):
            await pool.get_slot()


async def test_a_redirect_is_not_followed():
    followed: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        followed.append(str(request.url))
        return web.Response(text=result(7))

    async with (
        server(elsewhere) as target,
        server(saying("", 307, Location=target)) as url,
        rpc([url], PoolSettings(attempts=1)) as pool,
    ):
        with pytest.raises(Unanswered, match="HTTP 307"):
            await pool.get_slot()
    assert not followed


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("5", 5.0),
        (" 7 ", 7.0),
        ("²", None),
        ("Sat, 01 Jan 2026 00:00:10 GMT", 10.0),
        ("Fri, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("9" * 5000, 86_400.0),
    ],
)
def test_retry_after(header: str | None, seconds: float | None):
    assert retry_after_s(header, datetime(2026, 1, 1, tzinfo=UTC)) == seconds


def test_a_servers_words_are_shortened_and_stripped_of_addresses():
    assert shown("see https://x/?key=abc\nnow\x1b[2J") == "see <address> now?[2J"
    assert len(shown("x" * 1000)) == 120
    assert "<address>" in str(failure_of("h", "getSlot", -32603, "at http://10.0.0.1/key"))


@given(st.binary(max_size=200), st.sampled_from([200, 204, 400, 404, 413]))
def test_no_bytes_pass_for_an_answer(text: bytes, status: int):
    from markets.solana.rpc.errors import RpcError

    with pytest.raises(RpcError):
        result_of(Answer(status, {}, text), "host", "getSlot")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["context", "slot", "value", "data", "owner", "lamports", "account"]), inner)
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_json_breaks_the_readers(value: Any):
    for read in (lambda raw: accounts_at([A], raw), program_accounts, slot_number):
        try:
            read(value)
        except Malformed:
            continue
        assert value in range(1 << 63) or isinstance(value, dict)
