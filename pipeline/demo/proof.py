"""Hold what the workers said against what the chain says. Pure: messages and chain facts in, checks out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.demo.tally import Check, Tally
from pipeline.messages import ExecutionPlan, ExecutionResult, ExecutionStatus

# Wrapped SOL: the token whose base units are the lamports that fees and tips are paid in.
SOL = "So11111111111111111111111111111111111111112"
_LANDED = (ExecutionStatus.FILLED, ExecutionStatus.REVERTED)


@dataclass(frozen=True, slots=True)
class Landed:
    """A transaction that stands in a block."""

    slot: int
    failed: bool
    final: bool


@dataclass(slots=True)
class ChainFacts:
    """What the chain's own node told, asked apart from the workers."""

    landed: dict[str, Landed] = field(default_factory=dict)
    """By signature; what is missing never landed, or is not there any more."""
    disturbed: set[str] = field(default_factory=set)
    """Signatures whose pools somebody else moved between the quote and the landing."""
    holdings: dict[str, int] = field(default_factory=dict)
    """What our wallets hold now, by mint, base units."""


def traded(results: Iterable[ExecutionResult]) -> dict[str, int]:
    """Return what results changed in the wallets, by mint: their fills, and under SOL all fees and tips, lamports."""
    sums: defaultdict[str, int] = defaultdict(int)
    for result in results:
        for fill in result.fills:
            sums[fill.token_in] -= fill.amount_in
            sums[fill.token_out] += fill.amount_out
        sums[SOL] -= result.base_fee + result.priority_fee + result.tip
    return dict(sums)


def proved(tally: Tally) -> bool:
    """Tell whether the auditor has seen every result's transaction become final, and found the books to be right."""
    expected = traded(tally.results.values())
    known = tally.reconciliations
    return SOL in known and all(
        not found.pending and not found.difference and (found.traded == expected.get(token, 0) or bool(tally.corrected))
        for token, found in known.items()
    )


def proof_checks(tally: Tally, facts: ChainFacts, *, lockstep: bool = True) -> list[Check]:
    """Decide what only the chain can: booked P&L, one transaction for each plan, amounts as predicted.

    Without lockstep a plan may be made while the pool's snapshot is being replaced; its prediction is then a careful
    estimate, which the amounts may pass but not miss.
    """
    return [_books(tally, facts), _once(tally, facts), _as_predicted(tally, facts, exactly=lockstep)]


def _books(tally: Tally, facts: ChainFacts) -> Check:
    expected = traded(tally.results.values())
    wrong: list[str] = []
    for token in sorted(expected.keys() | tally.reconciliations.keys()):
        found, amount = tally.reconciliations.get(token), expected.get(token, 0)
        if found is None:
            if amount:
                wrong.append(f"{token}: nothing of it was held against the chain")
            continue
        if tally.corrected:
            # Then the books say otherwise than the results, and the chain decides.
            amount = found.traded
        change = found.balance - found.opening
        if found.difference or found.pending:
            wrong.append(f"{token}: difference {found.difference}, {found.pending} results not final")
        if found.traded != amount or change - found.moved - found.upkeep != amount:
            wrong.append(f"{token}: results {amount}, booked {found.traded}, on chain {change}")
        if token in facts.holdings and facts.holdings[token] != found.balance:
            wrong.append(f"{token}: the auditor read {found.balance}, the node says {facts.holdings[token]}")
    if SOL not in tally.reconciliations:
        wrong.append("the auditor never held its books against the chain")
    detail = "; ".join(wrong) or f"{len(tally.reconciliations)} tokens, equal to the last base unit"
    return Check("booked P&L is what the wallets gained on chain", not wrong, detail)


def _once(tally: Tally, facts: ChainFacts) -> Check:
    """Each plan at most one transaction, each transaction one plan, and each result what the chain says."""
    several = [plan for plan, signatures in tally.signatures.items() if len(signatures) > 1]
    owners = Counter(signature for signatures in tally.signatures.values() for signature in signatures)
    shared = [signature for signature, count in owners.items() if count > 1]
    wrong: list[str] = []
    for result in tally.results.values():
        landed = facts.landed.get(result.signature)
        expected = result.status in _LANDED
        if (landed is not None) != expected or (landed and landed.failed != (result.status == _LANDED[1])):
            if result.id in tally.corrected:
                continue
            said = result.status.name if isinstance(result.status, ExecutionStatus) else str(result.status)
            wrong.append(f"{result.plan_id} is {said}, on chain {landed or 'nothing'}")
    sent = len(owners)
    detail = f"{sent} transactions signed, {len(facts.landed)} landed, {len(tally.corrected)} corrected by the auditor"
    trouble = [f"{len(several)} plans with several" if several else "", f"{len(shared)} shared" if shared else ""]
    return Check(
        "every plan has at most one transaction, and the chain agrees with its result",
        not (several or shared or wrong),
        "; ".join([detail, *filter(None, trouble), *wrong[:3]]),
    )


def _as_predicted(tally: Tally, facts: ChainFacts, *, exactly: bool) -> Check:
    filled = [result for result in tally.results.values() if result.status == ExecutionStatus.FILLED]
    crowded = crowded_plans(tally)
    undisturbed = [one for one in filled if one.signature not in facts.disturbed and one.plan_id not in crowded]
    wrong = []
    for result in undisturbed:
        plan = tally.plans.get(result.plan_id)
        predicted = plan.expected_amount_out if plan else 0
        simulated = result.simulated_amount_out or predicted
        if simulated != result.amount_out or predicted > simulated or (exactly and predicted != simulated):
            wrong.append(f"{result.plan_id}: {predicted}, {simulated}, {result.amount_out}")
    simulated_ones = sum(bool(result.simulated_amount_out) for result in undisturbed)
    detail = (
        f"{len(undisturbed)} of {len(filled)} filled were undisturbed, {simulated_ones} of them simulated;"
        f" {len(wrong)} came out otherwise"
    )
    identical = "predicted, simulated and realised amounts are identical"
    return Check(
        f"undisturbed: {identical if exactly else 'realised is what was simulated, and no less than predicted'}",
        not wrong,
        "; ".join([detail, *wrong[:3]]),
    )


def crowded_plans(tally: Tally) -> set[str]:
    """Return the plans made while another plan of ours was open on one of their pools.

    Such a plan counts on the worse of two states: with the other one landed, and without.
    """
    ended = {result.plan_id: result.created_ns for result in tally.results.values()}
    by_pool: defaultdict[str, list[ExecutionPlan]] = defaultdict(list)
    for plan in tally.plans.values():
        for leg in plan.legs:
            by_pool[leg.pool].append(plan)
    return {
        plan.id
        for plans in by_pool.values()
        for plan in plans
        for other in plans
        if other.id != plan.id
        and other.created_ns <= plan.created_ns
        and ended.get(other.id, plan.created_ns) >= plan.created_ns
    }


def balances_of(accounts: Iterable[Mapping[str, object]]) -> dict[str, int]:
    """Return lamports (under SOL) and token amounts of token accounts as getTokenAccountsByOwner tells them."""
    held: defaultdict[str, int] = defaultdict(int)
    for entry in accounts:
        account = entry["account"]
        assert isinstance(account, dict)
        held[SOL] += int(account["lamports"])
        info = account["data"]["parsed"]["info"]
        if info["mint"] != SOL:
            held[str(info["mint"])] += int(info["tokenAmount"]["amount"])
    return dict(held)
