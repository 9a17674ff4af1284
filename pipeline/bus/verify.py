"""Whether a payload is a message, and the one its subject promises."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.messages import InvalidMessage, Message, decode
from pipeline.subjects import subject_of


class Unfit(NamedTuple):
    """Why a payload is no message for its subject; `reason` is a dead letter's."""

    reason: str
    detail: str


def verify(payload: bytes, subject: str) -> Message | Unfit:
    """Decode a payload and hold it to the subject it came on."""
    try:
        message = decode(payload)
        expected = subject_of(message)
    except InvalidMessage as error:
        return Unfit("invalid_message", str(error))
    except ValueError as error:  # a field that makes no subject
        return Unfit("invalid_message", str(error))
    if expected != subject:
        return Unfit("wrong_type", f"{type(message).__name__} belongs on {expected}, not on {subject}")
    return message
