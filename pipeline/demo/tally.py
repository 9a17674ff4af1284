"""Count what a run published and decide whether its invariants hold. Pure: messages in, figures out."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.messages import (
    Anomaly,
    DeadLetter,
    ExecutionPlan,
    ExecutionResult,
    ExecutionSubmitted,
    Message,
    Opportunity,
    PlanRefusal,
    PnlSnapshot,
    Reconciliation,
    enum_name,
)

# Fields that tell when and where a message was made, not what it says: a seeded run repeats everything but these.
_UNREPEATABLE = {
    "created_ns",
    "producer",
    "received_ns",
    "claimed_ns",
    "gated_ns",
    "finished_ns",
    "attempt",
    "permit_epoch",
    # Of a transaction whose blockhash is a matter of time, and with it its signature.
    "signature",
    "bundle",
    "last_valid_block_height",
    "built_ns",
    "simulated_ns",
    "submitted_ns",
    "landed_ns",
}
_CORRECTIONS = {"transaction_vanished", "transaction_landed_after_all"}


@dataclass(frozen=True)
class Check:
    """One invariant of a run: its name, whether it held, and the figures that show it."""

    name: str
    held: bool
    detail: str


@dataclass(frozen=True)
class Booked:
    """The ledger's totals of one token: executions booked, and their net profit in base units."""

    executions: int
    net_profit: int


@dataclass
class Tally:
    """Everything a run published, by kind, each id once."""

    opportunities: dict[str, Opportunity] = field(default_factory=dict)
    plans: dict[str, ExecutionPlan] = field(default_factory=dict)
    refusals: dict[str, PlanRefusal] = field(default_factory=dict)
    results: dict[str, ExecutionResult] = field(default_factory=dict)
    dead_letters: dict[str, DeadLetter] = field(default_factory=dict)
    pnl: dict[str, PnlSnapshot] = field(default_factory=dict)
    signatures: dict[str, set[str]] = field(default_factory=dict)
    """Signatures under which each plan was sent, by plan."""
    reconciliations: dict[str, Reconciliation] = field(default_factory=dict)
    """The newest of each token."""
    anomalies: dict[str, Anomaly] = field(default_factory=dict)
    corrected: set[str] = field(default_factory=set)
    """Results of which the auditor said that the chain came to say otherwise."""

    def add(self, message: Message) -> None:
        """Count one message; one that was counted before changes nothing."""
        match message:
            case Opportunity():
                self.opportunities[message.id] = message
            case ExecutionPlan():
                self.plans[message.id] = message
            case PlanRefusal():
                self.refusals[message.id] = message
            case ExecutionResult():
                self.results[message.id] = message
                if message.signature:
                    self.signatures.setdefault(message.plan_id, set()).add(message.signature)
            case ExecutionSubmitted():
                self.signatures.setdefault(message.plan_id, set()).add(message.signature)
            case Reconciliation():
                held = self.reconciliations.get(message.token)
                if held is None or message.slot >= held.slot:
                    self.reconciliations[message.token] = message
            case Anomaly():
                self.anomalies[message.id] = message
                if message.rule in _CORRECTIONS:
                    self.corrected.add(message.causation_id)
            case DeadLetter():
                self.dead_letters[message.id] = message
            case PnlSnapshot():
                known = self.pnl.get(message.token)
                if known is None or message.executions >= known.executions:
                    self.pnl[message.token] = message
            case _:
                pass

    def add_all(self, messages: Iterable[Message]) -> None:
        """Count several messages."""
        for message in messages:
            self.add(message)

    def refusals_by_reason(self) -> Counter[str]:
        """Give how many refusals name each reason; one refusal may name several."""
        return Counter(enum_name(reason.reason) for refusal in self.refusals.values() for reason in refusal.reasons)

    def results_by_status(self) -> Counter[str]:
        """Give how many results ended in each status."""
        return Counter(enum_name(result.status) for result in self.results.values())

    def net_profit(self) -> dict[str, int]:
        """Give the sum of the results' net profits per token, base units."""
        sums: defaultdict[str, int] = defaultdict(int)
        for result in self.results.values():
            sums[result.token] += result.net_profit
        return dict(sums)

    def unsettled(self) -> tuple[int, int]:
        """Give how many opportunities have no outcome yet, and how many plans no result."""
        answered = {m.correlation_id for m in self.plans.values()} | {m.correlation_id for m in self.refusals.values()}
        executed = {result.plan_id for result in self.results.values()}
        return len(self.opportunities.keys() - answered), len(self.plans.keys() - executed)

    def unbooked(self) -> int:
        """Give how many results the auditor has not booked yet."""
        return len(self.results) - sum(snapshot.executions for snapshot in self.pnl.values())

    def fingerprint(self) -> str:
        """Give 16 hex digits over every opportunity, plan, refusal and result, save when and where they were made."""
        digest = hashlib.blake2b(digest_size=8)
        for kind in (self.opportunities, self.plans, self.refusals, self.results):
            for message_id in sorted(kind):
                fields = kind[message_id].to_dict()
                digest.update(repr([(k, fields[k]) for k in sorted(fields) if k not in _UNREPEATABLE]).encode())
        return digest.hexdigest()


