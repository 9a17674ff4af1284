"""The one interface of all providers, and how bytes become values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from markets.providers.answer import U64_MAX, Answer, Ask, BadAnswer, Reason, Route

Amount = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,39})\Z")]
"""An integer in base units, as text. That it fits 64 bits is looked at later, to say so."""
Slot = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Bps = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
Share = Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,6}(\.[0-9]{1,60})?([eE]-[0-9]{1,2})?\Z")]
"""A ratio as decimal text."""
Took = Annotated[float, msgspec.Meta(ge=0, le=1e6)]

_Shape = TypeVar("_Shape")


@dataclass(frozen=True, slots=True)
class Request:
    """One GET request."""

    url: str
    params: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """May hold a key: never shown."""


class Provider(Protocol):
    """A public aggregator: how it is asked, and how its answers are read. Implementations hold no state."""

    @property
    def name(self) -> str:
        """Return the provider's name: a label of metrics, and part of a subject."""

    @property
    def host(self) -> str:
        """Return the host, which is all of the address that is ever shown."""

    @property
    def restricts(self) -> bool:
        """Tell whether it can be asked for the price along a known route alone."""

    def request(self, ask: Ask, along: Route | None = None) -> Request:
        """Return the request for a quote; with `along`, for the price of that route where the provider can do that."""

    def read(self, body: bytes, ask: Ask) -> Answer:
        """Return what an answer with status 200 says.

        Raises:
            BadAnswer: if it says nothing that can be read.
        """

    def refused(self, status: int, body: bytes) -> BadAnswer:
        """Return what an answer with another status means."""


def decode(body: bytes, shape: type[_Shape]) -> _Shape:
    """Read JSON strictly as a shape.

    Raises:
        BadAnswer: MALFORMED or SHAPE.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise BadAnswer(Reason.SHAPE, str(error)[:200]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(Reason.MALFORMED, str(error)[:200]) from None


def amount(text: str) -> int:
    """Return an amount of at most 64 bits.

    Raises:
        BadAnswer: HUGE.
    """
    value = int(text)
    if value > U64_MAX:
        raise BadAnswer(Reason.HUGE, f"{len(text)} digits")
    return value


def impact_bps(ratio: float) -> float:
    """Return a price impact in basis points; a negative one, a price that gets better, counts as none.

    Raises:
        BadAnswer: SHAPE, where it is more than everything.
    """
    if not ratio <= 1:
        raise BadAnswer(Reason.SHAPE, f"a price impact of {ratio}")
    return max(0.0, ratio * 10_000)


def host_of(url: str) -> str:
    """Return the host of an address, without port, path and credentials."""
    return urlsplit(url).hostname or ""
