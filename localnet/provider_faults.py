"""How the simulated providers lie and fail: seeded, and switchable one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from localnet.draws import Draws
from localnet.provider_quotes import Document
from markets.tokens import USDC_MINT

OTHER_MINT = "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB"
OUTAGE_REQUESTS = 12
"""A provider that is down stays so for so many requests."""


class Fault(StrEnum):
    """One way to fail."""

    # Lies
    WRONG_MINT = "wrong_mint"
    WRONG_AMOUNT = "wrong_amount"
    ZERO = "zero"
    ABSURD_PRICE = "absurd_price"
    BAD_SPLITS = "bad_splits"
    NO_STEPS = "no_steps"
    DISCONNECTED = "disconnected"
    LOW_MINIMUM = "low_minimum"
    HUGE_NUMBER = "huge_number"
    FLOAT_AMOUNT = "float_amount"
    MISSING_FIELD = "missing_field"
    STALE = "stale"
    FUTURE = "future"
    # Broken answers
    TRUNCATED = "truncated"
    DEEP = "deep"
    ERROR_BODY = "error_body"
    CONTENT_TYPE = "content_type"
    TOO_LARGE = "too_large"
    GZIP_BOMB = "gzip_bomb"
    BAD_GZIP = "bad_gzip"
    SERVER_ERROR = "server_error"
    REDIRECT = "redirect"
    RATE_LIMITED = "rate_limited"
    # Answers that do not come
    SILENT = "silent"
    DRIP = "drip"
    LOST = "lost"
    CUT = "cut"
    """The connection ends in the middle of the body."""
    # No fault of the answer
    SLOW = "slow"
    """The answer is right, and late, within the time that is allowed."""


LIES = tuple(Fault)[: tuple(Fault).index(Fault.FUTURE) + 1]


@dataclass(slots=True)
class Faults:
    """Which fault a request meets.

    `only` switches faults on by hand, for tests: every request of that provider then fails so. Else a share of
    `ratio` of a provider's answers is wrong, each in a way of its own, and now and then a provider is down for a while.
    """

    seed: int = 0
    ratio: float = 0.0
    only: dict[str, Fault] = field(default_factory=dict)
    kinds: tuple[Fault, ...] = tuple(Fault)
    _requests: dict[str, int] = field(default_factory=dict)

    def next(self, provider: str) -> Fault | None:
        """Return the fault of a provider's next request."""
        index = self._requests[provider] = self._requests.get(provider, -1) + 1
        if provider in self.only:
            return self.only[provider]
        if self.ratio <= 0:
            return None
        millionths = int(self.ratio * 1_000_000)
        outage = Draws(self.seed, "outage", provider, index // OUTAGE_REQUESTS)
        if outage.chance(millionths // 2):
            return Fault.SILENT if outage.chance(500_000) else Fault.SERVER_ERROR
        draws = Draws(self.seed, "fault", provider, index)
        if not draws.chance(millionths):
            return None
        return self.kinds[draws.between(0, len(self.kinds) - 1)]


def lie(fault: Fault, document: Document) -> Document:
    """Return an answer with a lie in it. The shapes name the same things differently."""
    body = document.get("data", document)
    changed = dict(body)
    match fault:
        case Fault.WRONG_MINT:
            wrong = OTHER_MINT if body["outputMint"] == USDC_MINT else USDC_MINT
            changed["outputMint"] = wrong
        case Fault.WRONG_AMOUNT:
            _each(changed, ("inAmount", "inputAmount"), lambda value: str(int(value) // 2))
        case Fault.ZERO:
            _each(changed, ("outAmount", "outputAmount", "otherAmountThreshold", "minOutAmount"), lambda _: "0")
        case Fault.ABSURD_PRICE:
            _each(changed, ("outAmount", "outputAmount"), lambda value: str(int(value) * 3))
            out = int(changed.get("outAmount") or changed["outputAmount"])
            least = str(out * (10_000 - body["slippageBps"]) // 10_000)
            _each(changed, ("otherAmountThreshold", "minOutAmount"), lambda _: least)
            changed["routePlan"] = [_tripled(step) for step in body["routePlan"]]
        case Fault.BAD_SPLITS:
            # Shapes that name no shares say it by a part of the amount, or by a pool that stands there twice.
            changed["routePlan"] = _split_badly(body["routePlan"])
        case Fault.NO_STEPS:
            changed["routePlan"] = []
        case Fault.DISCONNECTED:
            changed["routePlan"] = [_elsewhere(step) for step in body["routePlan"]]
        case Fault.LOW_MINIMUM:
            _each(changed, ("otherAmountThreshold", "minOutAmount"), lambda value: str(int(value) // 2 + 1))
        case Fault.HUGE_NUMBER:
            _each(changed, ("outAmount", "outputAmount"), lambda _: "9" * 39)
        case Fault.FLOAT_AMOUNT:
            _each(changed, ("outAmount", "outputAmount"), float)
        case Fault.MISSING_FIELD:
            changed.pop("routePlan")
        case Fault.STALE:
            _each(changed, ("contextSlot",), lambda value: max(1, value - 10_000))
        case Fault.FUTURE:
            _each(changed, ("contextSlot",), lambda value: value + 10_000)
        case _:
            raise ValueError(f"{fault} is no lie")
    return {**document, "data": changed} if "data" in document else changed


def deep() -> bytes:
    """Return JSON that is nested deeper than a reader's stack."""
    return b'{"other":' + b"[" * 60_000 + b"]" * 60_000 + b"}"


def encoded(document: Document) -> bytes:
    """Return an answer's bytes."""
    return json.dumps(document, separators=(",", ":")).encode()


def _each(document: Document, names: Iterable[str], change: Callable[[Any], object]) -> None:
    for name in names:
        if name in document:
            document[name] = change(document[name])


def _tripled(step: Document) -> Document:
    if "swapInfo" in step:
        return {**step, "swapInfo": _tripled(step["swapInfo"])}
    return {**step, "outAmount": str(int(step["outAmount"]) * 3)} if "outAmount" in step else step


def _elsewhere(step: Document) -> Document:
    if "swapInfo" in step:
        return {**step, "swapInfo": _elsewhere(step["swapInfo"])}
    return {**step, "outputMint": OTHER_MINT}


def _split_badly(steps: list[Document]) -> list[Document]:
    first, *others = steps
    if "swapInfo" in first:
        return [{**first, "percent": first["percent"] - 1, "bps": first["bps"] - 100}, *others]
    if "inAmount" in first:
        return [{**first, "inAmount": str(int(first["inAmount"]) * 9 // 10)}, *others]
    return [first, first, *others]
