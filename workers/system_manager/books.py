"""Where the books stand: the newest result in EXECUTED, and up to which sequence the auditor has booked everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nats.js.errors import NotFoundError

from pipeline.messages import ExecutionResult, InvalidMessage, Message, PnlSnapshot, decode

if TYPE_CHECKING:
    from nats.js import JetStreamContext

__all__ = ["Books", "look"]


@dataclass(frozen=True, slots=True)
class Books:
    """One look at the streams; 0 where there is nothing yet, or what is there cannot be read."""

    newest: int
    """sequence of the newest result in EXECUTED"""
    result_id: str
    booked: int
    """sequence of EXECUTED up to which everything is booked"""


async def look(js: JetStreamContext) -> Books:
    """Read the newest result and the newest P&L snapshot; raise NatsError where the server does not answer."""
    # In this order: a result that comes in between is not held against an older snapshot.
    sequence, result = await _newest(js, "EXECUTED", "executed.result")
    _, snapshot = await _newest(js, "METRICS", "metrics.pnl.*")
    return Books(
        newest=sequence if isinstance(result, ExecutionResult) else 0,
        result_id=result.id if isinstance(result, ExecutionResult) else "",
        booked=snapshot.stream_sequence if isinstance(snapshot, PnlSnapshot) else 0,
    )


async def _newest(js: JetStreamContext, stream: str, subject: str) -> tuple[int, Message | None]:
    try:
        found = await js.get_msg(stream, subject=subject, direct=False)
        return found.seq or 0, decode(found.data or b"")
    except (NotFoundError, InvalidMessage):
        return 0, None
