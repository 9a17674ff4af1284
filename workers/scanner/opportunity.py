"""From a found cycle to the message that says so. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from markets.confidence import Factors, band_of, confidence
from pipeline.ids import deterministic_id
from pipeline.messages import Leg, Opportunity, Protocol
from workers.scanner.finder import Found


@dataclass(frozen=True, slots=True)
class Moment:
    """The slot that was searched."""

    slot: int
    market_ns: int
    created_ns: int
    """Wall-clock time."""
    producer: str


@dataclass(frozen=True, slots=True)
class Describer:
    """Makes messages of what was found."""

    expires_ns: int
    """Market time from the discovery of a cycle until it is worth nothing."""

    def opportunity(self, found: Found, factors: Factors, moment: Moment) -> Opportunity:
        """Return the message for a cycle; the same cycle at the same quotes has the same id."""
        legs = self._legs(found)
        candidate = found.candidate
        id_ = opportunity_id(candidate.token, candidate.amount_in, legs)
        trusted = confidence(factors)
        return Opportunity(
            id=id_,
            correlation_id=id_,
            causation_id=slot_id(moment.slot, moment.market_ns),
            created_ns=moment.created_ns,
            producer=moment.producer,
            token=candidate.token,
            amount_in=candidate.amount_in,
            amount_out=candidate.amount_out,
            gross_profit=candidate.amount_out - candidate.amount_in,
            base_fee=found.costs.base_fee,
            priority_fee=found.costs.priority_fee,
            tip=found.costs.tip,
            cost=found.cost,
            net_profit=found.net_profit,
            profit_bps=found.net_profit * 10_000 / candidate.amount_in,
            confidence=trusted,
            slot=moment.slot,
            found_ns=moment.market_ns,
            expires_ns=moment.market_ns + self.expires_ns,
            legs=legs,
            band=band_of(trusted),
            age_factor=factors.age,
            hops_factor=factors.hops,
            oracle_factor=factors.oracle,
            provider_factor=factors.provider,
            slippage_factor=factors.slippage,
        )

    @staticmethod
    def _legs(found: Found) -> list[Leg]:
        legs = []
        candidate = found.candidate
        last = len(candidate.legs) - 1
        for index, (leg, held) in enumerate(zip(candidate.legs, found.pools, strict=True)):
            pool = held.pool
            token_in, token_out = (pool.token_a, pool.token_b) if leg.a_to_b else (pool.token_b, pool.token_a)
            legs.append(
                Leg(
                    pool=pool.address,
                    protocol=Protocol(int(pool.protocol)),
                    token_in=token_in,
                    token_out=token_out,
                    amount_in=leg.amount_in,
                    amount_out=leg.amount_out,
                    # The last leg guards the whole cycle: less than this and it reverts.
                    min_amount_out=candidate.amount_in + found.cost if index == last else 0,
                    slot=pool.slot,
                    quoted_ns=held.observed_ns,
                    price_impact_bps=leg.price_impact_bps,
                )
            )
        return legs


def opportunity_id(token: str, amount_in: int, legs: list[Leg]) -> str:
    """Return the id of a cycle: its token, pools and directions, its amount, and the slots of its quotes."""
    way = [part for leg in legs for part in (leg.pool, leg.token_in, leg.slot)]
    return deterministic_id("opportunity", token, amount_in, *way)


def slot_id(slot: int, market_ns: int) -> str:
    """Return the id of the market's update of a slot: what caused everything that was found in it."""
    return deterministic_id("slot", slot, market_ns)
