"""Types of the native core. One section per part; the message classes stand in `generated/messages.pyi`."""

from typing import Final

# --- codec
from generated.messages import Buffer, Message

INVALID_REASONS: Final[list[str]]
MAX_MESSAGE_BYTES: Final[int]

class InvalidMessage(ValueError):
    """A buffer that is not a whole, well-formed message, or an object that can not be written as one."""

    def __init__(self, reason: str, detail: str = "") -> None: ...
    @property
    def reason(self) -> str:
        """Stable name of the cause."""
    @property
    def detail(self) -> str: ...

def decode(buf: Buffer, /) -> Message:
    """Verify a FlatBuffer and return its message, whichever its identifier names."""
