"""One JSON-RPC call over HTTP: the answer, or a failure as its type. Nothing an endpoint sends is believed unread."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from markets.solana.rpc.errors import (
    BadAnswer,
    Denied,
    RateLimited,
    ServerFailed,
    failure_of,
)
from markets.solana.rpc.line import Answer, Lines

Json = Any
"""What `json.loads` gives: checked by whoever reads it."""


async def post(
    lines: Lines,
    method: str,
    params: Sequence[object],
    *,
    timeout_s: float,
    may: Callable[[], bool] | None = None,
) -> Json:
    """Make one call and return its result; `may` is asked in the moment of writing.

    Raises:
        RpcError: named by the host alone.
    """
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}, separators=(",", ":"))
    answer = await lines.post(body.encode(), timeout_s=timeout_s, may=may)
    return result_of(answer, lines.host, method)


def result_of(answer: Answer, host: str, method: str) -> Json:
    """Return the result that an answer holds.

    Raises:
        RpcError: for everything else.
    """
    status = answer.status
    if status == 429:
        raise RateLimited(host, retry_after_s(answer.headers.get("retry-after")))
    if status in (401, 403):
        raise Denied(host, f"denies access to {method} (HTTP {status})")
    if status >= 500:
        raise ServerFailed(host, f"failed (HTTP {status})")
    try:
        told = json.loads(answer.body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        what = f"answered HTTP {status} to {method}" if status != 200 else f"answered {method} with something not JSON"
        raise BadAnswer(host, what) from None
    error = told.get("error") if isinstance(told, dict) else None
    if isinstance(error, dict) and isinstance(error.get("code"), int):
        raise failure_of(host, method, error["code"], str(error.get("message", "")))
    if status != 200:
        raise BadAnswer(host, f"answered HTTP {status} to {method}")
    if not isinstance(told, dict) or "result" not in told or told.get("id") != 1:
        raise BadAnswer(host, f"answered {method} with something that is no JSON-RPC answer to it")
    return told["result"]


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds of a Retry-After header, given as such or as a date; None where there is none to be read."""
    if header is None:
        return None
    told = header.strip()
    if told.isascii() and told.isdigit():  # other scripts have digits too, which no number is made of
        return float(min(int(told[:9]), 86_400))
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
