"""DFlow's quote API: the shape of its public OpenAPI description. The `dev-` address needs no key."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import msgspec

from markets.providers.answer import Answer, Ask, BadAnswer, Reason, Route, Step, shares_of
from markets.providers.jupiter import key_header, restriction
from markets.providers.provider import Amount, Bps, Request, Share, Slot, amount, decode, host_of, impact_bps

NO_ROUTE = frozenset({"route_not_found", "no_route_found"})


class _Leg(msgspec.Struct, rename="camel"):
    venue: str
    market_key: str
    input_mint: str
    output_mint: str
    in_amount: Amount
    out_amount: Amount


class _Quote(msgspec.Struct, rename="camel"):
    input_mint: str
    output_mint: str
    in_amount: Amount
    out_amount: Amount
    min_out_amount: Amount
    slippage_bps: Bps
    price_impact_pct: Share
    route_plan: list[_Leg]
    context_slot: Slot


class _Error(msgspec.Struct, rename="camel"):
    code: str = ""
    msg: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class DFlow:
    """The quote API at one address."""

    name: str
    url: str
    api_key: str = field(default="", repr=False)
    restricts: bool = True

    @property
    def host(self) -> str:
        """Return the host."""
        return host_of(self.url)

    def request(self, ask: Ask, along: Route | None = None) -> Request:
        """Return the request; the restriction to a route's venues is spelled as Jupiter's."""
        params = {
            "inputMint": ask.token_in,
            "outputMint": ask.token_out,
            "amount": str(ask.amount_in),
            "slippageBps": str(ask.slippage_bps),
        }
        return Request(f"{self.url}/quote", params | restriction(along), key_header(self.api_key))

    def read(self, body: bytes, ask: Ask) -> Answer:
        """Return what an answer says: its legs name amounts, and the shares follow from them."""
        if (error := _error(body)) is not None:
            raise error
        quote = decode(body, _Quote)
        return Answer(
            provider=self.name,
            token_in=quote.input_mint,
            token_out=quote.output_mint,
            amount_in=amount(quote.in_amount),
            amount_out=amount(quote.out_amount),
            min_out=amount(quote.min_out_amount),
            slippage_bps=quote.slippage_bps,
            price_impact_bps=impact_bps(float(quote.price_impact_pct)),
            route=_route(quote, ask),
            slot=quote.context_slot,
        )

    def refused(self, status: int, body: bytes) -> BadAnswer:
        """Return what another status means: 400 may say that there is no route."""
        error = _error(body) if status == 400 else None
        if error is not None and error.reason is Reason.NO_ROUTE:
            return error
        return BadAnswer(Reason.STATUS, str(status))


def _route(quote: _Quote, ask: Ask) -> Route:
    groups: dict[str, list[int]] = defaultdict(list)
    for leg in quote.route_plan:
        groups[leg.input_mint].append(amount(leg.in_amount))
    # The shares of what goes in are of the amount asked for: legs that leave some of it out are no whole split.
    if (first := groups.get(ask.token_in)) is not None and sum(first) != ask.amount_in:
        raise BadAnswer(Reason.SPLITS, f"legs take {sum(first)} of {ask.amount_in}")
    shares = {token: iter(shares_of(amounts)) for token, amounts in groups.items()}
    return tuple(
        Step(
            pool=leg.market_key,
            venue=leg.venue,
            token_in=leg.input_mint,
            token_out=leg.output_mint,
            share_bps=next(shares[leg.input_mint]),
            amount_in=amount(leg.in_amount),
            amount_out=amount(leg.out_amount),
        )
        for leg in quote.route_plan
    )


def _error(body: bytes) -> BadAnswer | None:
    try:
        said = msgspec.json.decode(body, type=_Error)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if said.code in NO_ROUTE:
        return BadAnswer(Reason.NO_ROUTE, said.code)
    if said.code or said.msg or said.error:
        return BadAnswer(Reason.ERROR_BODY, (said.code or said.error or said.msg)[:100])
    return None
