"""Which subject a message is published on, and which stream holds a subject."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pipeline.streams import STREAMS, spec_of

_TOKEN = re.compile(r"[^\s.*>\x00-\x1f\x7f]{1,128}")


def _token(value: str) -> str:
    """Return a value as one token of a subject; refuse what would change the subject's meaning."""
    if _TOKEN.fullmatch(value) is None:
        raise ValueError(f"{value!r} cannot stand in a subject: one to 128 characters, no space, '.', '*' or '>'")
    return value


def _pool_state(message: Any) -> str:
    return f"market_data.{'pool' if message.complete else 'pool_change'}.{_token(message.pool)}"


def _quote(message: Any) -> str:
    # A quote of an external provider goes through several pools: it is known by who gave it.
    if message.pool:
        return f"market_data.quote.{_token(message.pool)}"
    return f"market_data.external_quote.{_token(message.provider)}"


# Message class -> its subject, or what makes the subject from the message.
_SUBJECTS: dict[str, str | Callable[[Any], str]] = {
    "Opportunity": "opportunity.found",
    "ExecutionPlan": "planned.plan",
    "PlanRefusal": "planned.refusal",
    "ExecutionResult": "executed.result",
    "ExecutionSubmitted": "executed.submitted",
    "Quote": _quote,
    "PoolState": _pool_state,
    "PoolQuotes": lambda message: f"market_data.pool_quotes.{_token(message.pool)}",
    "QuotesSettled": "market_data.settled",
    "OraclePrice": lambda message: f"market_data.oracle.{_token(message.token)}",
    "SlotUpdate": "market_data.slot",
    "WorkerHealth": lambda message: f"metrics.health.{_token(message.worker)}",
    "ScanReport": "metrics.scan",
    "PnlSnapshot": lambda message: f"metrics.pnl.{_token(message.token)}",
    "Reconciliation": lambda message: f"metrics.reconciliation.{_token(message.token)}",
    "Anomaly": lambda message: f"metrics.anomaly.{_token(message.rule)}",
    "DeadLetter": "metrics.dead_letter",
    "KillSwitch": "system.kill_switch",
    "Permit": "system.permit",
    "Command": lambda message: f"system.command.{'all' if message.target == '*' else _token(message.target)}",
}

_STREAM_OF_PREFIX = {spec.subjects[0].removesuffix(">"): spec.name for spec in STREAMS}


def subject_of(message: object) -> str:
    """Return the subject a message is published on."""
    rule = _SUBJECTS.get(type(message).__name__)
    if rule is None:
        raise TypeError(f"{type(message).__name__} is not a message with a subject; known: {', '.join(_SUBJECTS)}")
    return rule if isinstance(rule, str) else rule(message)


def stream_of(subject: str) -> str:
    """Return the stream that holds a subject of ours (a pattern counts too)."""
    stream = _STREAM_OF_PREFIX.get(subject.split(".", 1)[0] + ".")
    if stream is None:
        raise ValueError(f"no stream holds subject {subject!r}; they begin with {', '.join(sorted(_STREAM_OF_PREFIX))}")
    return stream


def commit_subject(stream: str) -> str:
    """Return the subject on which batches of a stream are ended; nothing is stored there."""
    return spec_of(stream).subjects[0].removesuffix(">") + "commit"
