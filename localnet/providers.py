"""Simulated providers: real HTTP, the real APIs' shapes, quotes of the offline market's pools, and seeded faults.

A worker of its own, so that what is slow or broken here on purpose does not hold up the market. Nothing of it is a
real provider: the names that its quotes go by begin with `simulated-`.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from aiohttp import web

from localnet.provider_faults import LIES, Fault, Faults, deep, encoded, lie
from localnet.provider_quotes import Document, best_route, dflow, jupiter, raydium, unsplit
from markets.tokens import mint_problem
from pipeline import run_files
from pipeline._core import Pool
from pipeline.clock import wall_ns
from pipeline.context import WorkerContext
from pipeline.shm import POOLS, QUOTES_INTERNAL, PoolBlobTable, QuoteTable, SharedMemoryError

RUN_FILE = "simulated-providers"
"""Where the address is found: in the run directory, as a worker's is."""
SLOW_S = 0.3
DRIP_S = 0.02
LOOK_S = 0.5
TOO_LARGE = 4 << 20
# Path of each provider's quote below its own prefix, and the shape of its answer.
PATHS = {
    "jupiter_lite": "/swap/v1/quote",
    "jupiter_pro": "/swap/v1/quote",
    "dflow": "/quote",
    "raydium": "/compute/swap-base-in",
}


class Market(Protocol):
    """Where the pools come from."""

    def pools(self) -> Sequence[Pool]:
        """Return all pools as they are now."""

    def slot(self) -> int:
        """Return the present slot."""


class SharedMarket:
    """The pools that the quote core keeps in shared memory."""

    def __init__(self, directory: os.PathLike[str]) -> None:
        """Remember where; the files are opened when they are there."""
        self._directory = os.fspath(directory)
        self._table: QuoteTable | None = None
        self._blobs: PoolBlobTable | None = None
        self._held: dict[int, Pool] = {}

    def pools(self) -> Sequence[Pool]:
        """Return all pools as they are now; none while the files are not there."""
        if not self._open():
            return ()
        assert self._table is not None
        assert self._blobs is not None
        found = []
        for name in self._table.names("pool"):
            pool_id = self._table.id("pool", name)
            blob = None if pool_id is None else self._blobs.read(pool_id)
            if pool_id is None or blob is None:
                continue
            held = self._held.get(pool_id)
            if held is None or (held.slot, held.write_version) != (blob.slot, blob.write_version):
                held = self._held[pool_id] = Pool.from_snapshot(blob.data)
            found.append(held)
        return found

    def slot(self) -> int:
        """Return the slot of the newest commit."""
        return self._table.slot if self._open() and self._table is not None else 0

    def _open(self) -> bool:
        table, blobs = self._table, self._blobs
        if table is not None and blobs is not None and not (table.replaced or blobs.replaced):
            return True
        try:
            self._table = QuoteTable(f"{self._directory}/{QUOTES_INTERNAL}")
            self._blobs = PoolBlobTable(f"{self._directory}/{POOLS}")
        except SharedMemoryError:
            self._table = self._blobs = None
            return False
        self._held.clear()
        return True


