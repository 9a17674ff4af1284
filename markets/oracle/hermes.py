"""Pyth's HTTP service: the latest prices of some feeds, each believed only as far as its text goes.

Whatever the service does (errors, nonsense, bytes that drip, megabytes that pour) costs one bounded call and a typed
failure. Addresses and keys are in no message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Literal

import aiohttp

from markets.oracle.pyth import OracleRefused, PriceUpdate, checked, feed_name

PATH = "/v2/updates/price/latest"
MAX_BYTES = 1 << 20
_WHOLE = re.compile(r"-?[0-9]{1,20}")

HermesReason = Literal[
    "unreachable", "timeout", "status", "unauthorized", "rate_limited", "too_large", "malformed", "shape"
]
Answers = Mapping[str, PriceUpdate | OracleRefused]
"""By feed id: the price, or why what the service says is none. A feed it says nothing about is missing."""


class HermesFailed(Exception):
    """A call that gave nothing; `reason` does not change between versions."""

    def __init__(self, reason: HermesReason, detail: str = "", *, retry_after_s: float = 0.0) -> None:
        """Keep all of it."""
        self.reason: HermesReason = reason
        self.retry_after_s = retry_after_s
        super().__init__(f"{reason}: {detail}" if detail else reason)


class Hermes:
    """Asks for the latest prices."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, key: str = "", timeout_s: float = 1.0) -> None:
        """Ask at this address, with a bearer token where one is needed; `timeout_s` bounds a whole call."""
        self._session = session
        self._url = url.rstrip("/") + PATH
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def latest(self, feeds: Collection[str]) -> Answers:
        """Return the latest price of each feed.

        Raises:
            HermesFailed: if the call gives nothing at all.
        """
        wanted = [feed_name(feed) for feed in feeds]
        params = [("ids[]", feed) for feed in wanted]
        # An id that the service does not know would otherwise fail the call for the others too.
        params += [("parsed", "true"), ("encoding", "hex"), ("ignore_invalid_price_ids", "true")]
        try:
            async with self._session.get(
                self._url, params=params, headers=self._headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                body = await _body(response)
        except TimeoutError:
            raise HermesFailed("timeout") from None
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise HermesFailed("unreachable", type(error).__name__) from None
        return parse_latest(body, wanted)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    match response.status:
        case 200:
            pass
        case 401 | 403:
            raise HermesFailed("unauthorized", "set oracle.hermes_key")
        case 429:
            after = response.headers.get("Retry-After", "")
            raise HermesFailed("rate_limited", retry_after_s=float(after) if after.isdecimal() else 0.0)
        case status:
            raise HermesFailed("status", str(status))
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > MAX_BYTES:
            raise HermesFailed("too_large", f"more than {MAX_BYTES} bytes")
    return bytes(body)


def parse_latest(body: bytes, wanted: Collection[str]) -> Answers:
    """Return what an answer says about the feeds asked for; others in it are ignored.

    Raises:
        HermesFailed: if it is not of the service's shape at all.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise HermesFailed("malformed", "not JSON") from None
    parsed = document.get("parsed") if isinstance(document, dict) else None
    if not isinstance(parsed, list):
        raise HermesFailed("shape", "no list of parsed prices")
    found: dict[str, PriceUpdate | OracleRefused] = {}
    for entry in parsed:
        feed = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(feed, str) or feed.lower().removeprefix("0x") not in wanted:
            continue
        name = feed.lower().removeprefix("0x")
        if name in found:
            found[name] = OracleRefused("bad_answer", "two prices of one feed")
            continue
        try:
            found[name] = _update(name, entry.get("price"))
        except OracleRefused as refusal:
            found[name] = refusal
    return found


def _update(feed: str, price: object) -> PriceUpdate:
    if not isinstance(price, dict):
        raise OracleRefused("bad_answer", "no price")
    amount, confidence = price.get("price"), price.get("conf")
    exponent, published_s = price.get("expo"), price.get("publish_time")
    if not (isinstance(amount, str) and isinstance(confidence, str)):
        raise OracleRefused("bad_answer", "price and conf are texts of digits")
    if _WHOLE.fullmatch(amount) is None or _WHOLE.fullmatch(confidence) is None:
        raise OracleRefused("bad_answer", "price and conf are texts of digits")
    # `true` is an int to Python, and not to anybody else.
    if type(exponent) is not int or type(published_s) is not int:
        raise OracleRefused("bad_answer", "expo and publish_time are whole numbers")
    return checked(PriceUpdate(feed, int(amount), int(confidence), exponent, published_s))
