"""One JSON-RPC call over HTTP: the answer, or a failure as its type. Nothing an endpoint sends is believed unread."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import aiohttp

from markets.solana.rpc.errors import (
    AttemptFailed,
    BadAnswer,
    Denied,
    RateLimited,
    RpcError,
    ServerFailed,
    TimedOut,
    Unreachable,
    failure_of,
)

Json = Any
"""What `json.loads` gives: checked by whoever reads it."""

MAX_ANSWER_BYTES = 128 * 1024 * 1024
"""Every account of a program's filter comes in one answer."""


async def post(
    session: aiohttp.ClientSession, url: str, host: str, method: str, params: Sequence[object], *, timeout_s: float
) -> Json:
    """Make one call and return its result.

    Raises:
        RpcError: named by the host alone. The library's own errors quote the URL, so none of them is passed on.
    """
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}, separators=(",", ":"))
    try:
        async with session.post(
            url,
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            allow_redirects=False,
        ) as response:
            text = await _read(response, host)
            status, headers = response.status, response.headers
    except AttemptFailed:
        raise
    except TimeoutError:
        failure: RpcError = TimedOut(host, f"did not answer {method} within {timeout_s:g} s")
    except aiohttp.ClientPayloadError:
        failure = BadAnswer(host, f"broke off its answer to {method}")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        failure = Unreachable(host, f"cannot be reached ({type(error).__name__})")
    else:
        return result_of(text, status, headers, host, method)
    raise failure


async def _read(response: aiohttp.ClientResponse, host: str) -> bytes:
    """Read a body that is not larger than any honest one."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise BadAnswer(host, f"sent more than {MAX_ANSWER_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def result_of(text: bytes, status: int, headers: Mapping[str, str], host: str, method: str) -> Json:
    """Return the result that an answer holds.

    Raises:
        RpcError: for everything else.
    """
    if status == 429:
        raise RateLimited(host, retry_after_s(headers.get("Retry-After")))
    if status in (401, 403):
        raise Denied(host, f"denies access to {method} (HTTP {status})")
    if status >= 500:
        raise ServerFailed(host, f"failed (HTTP {status})")
    try:
        answer = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        what = f"answered HTTP {status} to {method}" if status != 200 else f"answered {method} with something not JSON"
        raise BadAnswer(host, what) from None
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict) and isinstance(error.get("code"), int):
        raise failure_of(host, method, error["code"], str(error.get("message", "")))
    if status != 200:
        raise BadAnswer(host, f"answered HTTP {status} to {method}")
    if not isinstance(answer, dict) or "result" not in answer or answer.get("id") != 1:
        raise BadAnswer(host, f"answered {method} with something that is no JSON-RPC answer to it")
    return answer["result"]


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds of a Retry-After header, given as such or as a date; None where there is none to be read."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(min(int(header.strip()[:9]), 86_400))
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
