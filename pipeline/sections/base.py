"""What every section of the configuration is made of: the base class, and the types of its values."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Bps = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]
# 32 bytes in hex, as Pyth names its feeds.
FeedId = Annotated[str, Field(pattern=r"^(0x)?[0-9a-fA-F]{64}$")]
# One token of a NATS subject and a safe file name at once.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]


class Section(BaseModel):
    """Base of every section: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def is_loopback(host: str) -> bool:
    """Tell whether an address is one of this host alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
