"""Raydium's trade API, `compute/swap-base-in`: routes over Raydium's own pools.

Shape: its public documentation, and the types in its SDK's examples. It answers errors with status 200 and
`success: false`, names no slot, and cannot be kept to a known route.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from markets.providers.answer import Answer, Ask, BadAnswer, Reason, Route, Step
from markets.providers.provider import Amount, Bps, Request, amount, decode, host_of, impact_bps

NO_ROUTE = frozenset({"ROUTE_NOT_FOUND"})
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
    msg: str = ""
    data: _Data | None = None


@dataclass(frozen=True, slots=True)
class Raydium:
    """The trade API at one address."""

    name: str
    url: str
    restricts: bool = False

    @property
    def host(self) -> str:
        """Return the host."""
        return host_of(self.url)

    def request(self, ask: Ask, along: Route | None = None) -> Request:
        """Return the request; the whole route is asked for every time."""
        params = {
            "inputMint": ask.token_in,
            "outputMint": ask.token_out,
            "amount": str(ask.amount_in),
            "slippageBps": str(ask.slippage_bps),
            "txVersion": "V0",
        }
        return Request(f"{self.url}/compute/swap-base-in", params)

    def read(self, body: bytes, ask: Ask) -> Answer:
        """Return what an answer says: pools one after the other, all of it through each."""
        envelope = decode(body, _Envelope)
        if not envelope.success:
            reason = Reason.NO_ROUTE if envelope.msg in NO_ROUTE else Reason.ERROR_BODY
            raise BadAnswer(reason, envelope.msg[:100])
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
            route=tuple(Step(pool.pool_id, VENUE, pool.input_mint, pool.output_mint) for pool in data.route_plan),
        )

    def refused(self, status: int, body: bytes) -> BadAnswer:
        """Return what another status means."""
        return BadAnswer(Reason.STATUS, str(status))
