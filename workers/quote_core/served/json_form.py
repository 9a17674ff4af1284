"""Requests and answers as JSON, for people and for clients without FlatBuffers. Pure.

Integers that may not fit a double are texts in answers, and may be texts in requests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.messages import AskedPair, Message, PoolRequest, QuoteRequest, SubscribeRequest

MAX_PAIRS = 4096
WIDE = frozenset(
    {
        *("amount_in", "amount_out", "fee_amount", "oracle_amount_out", "route", "slot", "write_version", "sequence"),
        *("created_ns", "quoted_ns", "market_ns", "observed_ns", "confirmed_ns", "lease_ns"),
    }
)
_PAIR = {"pair": str, "token_in": str, "token_out": str, "amount": int, "reverse_amount": int}


class NotJson(ValueError):
    """A request that cannot be read; the message says what is wrong and what is allowed."""


def to_json(message: Message) -> bytes:
    """Return an answer as JSON; empty texts and lists are left out."""
    return json.dumps(_shown(message.to_dict()), separators=(",", ":")).encode()


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: str(inner) if name in WIDE else _shown(inner)
            for name, inner in value.items()
            # Quotes inside an answer carry no time of creation of their own.
            if inner not in ("", []) and (name, inner) not in (("problem", "NONE"), ("created_ns", 0))
        }
    return [_shown(inner) for inner in value] if isinstance(value, list) else value


def quote_request(payload: bytes) -> QuoteRequest:
    """Read `{"pair": "SOL/USDC", "amount": "1000000000"}`, or a list of such objects as `pairs`.

    Raises:
        NotJson: if it is something else.
    """
    given = _object(payload)
    fields = _typed(given, {"id": str, "paired": bool, "fresh_external": bool}, ("pairs", *_PAIR))
    return QuoteRequest(pairs=_pairs(given), **fields)


def pool_request(payload: bytes) -> PoolRequest:
    """Read `{"pool": "..."}`.

    Raises:
        NotJson: if it is something else.
    """
    return PoolRequest(**_typed(_object(payload), {"id": str, "pool": str}, ()))


def subscribe_request(payload: bytes) -> SubscribeRequest:
    """Read a request to begin, renew or end a subscription.

    Raises:
        NotJson: if it is something else.
    """
    given = _object(payload)
    known = {"id": str, "subscription": str, "paired": bool, "received": int, "snapshot": bool, "end": bool}
    return SubscribeRequest(pairs=_pairs(given), **_typed(given, known, ("pairs", *_PAIR)))


def _object(payload: bytes) -> dict[str, Any]:
    try:
        given = json.loads(payload)
    except (ValueError, RecursionError):
        raise NotJson("not JSON") from None
    if not isinstance(given, dict):
        raise NotJson("not a JSON object")
    return given


def _pairs(given: Mapping[str, Any]) -> list[AskedPair]:
    pairs = given.get("pairs", [])
    if not isinstance(pairs, list) or len(pairs) > MAX_PAIRS or not all(isinstance(pair, dict) for pair in pairs):
        raise NotJson(f'"pairs" is a list of at most {MAX_PAIRS} objects')
    alone = {name: given[name] for name in _PAIR if name in given}
    if alone and pairs:
        raise NotJson('give one pair, or "pairs"')
    return [AskedPair(**_typed(pair, _PAIR, ())) for pair in ([alone] if alone else pairs)]


def _typed(given: Mapping[str, Any], known: Mapping[str, type], others: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields that are known, each of its type."""
    unknown = sorted(set(given) - set(known) - set(others))
    if unknown:
        raise NotJson(f"unknown key {unknown[0][:64]!r}; known are {', '.join(sorted({*known, *others}))}")
    return {name: _READ[known[name]](name, value) for name, value in given.items() if name in known}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > 256:
        raise NotJson(f'"{name}" is a short text')
    return value


def _whole(name: str, value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 20:
        value = int(value)
    # `true` is an int to Python, and not to anybody else.
    if type(value) is not int or not 0 <= value < 2**64:
        raise NotJson(f'"{name}" is a whole number of base units, as a number or a text of digits')
    return value


def _truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise NotJson(f'"{name}" is true or false')
    return value


_READ: Mapping[type, Callable[[str, object], Any]] = {str: _text, int: _whole, bool: _truth}
