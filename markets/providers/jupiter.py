"""Jupiter's swap API, version 1: the lite address without a key, and the pro address with one.

Shape: recorded answers, and Jupiter's public OpenAPI description.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from markets.providers.answer import FULL_BPS, Answer, Ask, BadAnswer, Reason, Step
from markets.providers.provider import Amount, Bps, Provider, Share, Slot, Took, amount, decode, impact_bps


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


class Jupiter(Provider):
    """One address of the swap API."""

    path = "/swap/v1/quote"
    also: ClassVar[Mapping[str, str]] = {"swapMode": "ExactIn"}
    no_route = frozenset({"COULD_NOT_FIND_ANY_ROUTE", "NO_ROUTES_FOUND", "TOKEN_NOT_TRADABLE"})

    def _read(self, body: bytes, ask: Ask) -> Answer:
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
