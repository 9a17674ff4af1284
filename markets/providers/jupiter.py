"""Jupiter's swap API, version 1: the lite address without a key, and the pro address with one.

Shape: recorded answers, and Jupiter's public OpenAPI description.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from markets.providers.answer import FULL_BPS, Answer, Ask, BadAnswer, Reason, Route, Step
from markets.providers.provider import (
    Amount,
    Bps,
    Request,
    Share,
    Slot,
    Took,
    amount,
    decode,
    host_of,
    impact_bps,
)

NO_ROUTE = frozenset({"COULD_NOT_FIND_ANY_ROUTE", "NO_ROUTES_FOUND", "TOKEN_NOT_TRADABLE"})


class _SwapInfo(msgspec.Struct, rename="camel"):
    amm_key: str
    input_mint: str
    output_mint: str
    in_amount: Amount
    out_amount: Amount
    label: str = ""


class _Hop(msgspec.Struct, rename="camel"):
    swap_info: _SwapInfo
    percent: int | None = None
    bps: Bps | None = None


class _Quote(msgspec.Struct, rename="camel"):
    input_mint: str
    output_mint: str
    in_amount: Amount
    out_amount: Amount
    other_amount_threshold: Amount
    swap_mode: str
    slippage_bps: Bps
    price_impact_pct: Share
    route_plan: list[_Hop]
    context_slot: Slot = 0
    time_taken: Took = 0.0


class _Error(msgspec.Struct, rename="camel"):
    error: str = ""
    error_code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Jupiter:
    """One address of the swap API."""

    name: str
    url: str
    api_key: str = field(default="", repr=False)
    restricts: bool = True

    @property
    def host(self) -> str:
        """Return the host."""
        return host_of(self.url)

    def request(self, ask: Ask, along: Route | None = None) -> Request:
        """Return the request; along a known route the router looks at that route's venues alone."""
        params = {
            "inputMint": ask.token_in,
            "outputMint": ask.token_out,
            "amount": str(ask.amount_in),
            "slippageBps": str(ask.slippage_bps),
            "swapMode": "ExactIn",
        }
        return Request(f"{self.url}/swap/v1/quote", params | restriction(along), key_header(self.api_key))

    def read(self, body: bytes, ask: Ask) -> Answer:
        """Return what an answer says."""
        if (error := _error(body)) is not None:
            raise error
        quote = decode(body, _Quote)
        if quote.swap_mode != "ExactIn":
            raise BadAnswer(Reason.WRONG_AMOUNT, "the amount in was to be exact")
        return Answer(
            provider=self.name,
            token_in=quote.input_mint,
            token_out=quote.output_mint,
            amount_in=amount(quote.in_amount),
            amount_out=amount(quote.out_amount),
            min_out=amount(quote.other_amount_threshold),
            slippage_bps=quote.slippage_bps,
            # Named a percentage, and a ratio: 0.00042 stands beside a dollar that gives 0.99958.
            price_impact_bps=impact_bps(float(quote.price_impact_pct)),
            route=tuple(_step(hop) for hop in quote.route_plan),
            slot=quote.context_slot,
            took_ms=quote.time_taken * 1000,
        )

    def refused(self, status: int, body: bytes) -> BadAnswer:
        """Return what another status means: 400 may say that there is no route."""
        error = _error(body) if status == 400 else None
        if error is not None and error.reason is Reason.NO_ROUTE:
            return error
        return BadAnswer(Reason.STATUS, str(status))


def restriction(along: Route | None) -> dict[str, str]:
    """Return the parameters that keep the router to a route's venues; none where they cannot be named."""
    if not along:
        return {}
    venues = sorted({step.venue for step in along})
    if any(not venue or "," in venue for venue in venues):
        return {}
    direct = all(step.token_out == along[0].token_out and step.token_in == along[0].token_in for step in along)
    return {"dexes": ",".join(venues)} | ({"onlyDirectRoutes": "true"} if direct else {})


def key_header(api_key: str) -> dict[str, str]:
    """Return the header that carries a key, where there is one."""
    return {"x-api-key": api_key} if api_key else {}


def _step(hop: _Hop) -> Step:
    info = hop.swap_info
    # Basis points where the API gives them: percents of a three-way split do not add up.
    share = hop.bps if hop.bps is not None else None if hop.percent is None else hop.percent * 100
    if share is None or not 0 < share <= FULL_BPS:
        raise BadAnswer(Reason.SPLITS, f"a share of {share} bps")
    return Step(
        pool=info.amm_key,
        venue=info.label,
        token_in=info.input_mint,
        token_out=info.output_mint,
        share_bps=share,
        amount_in=amount(info.in_amount),
        amount_out=amount(info.out_amount),
    )


def _error(body: bytes) -> BadAnswer | None:
    """Return what an error body says; None where it is none."""
    try:
        said = msgspec.json.decode(body, type=_Error)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if said.error_code in NO_ROUTE:
        return BadAnswer(Reason.NO_ROUTE, said.error_code)
    if said.error or said.error_code or said.message:
        return BadAnswer(Reason.ERROR_BODY, (said.error_code or said.error or said.message)[:100])
    return None