class SimulatedProviders:
    """An HTTP server that answers as four providers would."""

    def __init__(self, market: Market, faults: Faults) -> None:
        """Prepare the routes."""
        self.market = market
        self.faults = faults
        self.requests: list[tuple[str, dict[str, str]]] = []
        """The newest requests: who was asked what."""
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Bind a port of this host and return the address; each provider has its name as prefix."""
        app = web.Application()
        for name, path in PATHS.items():
            app.router.add_get(f"/{name}{path}", self._handler(name))
        # A client that has given up ends the handler: those that never answer do not pile up.
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, reuse_address=True).start()
        self.url = f"http://{host}:{self._runner.addresses[0][1]}"
        return self.url

    async def stop(self) -> None:
        """Close the server."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _handler(self, name: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.requests.append((name, dict(request.query)))
            del self.requests[:-1000]
            return await self._answer(name, request)

        return handle

    async def _answer(self, name: str, request: web.Request) -> web.StreamResponse:
        fault = self.faults.next(name)
        if fault in _WITHOUT_A_QUOTE:
            return await _WITHOUT_A_QUOTE[fault](request)
        document = self._quote(name, request)
        if isinstance(document, web.Response):
            return document
        if fault in LIES:
            return _json(encoded(lie(fault, document)))
        body = encoded(document)
        match fault:
            case Fault.TRUNCATED:
                return _json(body[: len(body) // 2])
            case Fault.CONTENT_TYPE:
                return web.Response(body=body, content_type="text/html")
            case Fault.DRIP:
                return await _drip(request, body)
            case Fault.CUT:
                return await _cut(request, body)
            case Fault.SLOW:
                await asyncio.sleep(SLOW_S)
        return _json(body, request)

    def _quote(self, name: str, request: web.Request) -> Document | web.Response:
        query = request.query
        token_in, token_out = query.get("inputMint", ""), query.get("outputMint", "")
        if mint_problem(token_in) or mint_problem(token_out) or not query.get("amount", "").isdigit():
            return _json(encoded({"error": "bad request", "errorCode": "INVALID_REQUEST"}), status=400)
        pools = self.market.pools()
        dexes = frozenset(filter(None, query.get("dexes", "").split(",")))
        quoted = best_route(
            pools,
            token_in,
            token_out,
            int(query["amount"]),
            self.market.slot(),
            dexes=dexes,
            direct=query.get("onlyDirectRoutes") == "true",
        )
        slippage_bps = int(query.get("slippageBps", "50"))
        if name == "raydium":
            quoted = unsplit(quoted, pools)
            if quoted is None:
                return _json(encoded({"id": "simulated", "success": False, "version": "V1", "msg": "ROUTE_NOT_FOUND"}))
            return raydium(quoted, slippage_bps)
        if quoted is None and name == "dflow":
            return _json(encoded({"msg": "Route not found", "code": "route_not_found"}), status=400)
        if quoted is None:
            error = {"error": "Could not find any route", "errorCode": "COULD_NOT_FIND_ANY_ROUTE"}
            return _json(encoded(error), status=400)
        return dflow(quoted, slippage_bps) if name == "dflow" else jupiter(quoted, slippage_bps)


def _json(body: bytes, request: web.Request | None = None, *, status: int = 200) -> web.Response:
    response = web.Response(body=body, status=status, content_type="application/json")
    if request is not None:
        # As the real ones do where the client can unpack it.
        response.enable_compression()
    return response


async def _drip(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    for at in range(len(body)):
        await response.write(body[at : at + 1])
        await asyncio.sleep(DRIP_S)
    return response


async def _cut(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    _hang_up(request)
    return response


async def _lost(request: web.Request) -> web.StreamResponse:
    _hang_up(request)
    return web.Response()


async def _silent(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


async def _too_large(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"inputMint":"')
    for _ in range(TOO_LARGE >> 16):
        await response.write(b"A" * (1 << 16))
    return response


@functools.cache
def _packed_bomb() -> bytes:
    return gzip.compress(b'{"inputMint":"' + b"A" * TOO_LARGE + b'"}')


async def _gzip_bomb(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=_packed_bomb(), headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})


async def _bad_gzip(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"{}", headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})


async def _error_body(request: web.Request) -> web.StreamResponse:
    if "/raydium/" in request.path:
        return _json(encoded({"id": "simulated", "success": False, "version": "V1", "msg": "REQ_ERROR"}))
    return _json(encoded({"error": "internal error", "code": "internal", "errorCode": "INTERNAL"}))


async def _server_error(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="internal error")


async def _redirect(request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": str(request.url.origin())})


async def _rate_limited(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=429, headers={"Retry-After": "2"}, text="too many requests")


async def _deep(_request: web.Request) -> web.StreamResponse:
    return _json(deep())


_WITHOUT_A_QUOTE = {
    Fault.LOST: _lost,
    Fault.SILENT: _silent,
    Fault.TOO_LARGE: _too_large,
    Fault.GZIP_BOMB: _gzip_bomb,
    Fault.BAD_GZIP: _bad_gzip,
    Fault.ERROR_BODY: _error_body,
    Fault.SERVER_ERROR: _server_error,
    Fault.REDIRECT: _redirect,
    Fault.RATE_LIMITED: _rate_limited,
    Fault.DEEP: _deep,
}


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def run(context: WorkerContext) -> None:
    """Serve until told to stop."""
    settings = context.config.external.simulated
    faults = Faults(context.config.market.seed, settings.fault_ratio)
    server = SimulatedProviders(SharedMarket(context.config.shm_directory), faults)
    url = await server.start(settings.host, settings.port)
    run_files.write(context.config, run_files.RunFile(RUN_FILE, os.getpid(), wall_ns(), url, ready=True))
    context.log.info("simulated providers", url=url, fault_ratio=settings.fault_ratio)
    try:
        await context.stopping.wait()
    finally:
        run_files.remove(context.config, RUN_FILE)
        await server.stop()
