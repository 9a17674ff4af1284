"""A cycle at a fresh quote: every leg asked again, the whole priced in exact integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from markets.costs import PAR, Costs, SolPrice, amount_in_lamports, cost_in_token
from markets.solana.transactions.fees import TipSettings, tip_for
from markets.tokens import SOL_MINT
from pipeline.messages import Leg, Opportunity, Refusal, RefusalReason
from workers.planner.open_plans import OpenPlans, Pending


@dataclass(frozen=True, slots=True)
class LegQuote:
    """What a pool gives now for one leg."""

    amount_out: int
    price_impact_bps: float
    slot: int
    quoted_ns: int


@dataclass(frozen=True, slots=True)
class NoQuote:
    """Why a pool gives nothing for one leg."""

    reason: RefusalReason
    measured: float
    limit: float


class Quotes(Protocol):
    """The newest state of the pools; in the worker, shared memory."""

    def quote(self, leg: Leg, amount_in: int, pending: Pending | None) -> LegQuote | NoQuote:
        """Quote one leg exactly, for what the leg before it gives, whether or not the pending swaps come first."""


@dataclass(frozen=True, slots=True)
class FreshCycle:
    """An opportunity's cycle, priced anew."""

    legs: tuple[tuple[Leg, int, LegQuote], ...]
    amount_in: int
    amount_out: int
    costs: Costs
    """What the transaction pays, lamports; the tip among them was sized from this very profit."""
    cost: int
    """The same in the cycle's token, rounded up."""

    @property
    def net_profit(self) -> int:
        """Return what is left after all costs."""
        return self.amount_out - self.amount_in - self.cost

    @property
    def profit_bps(self) -> float:
        """Return net profit over the amount put in."""
        return 10_000 * self.net_profit / self.amount_in

    @property
    def price_impact_bps(self) -> float:
        """Return the largest price impact of a leg."""
        return max(quote.price_impact_bps for _, _, quote in self.legs)


def cycle_problem(opportunity: Opportunity) -> str | None:
    """Return why the legs are no cycle of the opportunity's token, or None."""
    legs = opportunity.legs
    if len(legs) < 2:
        return f"a cycle has two legs or more, not {len(legs)}"
    if opportunity.amount_in == 0:
        return "amount_in is 0"
    given = opportunity.token
    for index, leg in enumerate(legs):
        if leg.token_in != given:
            return f"leg {index} takes another token than the one before it gives"
        if leg.token_in == leg.token_out:
            return f"leg {index} swaps a token for itself"
        given = leg.token_out
    return None if given == opportunity.token else "the last leg does not return to the cycle's token"


def requote(
    opportunity: Opportunity,
    quotes: Quotes,
    open_plans: OpenPlans,
    tip: TipSettings,
    amount_in: int | None = None,
) -> FreshCycle | Refusal:
    """Price the cycle anew, each leg with what the leg before it gives; return the refusal where a quote is missing.

    `amount_in` puts in another amount than the opportunity's.

    What open plans will do to the pools counts as done where that is worse for us: a gap is not planned for twice.
    """
    amount = given = opportunity.amount_in if amount_in is None else amount_in
    legs: list[tuple[Leg, int, LegQuote]] = []
    for leg in opportunity.legs:
        found = quotes.quote(leg, amount, open_plans.pending(leg.pool))
        if isinstance(found, NoQuote):
            return Refusal(reason=found.reason, measured=found.measured, limit=found.limit, subject=leg.pool)
        legs.append((leg, amount, found))
        amount = found.amount_out
    price = _sol_price(opportunity, legs)
    if price is None:
        # Without a price the costs are unknown, and with them the minimum that makes a loss impossible.
        return Refusal(reason=RefusalReason.QUOTE_MISSING, measured=0.0, limit=1.0, subject=SOL_MINT)
    fees = opportunity.base_fee + opportunity.priority_fee
    left = amount - given - cost_in_token(fees, price)
    offered = tip_for(amount_in_lamports(max(left, 0), price), floor=0, settings=tip)
    costs = Costs(opportunity.base_fee, opportunity.priority_fee, offered)
    cost = max(opportunity.cost, cost_in_token(costs.lamports, price))
    return FreshCycle(tuple(legs), given, amount, costs, cost)


def _sol_price(opportunity: Opportunity, legs: Sequence[tuple[Leg, int, LegQuote]]) -> SolPrice | None:
    """Return at what price costs are counted: our own where the cycle itself prices SOL, never under the scanner's.

    A cost that is too low would let `min_amount_out` admit a loss, so it is not taken on trust.
    """
    found: list[SolPrice] = []
    lamports = opportunity.base_fee + opportunity.priority_fee + opportunity.tip
    if opportunity.cost and lamports:
        found.append(SolPrice(opportunity.cost, lamports))
    first, amount_in, quote = legs[0]
    if opportunity.token == SOL_MINT:
        found.append(PAR)
    elif first.token_out == SOL_MINT and quote.amount_out > 0:
        found.append(SolPrice(amount_in, quote.amount_out))
    return max(found, default=None)
