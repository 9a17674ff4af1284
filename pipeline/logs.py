"""Structured logs: one JSON object per line on standard output, with ids, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from pipeline.config import Config, secrets_of
from pipeline.redact import HIDDEN, hide_password

Log = structlog.typing.FilteringBoundLogger
_SECRET_KEY = re.compile(r"token|password|secret|authorization|credential|private_key|seed_phrase", re.IGNORECASE)
# These hold several secrets side by side, of which a key may be a JSON array: each is hidden on its own too.
_SEVERAL = ("RPC__ENDPOINTS", "WALLETS__KEYS")
_ONE_OF_SEVERAL = re.compile(r"\[[^\]]*\]|[^\s,\[]+")
# Mints are called tokens here, and are no secret.
_HARMLESS = frozenset({"token", "token_in", "token_out", "tokens"})
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(config: Config, *, worker: str, stream: TextIO | None = None) -> Log:
    """Set up logging of this process and return its log, bound to the worker's name."""
    out = stream or sys.stdout
    level = _LEVELS[config.telemetry.log_level]
    json_lines = config.telemetry.log_format == "json"
    given = secrets_of(config)
    several = [_ONE_OF_SEVERAL.findall(value) for key, value in given.items() if key.endswith(_SEVERAL)]
    words = {*given.values(), *(word for found in several for word in found)}
    secrets = tuple(sorted((word for word in words if len(word) >= 6), key=len, reverse=True))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _Redact(secrets),
            structlog.processors.JSONRenderer(default=str)
            if json_lines
            else structlog.dev.ConsoleRenderer(colors=out.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    log: Log = structlog.get_logger().bind(worker=worker)
    root = logging.getLogger()
    root.handlers = [_Forward(log)]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("pipeline").setLevel(level)
    # Reconnects are reported by the worker, with what they mean; the client's own lines only repeat them.
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
    return log


class _Redact:
    """Hide secrets by the name of their key, by their value, and passwords inside addresses."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = secrets

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if _SECRET_KEY.search(key) and key not in _HARMLESS:
                event[key] = HIDDEN
            elif not isinstance(value, int | float | None):
                event[key] = self._clean(value)
        return event

    def _clean(self, value: object) -> object:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, HIDDEN)
            return hide_password(value)
        if isinstance(value, dict):
            return {
                key: HIDDEN if _SECRET_KEY.search(str(key)) and key not in _HARMLESS else self._clean(inner)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._clean(item) for item in value]
        return value if isinstance(value, int | float | None) else self._clean(str(value))


class _Forward(logging.Handler):
    """Carry the standard library's log records of other packages into ours."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower() if record.levelname.lower() in _LEVELS else "error"
        getattr(self._log, level)(record.getMessage(), logger=record.name, exc_info=record.exc_info)
