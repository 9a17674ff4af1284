"""Opportunities over pools of constant product, in plain integers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.config import load_config
from pipeline.ids import deterministic_id
from pipeline.messages import ConfidenceBand, Leg, Opportunity, PermitState, Protocol, RefusalReason
from pipeline.permit import Allowed, Refused, RefusedBy
from workers.planner.cycle import LegQuote, NoQuote
from workers.planner.decide import Moment, Rules
from workers.planner.open_plans import Pending

JITO = "J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn"
SLOT_NS = 100_000_000
START_NS = 1_767_225_600_000_000_000


@dataclass
class FakePools:
    """Pools by name: reserves of (token, other); 0.3 % fee."""

    reserves: dict[str, dict[str, int]] = field(default_factory=dict)
    slot: int = 10
    quoted_ns: int = START_NS + 10 * SLOT_NS
    asked: int = 0

    def quote(self, leg: Leg, amount_in: int, pending: Pending | None = None) -> LegQuote | NoQuote:
        self.asked += 1
        pool = self.reserves.get(leg.pool)
        if pool is None or leg.token_in not in pool or leg.token_out not in pool:
            return NoQuote(RefusalReason.QUOTE_MISSING, 0.0, 1.0)
        pool = dict(pool)
        for swap in pending.swaps if pending else ():
            other = next(token for token in pool if token != swap.token_in)
            out = pool[other] * (swap.amount_in * 997 // 1000) // (pool[swap.token_in] + swap.amount_in * 997 // 1000)
            pool[swap.token_in] += swap.amount_in
            pool[other] -= out
        given, taken = pool[leg.token_in], pool[leg.token_out]
        after_fee = amount_in * 997 // 1000
        amount_out = taken * after_fee // (given + after_fee)
        if amount_out == 0:
            return NoQuote(RefusalReason.AMOUNT_OUT_OF_RANGE, float(amount_in), 0.0)
        impact = 10_000 * after_fee / (given + after_fee)
        return LegQuote(amount_out, impact, self.slot, self.quoted_ns)

    def moment(self, opportunity: Opportunity) -> Moment:
        return Moment(max(self.slot, opportunity.slot), max(self.quoted_ns, opportunity.found_ns))


def a_market(gap_bps: int = 200) -> FakePools:
    """Two SOL/JitoSOL pools whose prices differ by so much."""
    deep = 10**13
    return FakePools(
        {
            "cheap": {SOL_MINT: deep, JITO: deep * (10_000 + gap_bps) // 10_000},
            "dear": {SOL_MINT: deep, JITO: deep},
            "usdc": {SOL_MINT: deep, USDC_MINT: deep * 150 // 1000},
            "usdc-dear": {SOL_MINT: deep, USDC_MINT: deep * (150 + 150 * gap_bps // 10_000) // 1000},
        }
    )


def an_opportunity(number: int = 1, *, slot: int = 10, amount_in: int = 10**9, **changes: Any) -> Opportunity:
    """SOL -> JitoSOL on the cheap pool -> SOL on the dear one."""
    token = changes.get("token", SOL_MINT)
    if token == SOL_MINT:
        legs = [
            Leg(pool="cheap", protocol=Protocol.WHIRLPOOL, token_in=SOL_MINT, token_out=JITO, amount_in=amount_in),
            Leg(pool="dear", protocol=Protocol.RAYDIUM_CPMM, token_in=JITO, token_out=SOL_MINT),
        ]
    else:
        legs = [
            Leg(pool="usdc", protocol=Protocol.WHIRLPOOL, token_in=token, token_out=SOL_MINT, amount_in=amount_in),
            Leg(pool="usdc-dear", protocol=Protocol.RAYDIUM_CPMM, token_in=SOL_MINT, token_out=token),
        ]
    opportunity_id = deterministic_id("opportunity", number)
    fields: dict[str, Any] = {
        "id": opportunity_id,
        "correlation_id": opportunity_id,
        "causation_id": "",
        "created_ns": 1,
        "producer": "scanner",
        "token": token,
        "amount_in": amount_in,
        "amount_out": min(amount_in + 10_000_000, 2**64 - 1),
        "gross_profit": 10_000_000,
        "base_fee": 5_000,
        "priority_fee": 1_000,
        "tip": 100_000,
        "cost": 106_000,
        "net_profit": 9_894_000,
        "profit_bps": 98.94,
        "confidence": 0.9,
        "band": ConfidenceBand.EXECUTE,
        "slot": slot,
        "found_ns": START_NS + slot * SLOT_NS,
        "expires_ns": START_NS + (slot + 3) * SLOT_NS,
        "legs": legs,
    }
    return Opportunity(**(fields | changes))


def rules(**overrides: object) -> Rules:
    """The default rules, with changes: `rules(min_confidence=0.99)`, `rules(**{"risk.max_score": 0.1})`.

    The tip is a fixed one unless a test says otherwise, by `tip.profit_ratio`: 100,000 lamports.
    """
    dotted = {key if key.startswith("tip.") else f"planner.{key}": value for key, value in overrides.items()}
    config = load_config({"tip.profit_ratio": 0.0, **dotted}, environment={})
    return Rules.of(config.planner, config.tip)


def allowed() -> Allowed:
    return Allowed(epoch=3, state=PermitState.ACTIVE)


def halted() -> Refused:
    return Refused(RefusedBy.HALTED, "tests say so", PermitState.HALTED, 4)
