"""The block engine: bundles, what became of them, and what others tip.

Shapes and paths: Jito's public documentation of its block engine (https://docs.jito.wtf). The address and the token
that it may ask for are shown nowhere; the host stands for them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from markets.limits import TokenBucket
from markets.solana.rpc.accounts import Malformed, context_slot
from markets.solana.rpc.errors import AttemptFailed, BadAnswer, RateLimited
from markets.solana.rpc.line import Answer, Line, Lines
from markets.solana.rpc.transport import result_of
from markets.tokens import LAMPORTS_PER_SOL

PATH = "/api/v1/bundles"
FLOOR_PATH = PATH + "/tip_floor"
MAX_STATUSES = 5
"""Bundles that one call may ask about."""

_HOLD_S, _HOLD_MAX_S = 1.0, 10.0
"""For how long nothing is sent where the engine limits the rate and does not say for how long, and at most."""

BundleState = Literal["Pending", "Failed", "Landed", "Invalid"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the block engine is reached."""

    url: str = field(repr=False)
    tip_floor_url: str = field(default="", repr=False)
    auth: str = field(default="", repr=False)
    timeout_s: float = 1.0


class BlockEngine:
    """One block engine. Use it as an async context manager: it owns its connections."""

    def __init__(self, settings: EngineSettings, bucket: TokenBucket | None = None) -> None:
        """`bucket` limits the calls; None where nobody asks for that."""
        headers = {"x-jito-auth": settings.auth} if settings.auth else {}
        self.settings = settings
        self.lines = Lines(settings.url, PATH, headers=headers, spare=4)
        self.host = self.lines.host
        told_at = settings.tip_floor_url
        self._floor_lines = Lines(told_at, method="GET", spare=1) if told_at else None
        self._bucket = bucket
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> BlockEngine:
        """Keep connections ready."""
        self._keeping = asyncio.create_task(self.lines.keep(0.25))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything."""
        if self._keeping is not None:
            self._keeping.cancel()
        self.lines.close()
        if self._floor_lines is not None:
            self._floor_lines.close()

    def may_send(self) -> bool:
        """Take the right to send one bundle, if the rate allows it now."""
        return self._bucket is None or self._bucket.take()

    async def take(self) -> Line:
        """Return a connection that a bundle can be written to.

        Raises:
            AttemptFailed: if there is none.
        """
        return await self.lines.take()

    def sent(self, answer: Answer) -> str:
        """Return the bundle's id from the answer to sendBundle.

        Raises:
            RpcError: if it was not taken.
        """
        result = self._result(answer, "sendBundle")
        if not isinstance(result, str) or not 1 <= len(result) <= 128:
            raise BadAnswer(self.host, "answered sendBundle with something that is no bundle id")
        return result

    async def states(self, bundles: Sequence[str]) -> tuple[int, dict[str, BundleState]]:
        """Return what the engine tells of some bundles, as far as the rate allows to ask, and its newest slot then.

        Raises:
            RpcError: if it does not answer.
        """
        found: dict[str, BundleState] = {}
        slot = 0
        for start in range(0, len(bundles), MAX_STATUSES):
            # Sending comes first: asking leaves half of the burst to it.
            if self._bucket is not None and not (self._bucket.roomy and self._bucket.take()):
                break
            body = _request("getInflightBundleStatuses", [list(bundles[start : start + MAX_STATUSES])])
            answer = await self.lines.post(body, timeout_s=self.settings.timeout_s)
            result = self._result(answer, "getInflightBundleStatuses")
            found |= self._states(result)
            slot = max(slot, self._slot(result))
        return slot, found

    async def tip_floor(self, percentile: int) -> int:
        """Return what bundles that landed lately paid at a percentile, lamports; 0 where nobody tells.

        Raises:
            AttemptFailed: if the endpoint does not answer as it should.
        """
        if self._floor_lines is None:
            return 0
        answer = await self._floor_lines.post(b"", timeout_s=self.settings.timeout_s)
        if answer.status != 200:
            raise BadAnswer(self.host, f"answered HTTP {answer.status} for the tip floor")
        return floor_of(answer.body, percentile, self.host)

    def _result(self, answer: Answer, method: str) -> Any:
        """Return an answer's result; where the engine limits the rate, nothing more is sent for so long."""
        try:
            return result_of(answer, self.host, method)
        except RateLimited as limited:
            if self._bucket is not None:
                asked_s = _HOLD_S if limited.retry_after_s is None else limited.retry_after_s
                self._bucket.hold(min(asked_s, _HOLD_MAX_S))
            raise

    def _slot(self, result: Any) -> int:
        try:
            return context_slot(result) if result is not None else 0
        except Malformed as error:
            raise BadAnswer(self.host, f"told bundle statuses wrongly: {error}") from None

    def _states(self, result: Any) -> dict[str, BundleState]:
        values = result.get("value") if isinstance(result, dict) else None
        if values is None:
            return {}
        if not isinstance(values, list):
            raise BadAnswer(self.host, "told bundle statuses in another form")
        found: dict[str, BundleState] = {}
        for value in values:
            if isinstance(value, dict) and isinstance(value.get("bundle_id"), str):
                state = value.get("status")
                if state in ("Pending", "Failed", "Landed", "Invalid"):
                    found[value["bundle_id"]] = state
        return found


def bundle_request(transactions: Sequence[bytes]) -> bytes:
    """Return the body of a sendBundle call."""
    encoded = [base64.b64encode(raw).decode() for raw in transactions]
    return _request("sendBundle", [encoded, {"encoding": "base64"}])


def bundle_id(signatures: Sequence[str]) -> str:
    """Return the id that a block engine gives a bundle: SHA-256 over its signatures."""
    return hashlib.sha256(",".join(signatures).encode()).hexdigest()


def floor_of(text: bytes, percentile: int, host: str) -> int:
    """Return the tip at a percentile from the tip floor endpoint's answer, lamports rounded up.

    Raises:
        AttemptFailed: if it is not such an answer.
    """
    try:
        told = json.loads(text, parse_float=Decimal, parse_int=Decimal)
        value = told[0][f"landed_tips_{percentile}th_percentile"]
        lamports = int((value * LAMPORTS_PER_SOL).to_integral_value(rounding="ROUND_CEILING"))
    except (ValueError, LookupError, TypeError, AttributeError, InvalidOperation, RecursionError):
        raise BadAnswer(host, "told the tip floor in another form") from None
    if not 0 <= lamports < 1 << 63:
        raise BadAnswer(host, "told an impossible tip floor")
    return lamports


def _request(method: str, params: list[object]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, separators=(",", ":")).encode()


__all__ = ["AttemptFailed", "BlockEngine", "BundleState", "EngineSettings", "bundle_id", "bundle_request", "floor_of"]
