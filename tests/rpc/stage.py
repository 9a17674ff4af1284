"""Simulated nodes over one small chain, and a server that answers whatever a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from localnet.chain_view import ChainAccount, ChainView, account_of
from localnet.rpc_node import Faults, RpcNode
from markets.solana.rpc.endpoint import EndpointSettings
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import PoolSettings

PROGRAM = "whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc"
A = "So11111111111111111111111111111111111111112"
B = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
C = "J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn"
QUICK = PoolSettings(
    timeout_s=0.4, deadline_s=2.0, backoff_s=0.01, hedge_min_s=0.03, breaker_open_s=0.2, breaker_failures=3
)


def small_chain(slot: int = 100) -> ChainView:
    chain = ChainView("small", {A: account_of(PROGRAM, b"a" * 10)})
    chain.advance(slot, 1_000, [(B, account_of(PROGRAM, b"b" * 20))])
    return chain


def write(chain: ChainView, data: bytes, address: str = B) -> None:
    written: list[tuple[str, ChainAccount | None]] = [(address, account_of(PROGRAM, data))]
    chain.advance(chain.newest.slot + 1, chain.newest.unix_time + 1, written)


def endpoint(url: str, **more: Any) -> EndpointSettings:
    return EndpointSettings(url, **({"rate_per_s": 1000.0, "burst": 100} | more))


@asynccontextmanager
async def nodes(chain: ChainView, *faults: Faults) -> AsyncIterator[tuple[list[RpcNode], list[str]]]:
    """Run one node per set of faults."""
    started = [RpcNode(chain, one, seed=number) for number, one in enumerate(faults)]
    try:
        yield started, [await node.start() for node in started]
    finally:
        for node in started:
            await node.stop()


@asynccontextmanager
async def rpc(urls: list[str], settings: PoolSettings = QUICK, **more: Any) -> AsyncIterator[RpcPool]:
    async with RpcPool([endpoint(url) for url in urls], settings, **more) as pool:
        yield pool


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    """Serve POST / with a function."""
    app = web.Application()
    app.router.add_post("/", handler)
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def saying(text: str, status: int = 200, **headers: str) -> Handler:
    """Return a handler that always says the same."""

    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, headers={key.replace("_", "-"): v for key, v in headers.items()})

    return handle


def result(value: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": value})


async def eventually(probe: Callable[[], object], within_s: float = 30.0, what: str = "") -> None:
    """Wait until something becomes true."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not probe():
        assert asyncio.get_running_loop().time() < deadline, what or "not in time"
        await asyncio.sleep(0.005)
