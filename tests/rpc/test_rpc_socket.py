"""Websocket subscriptions: they outlive connections, and a server that misbehaves loses its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from localnet.rpc_node import Faults
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.socket import AccountSocket, SocketSettings

from .stage import A, B, C, eventually, nodes, rpc, server, small_chain, write

SETTINGS = SocketSettings(
    connect_s=0.5, ping_s=0.4, silent_s=0.6, answer_s=0.4, backoff_s=0.01, backoff_max_s=0.05, max_subscriptions=3
)


@asynccontextmanager
async def listening(pool: RpcPool, settings: SocketSettings = SETTINGS, **more: Any) -> AsyncIterator[AccountSocket]:
    socket = AccountSocket(pool, settings, **more)
    task = asyncio.create_task(socket.run())
    try:
        yield socket
    finally:
        assert not task.done() or task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_only_the_newest_of_an_account_is_kept():
    chain = small_chain()
    async with nodes(chain, Faults()) as ([node], urls), rpc(urls) as pool, listening(pool) as socket:
        socket.want([B, A])
        await eventually(lambda: socket.subscribed([A, B]))
        for number in range(200):
            write(chain, bytes([number]))
            node.told()
        await eventually(lambda: socket.slot == chain.newest.slot)
        taken = socket.take()
        assert set(taken) == {B}
        assert taken[B].slot == chain.newest.slot
        assert taken[B].account is not None
        assert taken[B].account.data == bytes([199])
        assert socket.figures.conflated == 199
        assert not socket.take()
        assert pool.slots.best() == chain.newest.slot


async def test_what_is_wanted_may_change_at_any_time_and_is_limited():
    chain = small_chain()
    async with nodes(chain, Faults()) as ([node], urls), rpc(urls) as pool, listening(pool) as socket:
        socket.want([A])
        await eventually(lambda: socket.subscribed([A]))
        socket.want([B, C])
        await eventually(lambda: socket.subscribed([B, C]) and not socket.subscribed([A]))
        await eventually(lambda: node.subscriptions == 3)
        write(chain, b"1", A)
        write(chain, b"2", B)
        node.told()
        await eventually(lambda: socket.slot == chain.newest.slot)
        assert set(socket.take()) == {B}
        many = [A, B, C, "11111111111111111111111111111112"]
        socket.want(many)
        await eventually(lambda: socket.subscribed(many[:3]))
        assert not socket.subscribed(many)
        assert socket.figures.wanted == 3


async def test_a_closed_account_is_told_as_none():
    chain = small_chain()
    async with nodes(chain, Faults()) as ([node], urls), rpc(urls) as pool, listening(pool) as socket:
        socket.want([B])
        await eventually(lambda: socket.subscribed([B]))
        chain.advance(101, 1, [(B, None)])
        node.told()
        await eventually(lambda: socket.news.is_set() and socket.slot == 101)
        assert socket.take()[B].account is None


async def test_a_connection_that_is_cut_comes_back_with_its_subscriptions():
    lost: list[int] = []
    async with (
        nodes(small_chain(), Faults()) as ([node], urls),
        rpc(urls) as pool,
        listening(pool, lost=lambda: lost.append(1)) as socket,
    ):
        socket.want([A, B])
        for times in range(1, 4):
            await eventually(lambda: socket.subscribed([A, B]))
            node.cut()
            await eventually(lambda times=times: len(lost) == times)
            assert not socket.subscribed([A])
        await eventually(lambda: socket.subscribed([A, B]))
        assert socket.figures.connections == 4


async def test_the_next_endpoint_is_taken_when_one_fails_and_two_sockets_use_two():
    calm = dataclasses.replace(SETTINGS, silent_s=60.0)
    async with (
        nodes(small_chain(), Faults(), Faults()) as (running, urls),
        rpc(urls) as pool,
        listening(pool, calm) as first,
        listening(pool, calm, avoid=lambda: [first.aim]) as second,
    ):
        hosts = {one.host for one in pool.endpoints}
        await eventually(lambda: {first.figures.host, second.figures.host} == hosts)
        port = first.figures.host.rsplit(":", 1)[1]
        await next(node for node, url in zip(running, urls, strict=True) if url.endswith(port)).stop()
        # The one that is left serves both.
        await eventually(lambda: first.figures.host == second.figures.host != "")
        assert first.figures.connections == 2


async def test_an_endpoint_that_falls_behind_or_turns_to_another_chain_is_left():
    async with nodes(small_chain(), Faults(), Faults()) as (_, urls), rpc(urls) as pool, listening(pool) as socket:
        await eventually(lambda: socket.figures.host)
        by_host = {one.host: one for one in pool.endpoints}
        first = socket.figures.host
        other = next(host for host in by_host if host != first)
        pool.slots.note(other, 1_000)
        pool.slots.note(first, 100)
        await eventually(lambda: socket.figures.host == other)
        assert "is behind" in socket.figures.last_failure
        pool.slots.note(first, 1_000)
        by_host[other].other_chain = True
        await eventually(lambda: socket.figures.host == first)
        assert "another chain" in socket.figures.last_failure


Say = Callable[[web.WebSocketResponse, dict[str, Any]], Any]


@asynccontextmanager
async def lying(say: Say) -> AsyncIterator[str]:
    """Serve a websocket that answers every request with whatever `say` sends."""

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await say(socket, json.loads(message.data))
        return socket

    async with server(handle) as url:
        yield url


def good(request: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": request["id"]}


def note(result: object, subscription: int = 2) -> dict[str, Any]:
    return {"method": "accountNotification", "params": {"subscription": subscription, "result": result}}


LIES: dict[str, tuple[object, str]] = {
    "no json": ("{", "not JSON"),
    "a list": ("[]", "no object"),
    "refused": ({"id": 1, "error": {"code": -32602}}, "refused"),
    "id true": ({"id": 1, "result": True}, "refused"),
    "no context": (note({"value": None}), "no slot"),
    "no value": (note({"context": {"slot": 5}}), "owner"),
    "no base64": (
        note({"context": {"slot": 5}, "value": {"owner": A, "lamports": 1, "data": ["?", "base64"]}}),
        "base64",
    ),
    "no slot": ({"params": {"subscription": 1, "result": {"parent": 1}}}, "no slot"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_server_that_says_nonsense_loses_its_connection(lie: str):
    body, why = LIES[lie]

    async def say(socket: web.WebSocketResponse, request: dict[str, Any]) -> None:
        if "refused" not in why:
            await socket.send_json(good(request))
        if request["method"] == "accountSubscribe" or "refused" in why:
            await socket.send_str(body if isinstance(body, str) else json.dumps(body))

    async with lying(say) as url, rpc([url]) as pool, listening(pool) as socket:
        socket.want([A])
        await eventually(lambda: socket.figures.failures >= 2)
        assert why in socket.figures.last_failure
        assert url.removeprefix("http://") in socket.figures.last_failure


async def test_binary_is_no_answer():
    async def say(socket: web.WebSocketResponse, _request: dict[str, Any]) -> None:
        await socket.send_bytes(b"\x00")

    async with lying(say) as url, rpc([url]) as pool, listening(pool) as socket:
        await eventually(lambda: "no text" in socket.figures.last_failure)


async def test_a_server_that_never_confirms_is_given_up():
    async def say(socket: web.WebSocketResponse, request: dict[str, Any]) -> None:
        pass

    async with lying(say) as url, rpc([url]) as pool, listening(pool) as socket:
        await eventually(lambda: "did not confirm" in socket.figures.last_failure)


async def test_a_server_that_confirms_and_then_tells_nothing_is_given_up():
    async def say(socket: web.WebSocketResponse, request: dict[str, Any]) -> None:
        await socket.send_json(good(request))

    async with lying(say) as url, rpc([url]) as pool, listening(pool) as socket:
        await eventually(lambda: "told no slot" in socket.figures.last_failure)


async def test_what_nobody_asked_for_is_ignored():
    async def say(socket: web.WebSocketResponse, request: dict[str, Any]) -> None:
        await socket.send_json(good(request))
        for stranger in ({"id": [1], "result": 1}, {"id": 99, "result": 1}, {"method": "x"}, note(None, 77)):
            await socket.send_json(stranger)
        if request["method"] == "slotSubscribe":
            await socket.send_json({"params": {"subscription": request["id"], "result": {"slot": 5}}})

    async with lying(say) as url, rpc([url]) as pool, listening(pool) as socket:
        socket.want([A])
        await eventually(lambda: socket.subscribed([A]) and socket.slot == 5)
        assert socket.figures.failures == 0


async def test_a_server_that_takes_the_connection_and_says_nothing_is_given_up():
    async def nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    mute = await asyncio.start_server(nothing, "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    async with rpc([f"http://127.0.0.1:{port}"]) as pool, listening(pool) as socket:
        await eventually(lambda: "TimeoutError" in socket.figures.last_failure)
    mute.close()


async def test_no_server_no_websocket_and_a_key_in_the_address():
    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=403)

    async with (
        server(refuse) as url,
        rpc([url + "/s3cr3t", "http://127.0.0.1:1/s3cr3t"]) as pool,
        listening(pool) as socket,
    ):
        seen: set[str] = set()

        def both() -> bool:
            seen.add(socket.figures.last_failure)
            return len(seen) >= 3

        await eventually(both)
        assert not [failure for failure in seen if "s3cr3t" in failure]
