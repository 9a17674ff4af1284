"""The decision: one opportunity and the present moment in, Approved or Refused with every reason out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markets.confidence import band_of
from markets.solana.transactions.fees import TipSettings
from markets.solana.venues import VENUES
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.clock import NS_PER_MS
from pipeline.messages import ConfidenceBand, Leg, Opportunity, Refusal, RefusalReason
from pipeline.sections import PlannerSection, TokenLimitsSection
from pipeline.sections.trading import TipSection
from workers.planner.cycle import FreshCycle, Quotes, requote
from workers.planner.limits import PlanLimits
from workers.planner.open_plans import OpenPlans
from workers.planner.risk import RiskScore, risk_score

NO_RISK = RiskScore(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Moment:
    """Market slot and market time of a decision."""

    slot: int
    now_ns: int


@dataclass(frozen=True, slots=True)
class Approved:
    """Trade this cycle."""

    cycle: FreshCycle
    risk: RiskScore
    permit_epoch: int

    @property
    def min_amount_out(self) -> int:
        """Return the amount under which the cycle must revert.

        Break-even after every cost, and not more: a fill that keeps one base unit is better than a revert, which pays
        the fees and keeps nothing.
        """
        return self.cycle.amount_in + self.cycle.cost


@dataclass(frozen=True, slots=True)
class Refused:
    """Do not trade it; `reasons` holds at least one."""

    reasons: tuple[Refusal, ...]
    net_profit: int
    risk: RiskScore


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration allows, in the units that the checks measure in."""

    settings: PlannerSection
    blacklist: frozenset[str]
    tokens: dict[str, TokenLimitsSection]
    tip: TipSettings

    @classmethod
    def of(cls, settings: PlannerSection, tip: TipSection) -> Rules:
        """Read the rules from the configuration."""
        tokens = {SOL_MINT: settings.sol, USDC_MINT: settings.usdc}
        return cls(settings, frozenset(settings.blacklist), tokens, tip)


def decide(
    opportunity: Opportunity,
    moment: Moment,
    *,
    quotes: Quotes,
    open_plans: OpenPlans,
    limits: PlanLimits,
    rules: Rules,
    permit_epoch: int | None,
) -> Approved | Refused:
    """Decide on one opportunity; `permit_epoch` is None where the permit allows nothing.

    What is too late, not permitted or cannot be quoted is refused for that alone; else every check is made and every
    failed one is a reason.
    """
    if moment.now_ns > opportunity.expires_ns:
        late = Refusal(
            reason=RefusalReason.EXPIRED,
            measured=float(moment.now_ns - opportunity.found_ns),
            limit=float(opportunity.expires_ns - opportunity.found_ns),
            subject="expires_ns",
        )
        return Refused((late,), opportunity.net_profit, NO_RISK)
    if permit_epoch is None:
        halted = Refusal(reason=RefusalReason.NOT_PERMITTED, measured=0.0, limit=1.0, subject="permit")
        return Refused((halted,), opportunity.net_profit, NO_RISK)
    open_plans.advance(moment.slot)
    barred = pool_risk(opportunity, rules)
    band = band_allowed(opportunity)
    cycle = requote(opportunity, quotes, open_plans, rules.tip, amount_allowed(opportunity, band, rules))
    if isinstance(cycle, Refusal):
        return Refused((*barred, cycle), opportunity.net_profit, NO_RISK)
    settings = rules.settings
    age_ns = moment.now_ns - opportunity.found_ns
    risk = risk_score(
        age_ns=age_ns,
        max_age_ns=settings.max_age_ms * NS_PER_MS,
        profit_bps=cycle.profit_bps,
        confidence=opportunity.confidence,
        price_impact_bps=cycle.price_impact_bps,
        max_price_impact_bps=settings.max_price_impact_bps,
        settings=settings.risk,
    )
    reasons = [
        *profit(cycle, opportunity.token, rules),
        *confidence(opportunity, band, settings),
        *confirmation(opportunity, cycle, band, settings),
        *age(cycle, age_ns, moment.now_ns, settings),
        *amount(cycle, opportunity.token, rules),
        *slippage(cycle, settings),
        *barred,
    ]
    if risk.total > settings.risk.max_score:
        reasons.append(_refusal(RefusalReason.RISK_TOO_HIGH, risk.total, settings.risk.max_score, "risk"))
    allowed = rules.tokens.get(opportunity.token)
    max_open = allowed.max_open if allowed is not None else 0
    reasons += limits.check(opportunity.token, cycle.amount_in, max_open, now_ns=moment.now_ns)
    if reasons:
        return Refused(tuple(reasons), cycle.net_profit, risk)
    return Approved(cycle, risk, permit_epoch)


def profit(cycle: FreshCycle, token: str, rules: Rules) -> list[Refusal]:
    """Check 1: profit after all costs, at the fresh quote."""
    allowed = rules.tokens.get(token)
    # Never under one base unit, whatever the configuration says: a plan is not allowed to plan a loss.
    least = max(1, allowed.min_profit if allowed is not None else 1)
    if cycle.net_profit < least:
        return [_refusal(RefusalReason.PROFIT_TOO_LOW, cycle.net_profit, least, "min_profit")]
    if cycle.profit_bps < rules.settings.min_profit_bps:
        limit = rules.settings.min_profit_bps
        return [_refusal(RefusalReason.PROFIT_TOO_LOW, cycle.profit_bps, limit, "min_profit_bps")]
    return []


def band_allowed(opportunity: Opportunity) -> ConfidenceBand:
    """Return what the confidence allows: never more than the figure itself says."""
    return ConfidenceBand(min(opportunity.band, band_of(opportunity.confidence)))


