"""The anomalies that METRICS still holds, newest first, for whoever looks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from nats.js.errors import NotFoundError

from pipeline.bus import Bus
from pipeline.messages import Anomaly, enum_name

__all__ = ["Anomalies", "AnomalyRow", "read_anomalies"]

_SUBJECT = "metrics.anomaly.>"
_READ = 1000
_RECENT = 5


@dataclass(frozen=True, slots=True)
class AnomalyRow:
    """One anomaly."""

    at_ns: int
    """wall-clock time, ns"""
    severity: str
    rule: str
    producer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Anomalies:
    """How many there were in the last 24 h, by severity, the gravest first; and the last few."""

    total: int = 0
    by_severity: dict[str, int] = field(default_factory=dict)
    """of the newest 1,000"""
    recent: list[AnomalyRow] = field(default_factory=list)

    @property
    def described(self) -> str:
        """Return the counts in words."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.by_severity.items()) or "none"
        if self.total > _READ:
            return f"{self.total:,} in the last 24 h; of the newest {_READ:,} {counts}"
        return f"{counts} in the last 24 h"


async def read_anomalies(bus: Bus) -> Anomalies:
    """Return what METRICS holds; nothing where there is no such stream."""
    try:
        subjects = (await bus.js.stream_info("METRICS", subjects_filter=_SUBJECT)).state.subjects or {}
    except NotFoundError:
        return Anomalies()
    total = sum(subjects.values())
    if not total:
        return Anomalies()
    last = _READ if total > _READ else 0
    found = [message async for message, _ in bus.read("METRICS", _SUBJECT, last=last) if isinstance(message, Anomaly)]
    counts = Counter(message.severity for message in found)
    return Anomalies(
        total=total,
        by_severity={enum_name(severity): counts[severity] for severity in sorted(counts, reverse=True)},
        recent=[
            AnomalyRow(message.created_ns, enum_name(message.severity), message.rule, message.producer, message.detail)
            for message in found[: -_RECENT - 1 : -1]
        ],
    )
