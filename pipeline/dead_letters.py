"""Dead letters: what was given up, what it was, and delivering it again to the one that gave it up.

The report (`metrics.dead_letter`) names stream and sequence; the original stays in its stream until that stream's age
or size limit takes it. A replay publishes the original bytes again on their subject, under a new message id and marked
for the consumer that gave it up: the others acknowledge it unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from nats.js.errors import NotFoundError

from pipeline.bus.delivery import REPLAY_FOR
from pipeline.errors import BadData, CheckFailed, UsageFailure
from pipeline.ids import payload_digest
from pipeline.messages import DeadLetter, InvalidMessage, Message, decode

if TYPE_CHECKING:
    from pipeline.bus import Bus, Stored

STREAM = "METRICS"
SUBJECT = "metrics.dead_letter"
REPLAY_OF = "Pipeline-Replay-Of"
_SHORTEST_PREFIX = 6


@dataclass(frozen=True, slots=True)
class Original:
    """The message that was given up, as its stream still holds it."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    stored_at: datetime | None
    message: Message | InvalidMessage
    """decoded, or why it cannot be"""


async def list_letters(bus: Bus) -> list[DeadLetter]:
    """Return every dead letter that METRICS still holds, oldest first."""
    found: list[DeadLetter] = []
    async for message, _ in bus.read(STREAM, SUBJECT):
        if isinstance(message, DeadLetter):
            found.append(message)
    return found


async def find_letter(bus: Bus, letter_id: str) -> DeadLetter:
    """Return the dead letter whose id begins with `letter_id`."""
    if len(letter_id) < _SHORTEST_PREFIX:
        raise UsageFailure(f"{letter_id!r} is too short", f"give at least {_SHORTEST_PREFIX} characters of the id")
    # The same message given up again later by the same consumer has the same id: the newest stands for all.
    found = {letter.id: letter for letter in await list_letters(bus) if letter.id.startswith(letter_id)}
    if not found:
        raise UsageFailure(f"no dead letter begins with {letter_id}", "`pipeline dead-letters list` shows them")
    if len(found) > 1:
        raise UsageFailure(f"{letter_id} stands for {len(found)} dead letters", "give more characters of the id")
    return next(iter(found.values()))


async def fetch_original(bus: Bus, letter: DeadLetter) -> Original:
    """Return the message that a dead letter is about; raise CheckFailed where its stream no longer holds it."""
    if not letter.stream_sequence:
        raise CheckFailed(
            f"{letter.consumer} met the message live, its place in {letter.stream} is not known",
            f"`pipeline tap {letter.subject}` shows what the stream holds",
        )
    try:
        stored = await bus.js.get_msg(letter.stream, seq=letter.stream_sequence)
    except NotFoundError as error:
        raise CheckFailed(
            f"{letter.stream} no longer holds message {letter.stream_sequence}",
            "it passed the stream's age or size limit; nothing can be done",
        ) from error
    payload = stored.data or b""
    if payload_digest(payload) != letter.digest:
        raise BadData(
            f"{letter.stream} holds another message at {letter.stream_sequence}",
            "the stream was made anew since; nothing can be done",
        )
    try:
        message: Message | InvalidMessage = decode(payload)
    except InvalidMessage as error:
        message = error
    return Original(stored.subject or letter.subject, payload, dict(stored.headers or {}), stored.time, message)


async def replay(bus: Bus, letter: DeadLetter) -> Stored:
    """Publish the original again for the consumer that gave it up; a repeat within the duplicate window is none."""
    original = await fetch_original(bus, letter)
    return await bus.publish_bytes(
        original.subject,
        original.payload,
        message_id=f"{letter.id}.replay",
        headers={REPLAY_FOR: letter.consumer, REPLAY_OF: letter.id},
    )