def amount_allowed(opportunity: Opportunity, band: ConfidenceBand, rules: Rules) -> int:
    """Return how much may be put in: what was found, but little of it where the confidence asks for caution."""
    allowed = rules.tokens.get(opportunity.token)
    if band != ConfidenceBand.CAUTIOUS or allowed is None:
        return opportunity.amount_in
    return min(opportunity.amount_in, int(allowed.max_amount_in * rules.settings.cautious_amount_ratio))


def confirmation(
    opportunity: Opportunity, cycle: FreshCycle, band: ConfidenceBand, settings: PlannerSection
) -> list[Refusal]:
    """Check that the fresh quote bears out what was promised, where the confidence asks for that.

    A cycle that is made smaller promises in proportion, before its costs.
    """
    if band >= ConfidenceBand.EXECUTE:
        return []
    promised = opportunity.gross_profit * cycle.amount_in // opportunity.amount_in - cycle.cost
    least = promised * settings.verify_profit_ratio
    if cycle.net_profit >= least:
        return []
    return [_refusal(RefusalReason.PROFIT_NOT_CONFIRMED, cycle.net_profit, least, "verify_profit_ratio")]


def confidence(opportunity: Opportunity, band: ConfidenceBand, settings: PlannerSection) -> list[Refusal]:
    """Check 2: confidence in the quotes; what is not a number is no confidence, and neither is the band SKIP."""
    if opportunity.confidence >= settings.min_confidence and band > ConfidenceBand.SKIP:
        return []
    measured = 0.0 if math.isnan(opportunity.confidence) else opportunity.confidence
    return [_refusal(RefusalReason.CONFIDENCE_TOO_LOW, measured, settings.min_confidence, "min_confidence")]


def age(cycle: FreshCycle, age_ns: int, now_ns: int, settings: PlannerSection) -> list[Refusal]:
    """Check 3: age of the opportunity, and of every pool state behind the fresh quote, ns of market time."""
    found: list[Refusal] = []
    limit = settings.max_age_ms * NS_PER_MS
    if age_ns > limit:
        found.append(_refusal(RefusalReason.QUOTE_TOO_OLD, age_ns, limit, "max_age_ms"))
    limit = settings.max_quote_age_ms * NS_PER_MS
    for leg, _, quote in cycle.legs:
        if now_ns - quote.quoted_ns > limit:
            found.append(_refusal(RefusalReason.QUOTE_TOO_OLD, now_ns - quote.quoted_ns, limit, leg.pool))
    return found


def amount(cycle: FreshCycle, token: str, rules: Rules) -> list[Refusal]:
    """Check 4: amount within the range of the token; over a pool's liquidity there is no quote at all."""
    allowed = rules.tokens.get(token)
    if allowed is None:
        return [_refusal(RefusalReason.AMOUNT_OUT_OF_RANGE, cycle.amount_in, 0, token)]
    if cycle.amount_in < allowed.min_amount_in:
        return [_refusal(RefusalReason.AMOUNT_OUT_OF_RANGE, cycle.amount_in, allowed.min_amount_in, "min_amount_in")]
    if cycle.amount_in > allowed.max_amount_in:
        return [_refusal(RefusalReason.AMOUNT_OUT_OF_RANGE, cycle.amount_in, allowed.max_amount_in, "max_amount_in")]
    return []


def slippage(cycle: FreshCycle, settings: PlannerSection) -> list[Refusal]:
    """Check 5: price impact of every leg."""
    limit = settings.max_price_impact_bps
    return [
        _refusal(RefusalReason.SLIPPAGE_TOO_HIGH, quote.price_impact_bps, limit, leg.pool)
        for leg, _, quote in cycle.legs
        if not quote.price_impact_bps <= limit
    ]


def pool_risk(opportunity: Opportunity, rules: Rules) -> list[Refusal]:
    """Check 6: pools and tokens on the blacklist, and pools of a program that we do not know or that guards no swap."""
    named: dict[str, None] = {opportunity.token: None}
    for leg in opportunity.legs:
        named |= {leg.pool: None, leg.token_out: None}
    barred = [name for name in named if name in rules.blacklist]
    barred += [leg.pool for leg in opportunity.legs if leg.protocol not in _GUARDED and leg.pool not in barred]
    return [_refusal(RefusalReason.POOL_BLACKLISTED, 1.0, 0.0, name) for name in dict.fromkeys(barred)]


# A swap that cannot be given a least output may give less than the next leg takes: it has no place in a cycle.
_GUARDED = frozenset(protocol for protocol, venue in VENUES.items() if venue.ENFORCES_MINIMUM)


def planned_legs(approved: Approved) -> list[Leg]:
    """Return the legs of the plan at their fresh quotes.

    On chain a leg takes an exact input: what the leg before it is expected to give. So that is the least it must give,
    and the last one guards the whole cycle.
    """
    following = [amount_in for _, amount_in, _ in approved.cycle.legs[1:]]
    minimums = [*following, approved.min_amount_out]
    return [
        leg.replace(
            amount_in=amount_in,
            amount_out=quote.amount_out,
            min_amount_out=minimums[index],
            slot=quote.slot,
            quoted_ns=quote.quoted_ns,
            price_impact_bps=quote.price_impact_bps,
        )
        for index, (leg, amount_in, quote) in enumerate(approved.cycle.legs)
    ]


def _refusal(reason: RefusalReason, measured: float, limit: float, subject: str) -> Refusal:
    return Refusal(reason=reason, measured=float(measured), limit=float(limit), subject=subject)
