"""What all providers have in common, and how bytes become values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, TypeVar
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


@dataclass(frozen=True, slots=True)
class Provider(ABC):
    """A public aggregator: how it is asked, and how its answers are read. It holds no state.

    All of them take a GET request with the same four parameters; a subclass says what is its own.
    """

    name: str
    """A label of metrics, and part of a subject."""
    url: str
    api_key: str = field(default="", repr=False)

    path: ClassVar[str]
    """Of the quote, below the address."""
    restricts: ClassVar[bool] = True
    """Whether it can be asked for the price along a known route alone."""
    also: ClassVar[Mapping[str, str]] = {}
    """Parameters beside the four."""
    no_route: ClassVar[frozenset[str]]
    """What it calls a pair that it has no route for."""

    @property
    def host(self) -> str:
        """Return the host, which is all of the address that is ever shown."""
        return urlsplit(self.url).hostname or ""

    def request(self, ask: Ask, along: Route | None = None) -> Request:
        """Return the request for a quote; with `along`, for the price of that route where the provider can do that."""
        params = {
            "inputMint": ask.token_in,
            "outputMint": ask.token_out,
            "amount": str(ask.amount_in),
            "slippageBps": str(ask.slippage_bps),
            **self.also,
        }
        if self.restricts:
            params |= restriction(along)
        return Request(self.url + self.path, params, {"x-api-key": self.api_key} if self.api_key else {})

    def read(self, body: bytes, ask: Ask) -> Answer:
        """Return what an answer with status 200 says.

        Raises:
            BadAnswer: if it says nothing that can be read.
        """
        if (error := self._error(body)) is not None:
            raise error
        return self._read(body, ask)

    def refused(self, status: int, body: bytes) -> BadAnswer:
        """Return what an answer with another status means: 400 may say that there is no route."""
        error = self._error(body) if status == 400 else None
        if error is not None and error.reason is Reason.NO_ROUTE:
            return error
        return BadAnswer(Reason.STATUS, str(status))

    @abstractmethod
    def _read(self, body: bytes, ask: Ask) -> Answer:
        """Return what an answer that is no error says."""

    def _error(self, body: bytes) -> BadAnswer | None:
        """Return what an error body says; None where it is none."""
        try:
            said = msgspec.json.decode(body, type=_Error)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        words = [word for word in (said.error_code, said.code, said.error, said.msg, said.message) if word]
        if not words:
            return None
        reason = Reason.NO_ROUTE if self.no_route.intersection(words) else Reason.ERROR_BODY
        return BadAnswer(reason, words[0][:100])


class _Error(msgspec.Struct, rename="camel"):
    """What any of them says of an error; an answer has none of these."""

    error_code: str = ""
    code: str = ""
    error: str = ""
    msg: str = ""
    message: str = ""


def restriction(along: Route | None) -> dict[str, str]:
    """Return the parameters that keep a router to a route's venues; none where they cannot be named."""
    if not along:
        return {}
    venues = sorted({step.venue for step in along})
    if any(not venue or "," in venue for venue in venues):
        return {}
    direct = all(step.token_out == along[0].token_out and step.token_in == along[0].token_in for step in along)
    return {"dexes": ",".join(venues)} | ({"onlyDirectRoutes": "true"} if direct else {})


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