def _outcomes(tally: Tally) -> Check:
    outcomes = Counter(m.correlation_id for m in tally.plans.values())
    outcomes.update(m.correlation_id for m in tally.refusals.values())
    missing = tally.opportunities.keys() - outcomes.keys()
    double = [key for key, count in outcomes.items() if count > 1]
    unknown = outcomes.keys() - tally.opportunities.keys()
    detail = (
        f"{len(tally.opportunities)} opportunities = {len(tally.plans)} planned"
        f" + {len(tally.refusals)} refused or expired"
        f"; {len(missing)} unanswered, {len(double)} answered twice, {len(unknown)} answers to nothing"
    )
    return Check("every opportunity is planned, refused or expired", not (missing or double or unknown), detail)


def _executions(tally: Tally) -> Check:
    executed = Counter(result.plan_id for result in tally.results.values())
    missing = tally.plans.keys() - executed.keys()
    double = [key for key, count in executed.items() if count > 1]
    unknown = executed.keys() - tally.plans.keys()
    detail = (
        f"{len(tally.plans)} plans, {len(tally.results)} executions"
        f"; {len(missing)} without, {len(double)} executed twice, {len(unknown)} without a plan"
    )
    return Check("every plan has exactly one execution", not (missing or double or unknown), detail)


def _accounts(tally: Tally, booked: Mapping[str, Booked]) -> Check:
    executed = tally.net_profit()
    differences = [
        f"{token}: auditor {booked[token].net_profit if token in booked else 0}, executions {executed.get(token, 0)}"
        for token in sorted(booked.keys() | executed.keys())
        if (booked[token].net_profit if token in booked else 0) != executed.get(token, 0)
    ]
    bookings = sum(entry.executions for entry in booked.values())
    detail = f"{bookings} of {len(tally.results)} executions booked"
    if tally.corrected:
        # The books follow the chain then; whether they are right is held against it.
        detail += f", {len(tally.corrected)} corrected by the chain's word"
        differences = []
    held = not differences and bookings == len(tally.results)
    return Check("the auditor's P&L equals the sum of the executions", held, "; ".join([detail, *differences]))


def check_run(tally: Tally, booked: Mapping[str, Booked], *, left_running: Iterable[str]) -> list[Check]:
    """Decide every invariant of a finished run.

    `booked` is what stands in the auditor's ledger, by token; `left_running` names what outlived the run.
    """
    left = list(left_running)
    letters = [f"{letter.stream} {letter.stream_sequence}: {letter.reason}" for letter in tally.dead_letters.values()]
    return [
        _outcomes(tally),
        _executions(tally),
        _accounts(tally, booked),
        Check("nothing is dead-lettered", not letters, "; ".join(letters[:5]) or "0 dead letters"),
        Check("nothing is left running", not left, ", ".join(left) or "0 processes"),
    ]
