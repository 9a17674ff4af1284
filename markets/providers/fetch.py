"""The network side: one GET with a deadline over everything, a limit on every size, and no trust in what comes."""

from __future__ import annotations

import asyncio
import time
import zlib
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp

from markets.providers.answer import BadAnswer, Reason
from markets.providers.provider import Request

MAX_BODY = 128 * 1024
"""Bytes of one answer, both on the wire and unpacked. The largest recorded answer has 1.5 KiB."""
_CHUNK = 16 * 1024
_MAX_RETRY_AFTER_S = 3600.0


@dataclass(slots=True)
class Exchange:
    """What is noted of one request, also where it fails."""

    sent_ns: int | None = None
    """Monotonic time at which the request was on its way; None where it never was."""
    wire_bytes: int = 0
    """Bytes of the body that came."""


@dataclass(frozen=True, slots=True)
class Body:
    """A whole answer."""

    status: int
    data: bytes


class Fetcher:
    """One HTTP session for all providers. Use as an async context manager."""

    def __init__(self, *, max_body: int = MAX_BODY) -> None:
        """Prepare; the session opens with the context."""
        self._max_body = max_body
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fetcher:
        """Open the session."""
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_sent)
        self._session = aiohttp.ClientSession(
            trace_configs=[trace],
            # Unpacked here, with a limit.
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "pipeline"},
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=16, ttl_dns_cache=300),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def get(self, request: Request, timeout_s: float, exchange: Exchange) -> Body:
        """Return the body of an answer; `exchange` is filled in as it goes.

        Raises:
            BadAnswer: if none comes whole, in time and within the limits.
        """
        assert self._session is not None, "the session is open inside the context"
        try:
            # Over everything: connecting, waiting and a body that comes byte by byte.
            async with asyncio.timeout(timeout_s):
                async with self._session.get(
                    request.url,
                    params=request.params,
                    headers=request.headers,
                    allow_redirects=False,
                    trace_request_ctx=exchange,
                ) as response:
                    return await self._read(response, exchange)
        except TimeoutError:
            raise BadAnswer(Reason.TIMEOUT, f"nothing whole within {timeout_s:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise BadAnswer(Reason.UNREACHABLE, type(error).__name__) from None
        # The text of these may hold the address: only their kind is kept.
        except aiohttp.ClientPayloadError as error:
            raise BadAnswer(Reason.LOST, type(error).__name__) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise BadAnswer(Reason.LOST, type(error).__name__) from None

    async def _read(self, response: aiohttp.ClientResponse, exchange: Exchange) -> Body:
        if 300 <= response.status < 400:
            raise BadAnswer(Reason.REDIRECT, str(response.status))
        if response.status == 429:
            after = _seconds(response.headers.get("Retry-After", ""))
            raise BadAnswer(Reason.RATE_LIMITED, "429", retry_after_s=after)
        if response.status == 200 and response.content_type != "application/json":
            raise BadAnswer(Reason.CONTENT_TYPE, response.content_type[:60])
        raw = bytearray()
        while chunk := await response.content.read(_CHUNK):
            exchange.wire_bytes += len(chunk)
            raw += chunk
            if len(raw) > self._max_body:
                raise BadAnswer(Reason.TOO_LARGE, f"over {self._max_body} bytes")
        return Body(response.status, self._unpacked(bytes(raw), response.headers.get("Content-Encoding", "")))

    def _unpacked(self, raw: bytes, encoding: str) -> bytes:
        if encoding.lower() in ("", "identity"):
            return raw
        if encoding.lower() != "gzip":
            raise BadAnswer(Reason.ENCODING, encoding[:20])
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            data = unpacker.decompress(raw, self._max_body + 1)
        except zlib.error:
            raise BadAnswer(Reason.ENCODING, "no gzip") from None
        if len(data) > self._max_body:
            raise BadAnswer(Reason.TOO_LARGE, f"over {self._max_body} bytes unpacked")
        if not unpacker.eof:
            raise BadAnswer(Reason.ENCODING, "cut off")
        return data


async def _note_sent(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    exchange = context.trace_request_ctx
    assert isinstance(exchange, Exchange)
    exchange.sent_ns = time.monotonic_ns()


def _seconds(text: str) -> float:
    """Return a Retry-After in seconds; 0 for a date or for nonsense."""
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return min(seconds, _MAX_RETRY_AFTER_S) if seconds > 0 else 0.0
