"""Raydium's trade API, `compute/swap-base-in`: routes over Raydium's own pools.

Shape: its public documentation, and the types in its SDK's examples. It answers errors with status 200 and
`success: false`, names no slot, and cannot be kept to a known route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from markets.providers.answer import Answer, Ask, BadAnswer, Reason, Step
from markets.providers.provider import Amount, Bps, Provider, amount, decode, impact_bps

VENUE = "Raydium"


class _Pool(msgspec.Struct, rename="camel"):
    pool_id: str
    input_mint: str
    output_mint: str


class _Data(msgspec.Struct, rename="camel"):
    swap_type: str
    input_mint: str
    input_amount: Amount
    output_mint: str
    output_amount: Amount
    other_amount_threshold: Amount
    slippage_bps: Bps
    price_impact_pct: float
    route_plan: list[_Pool]


class _Envelope(msgspec.Struct, rename="camel"):
    success: bool
    data: _Data | None = None


class Raydium(Provider):
    """The trade API at one address."""

    path = "/compute/swap-base-in"
    restricts = False
    also: ClassVar[Mapping[str, str]] = {"txVersion": "V0"}
    no_route = frozenset({"ROUTE_NOT_FOUND"})

    def _read(self, body: bytes, ask: Ask) -> Answer:
        envelope = decode(body, _Envelope)
        if not envelope.success:
            raise BadAnswer(Reason.ERROR_BODY, "no success, and no word of why")
        data = envelope.data
        if data is None:
            raise BadAnswer(Reason.SHAPE, "success without data")
        if data.swap_type != "BaseIn":
            raise BadAnswer(Reason.WRONG_AMOUNT, "the amount in was to be exact")
        return Answer(
            provider=self.name,
            token_in=data.input_mint,
            token_out=data.output_mint,
            amount_in=amount(data.input_amount),
            amount_out=amount(data.output_amount),
            min_out=amount(data.other_amount_threshold),
            slippage_bps=data.slippage_bps,
            # A percentage, as the name says.
            price_impact_bps=impact_bps(data.price_impact_pct / 100),
            # Pools one after the other, all of it through each.
            route=tuple(Step(pool.pool_id, VENUE, pool.input_mint, pool.output_mint) for pool in data.route_plan),
        )
