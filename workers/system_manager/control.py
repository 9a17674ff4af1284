"""The control endpoint: `POST /kill-switch`, `POST /resume`, `GET /state`, on loopback, for whoever holds the token."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from pipeline.messages import PermitState
from pipeline.permit.change import REASON_LENGTH, Latched, NotAllowedError, Person
from pipeline.permit.halting import HaltReport

__all__ = ["TOKEN_FILE", "Control", "application", "make_token", "switch_as_dict"]

TOKEN_FILE = "system-manager.token"
_MAX_BODY = 4096
_FIELDS = {"reason", "by"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control(Protocol):
    """What the endpoint can do: the system manager, as far as HTTP may touch it."""

    async def halt(self, person: Person, reason: str) -> HaltReport:
        """Halt all trading."""
        ...

    async def resume(self, person: Person, reason: str) -> Latched:
        """Lift a halt."""
        ...

    async def state(self) -> dict[str, Any]:
        """Describe the permit, the manager and the last changes."""
        ...


def make_token(directory: Path) -> str:
    """Make a token, and leave it in a file that the owner alone can read."""
    token = secrets.token_urlsafe(32)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / TOKEN_FILE
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(token)
    partial.replace(path)
    return token


def application(control: Control, token: str) -> web.Application:
    """Return the endpoint. Every request, `GET /state` included, needs `Authorization: Bearer TOKEN`."""
    if not token:
        raise ValueError("the control endpoint needs a token")
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def authorised(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, expected):
            return _problem(401, "a valid token is needed", {"WWW-Authenticate": "Bearer"})
        try:
            return await handler(request)
        except _OrderError as error:
            return _problem(400, str(error))
        except web.HTTPException as error:
            return _problem(error.status, error.reason)

    async def kill_switch(request: web.Request) -> web.StreamResponse:
        reason, person = await _order(request)
        report = await control.halt(person, reason)
        reached = {
            "shared_memory": report.word.trouble or "halted",
            "published": report.publish_trouble or f"epoch {report.published}",
            "latched": report.latch_trouble or "latched",
        }
        stopped = report.word.done or not report.publish_trouble
        return web.json_response({"state": "HALTED", "reached": reached}, status=200 if stopped else 500)

    async def resume(request: web.Request) -> web.StreamResponse:
        reason, person = await _order(request)
        try:
            latched = await control.resume(person, reason)
        except NotAllowedError as error:
            return _problem(409, str(error))
        except Exception as error:
            return _problem(503, f"not resumed, nothing was latched: {type(error).__name__}")
        return web.json_response(switch_as_dict(latched))

    async def state(_: web.Request) -> web.StreamResponse:
        return web.json_response(await control.state())

    app = web.Application(middlewares=[authorised], client_max_size=_MAX_BODY)
    app.router.add_post("/kill-switch", kill_switch)
    app.router.add_post("/resume", resume)
    app.router.add_get("/state", state)
    return app


def switch_as_dict(latched: Latched) -> dict[str, Any]:
    """Return a change of state as JSON."""
    switch = latched.switch
    return {
        "state": PermitState(latched.state).name,
        "epoch": latched.epoch,
        "by": switch.actor,
        "reason": switch.reason,
        "at_ns": switch.created_ns,
        "producer": switch.producer,
    }


class _OrderError(Exception):
    """A body that is no order."""


async def _order(request: web.Request) -> tuple[str, Person]:
    """Return reason and person of a request's body; raise _OrderError."""
    try:
        body = json.loads(await request.text())
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise _OrderError('the body must be JSON: {"by": "your name", "reason": "why"}') from None
    if not isinstance(body, dict) or set(body) != _FIELDS or not all(isinstance(body[name], str) for name in _FIELDS):
        raise _OrderError('the body must be {"by": "your name", "reason": "why"} and nothing else')
    reason = body["reason"].strip()
    if not reason or len(reason) > REASON_LENGTH:
        raise _OrderError(f"a reason of 1 to {REASON_LENGTH} characters is needed")
    try:
        return reason, Person(body["by"])
    except NotAllowedError as error:
        raise _OrderError(str(error)) from error


def _problem(status: int, what: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": what}, status=status, headers=headers)
