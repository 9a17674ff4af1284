"""The messages that workers exchange: immutable classes, their enumerations, and their way to bytes and back.

Classes and enumerations are derived from `schemas/`; `make schemas` rebuilds them. Build one with keyword arguments;
what is left out takes the schema's default. The wire is plain FlatBuffers. Decoding verifies the whole buffer before
it builds anything.
"""

from generated import messages as _derived
from generated.messages import *  # noqa: F403  the list of classes is derived too
from pipeline._core import INVALID_REASONS, MAX_MESSAGE_BYTES, InvalidMessage, decode

__all__ = ["INVALID_REASONS", "MAX_MESSAGE_BYTES", "InvalidMessage", "decode", "enum_name"]
__all__ += _derived.__all__


def enum_name(value: int) -> str:
    """Return the name of an enumeration's value; one that this version does not know keeps its number."""
    return str(getattr(value, "name", int(value)))
