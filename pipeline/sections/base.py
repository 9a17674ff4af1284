"""What every section of the configuration is made of: the base class, and the types of its values."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _address(text: str) -> str:
    """Refuse what cannot be 32 bytes in base58; whether it is, those know who use it."""
    if re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{32,44}", text) is None:
        raise ValueError("must be an address in base58, 32 to 44 characters")
    return text


Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Bps = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]
# Lamports or units as the chain counts them: 64 bits.
Amount = Annotated[int, Field(ge=0, lt=2**64)]
Address = Annotated[str, AfterValidator(_address)]
AddressOrNone = Annotated[str, AfterValidator(lambda text: text and _address(text))]
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
