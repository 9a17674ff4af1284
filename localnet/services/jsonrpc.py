"""JSON-RPC 2.0: requests and batches read, answers written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from localnet.services.errors import MethodError, invalid, invalid_request, parse_error

Call = Callable[[str, Sequence[object]], object]
"""Runs a method on its parameters, or raises `MethodError`."""
Answer = dict[str, object]

_log = structlog.get_logger()


def respond(body: bytes, call: Call) -> Answer | list[Answer] | None:
    """Return what a request or a batch is answered with; None where no answer is wanted."""
    try:
        request = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return failed(parse_error(), None)
    if not isinstance(request, list):
        return _respond(request, call)
    if not request:
        return failed(invalid_request(), None)
    answers = [answer for one in request if (answer := _respond(one, call)) is not None]
    return answers or None


def encoded(answer: object) -> bytes:
    """Return an answer as JSON."""
    return msgspec.json.encode(answer)


def failed(error: MethodError, id_: object) -> Answer:
    """Return the answer of a call that failed."""
    return {"jsonrpc": "2.0", "error": error.body(), "id": id_}


def _respond(request: Any, call: Call) -> Answer | None:
    if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
        return failed(invalid_request(), None)
    id_, method, params = request.get("id"), request.get("method"), request.get("params")
    if not isinstance(method, str) or not _is_id(id_):
        return failed(invalid_request(), id_ if _is_id(id_) else None)
    try:
        if params is not None and not isinstance(params, list):
            raise invalid("Invalid params: expected an array of parameters.")
        answer: Answer = {"jsonrpc": "2.0", "result": call(method, params or []), "id": id_}
    except MethodError as error:
        answer = failed(error, id_)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic in a Rust library is no Exception
        _log.exception("a method of the simulated node failed", method=method[:64])
        answer = failed(MethodError(-32603, "Internal error"), id_)
    # A request without an id asks for no answer.
    return answer if "id" in request else None


def _is_id(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return value is None or isinstance(value, str) or (isinstance(value, int) and -(2**63) <= value < 2**64)
