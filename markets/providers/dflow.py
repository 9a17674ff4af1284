"""DFlow's quote API: the shape of its public OpenAPI description. The `dev-` address needs no key."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from markets.providers.answer import Answer, Ask, BadAnswer, Reason, Route, Step, shares_of
from markets.providers.provider import Amount, Bps, Provider, Share, Slot, amount, decode, impact_bps


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


class DFlow(Provider):
    """The quote API at one address; it spells the restriction to venues as Jupiter does."""

    path = "/quote"
    no_route = frozenset({"route_not_found", "no_route_found"})

    def _read(self, body: bytes, ask: Ask) -> Answer:
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


def _route(quote: _Quote, ask: Ask) -> Route:
    """Return the steps: the legs name amounts, and the shares follow from them."""
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
