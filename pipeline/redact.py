"""Hide what must not be shown."""

from __future__ import annotations

import re

HIDDEN = "********"


def hide_password(text: str) -> str:
    """Replace user information inside addresses (`nats://user:word@host`)."""
    return re.sub(r"(?<=://)[^/@\s]+(?=@)", HIDDEN, text)
