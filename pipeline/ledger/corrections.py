"""What the final chain makes of a booked execution: it bears it out, or a correction is due. Pure.

A correction is a booking of its own. Its amounts are the differences between what the chain says and what was booked,
so that sums over executions and corrections are the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.ids import deterministic_id
from pipeline.ledger.chain_models import SOL
from pipeline.ledger.models import Proof
from pipeline.ledger.rows import Valuer, fitting

CORRECTION = "CORRECTION"
"""Status of a correction's row."""

# Rules of the anomalies that go with a correction: stable names.
TRANSACTION_VANISHED = "transaction_vanished"
TRANSACTION_LANDED_AFTER_ALL = "transaction_landed_after_all"
BOOKED_OTHERWISE = "booked_otherwise"

Row = Mapping[Any, Any]
SUMMED = (
    "filled",
    "wins",
    "amount_in",
    "amount_out",
    "gross_profit",
    "base_fee",
    "priority_fee",
    "tip",
    "cost",
    "net_profit",
    "expected_of_filled",
)
"""Columns that a correction's row adds to its execution's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction: as booked, or as the final chain has it."""

    landed: bool = False
    filled: bool = False
    amount_in: int = 0
    amount_out: int = 0
    base_fee: int = 0
    priority_fee: int = 0
    tip: int = 0
    fills: tuple[tuple[int, int], ...] = ()
    """(amount in, amount out) of each leg."""

    @property
    def paid(self) -> int:
        """Return what it cost, lamports."""
        return self.base_fee + self.priority_fee + self.tip


NEVER_LANDED = Outcome()


@dataclass(frozen=True, slots=True)
class Correction:
    """A row of executions, its fills, and why."""

    row: dict[str, Any]
    fills: list[dict[str, Any]]
    rule: str
    detail: str


@dataclass(slots=True)
class Case:
    """One execution with everything that is known of it."""

    execution: Row
    fills: Sequence[Row]
    """As booked, in order."""
    plan: Row | None
    legs: Sequence[Sequence[str]] = field(default_factory=list)
    """(pool, protocol, token in, token out) of each leg of the plan, where it is known."""
    corrections: int = 0
    """How many are taken in already."""

    def after(self, correction: Row, fills: Sequence[Row]) -> Case:
        """Return the case as a correction, with its own fills, left it."""
        row = dict(self.execution)
        for name in SUMMED:
            row[name] += correction[name]
        for name in ("net_lamports", "net_usd_e6"):
            known = row[name] is not None and correction[name] is not None
            row[name] = row[name] + correction[name] if known else None
        # What is taken back stands there with negative amounts, what the chain has with positive ones.
        left = [fill for fill in fills if fill["amount_in"] > 0] if fills else self.fills if row["filled"] > 0 else []
        return replace(self, execution=row, fills=left, corrections=self.corrections + 1)


def booked_outcome(case: Case) -> Outcome:
    """Return what the books have: what the executor told, or what the last correction made of it."""
    row = case.execution
    landed = row["base_fee"] > 0 if case.corrections else row["status"] in ("FILLED", "REVERTED")
    fills = tuple((fill["amount_in"], fill["amount_out"]) for fill in case.fills)
    amounts = row["amount_in"], row["amount_out"]
    return Outcome(landed, bool(row["filled"]), *amounts, row["base_fee"], row["priority_fee"], row["tip"], fills)


def chain_outcome(case: Case, transaction: Row, fills: Sequence[Sequence[int]], gained: Mapping[str, int]) -> Outcome:
    """Return what the final chain says.

    `fills` are those of the transaction, empty where its legs were not known when it was read; then what the wallets
    `gained` decides, by token.
    """
    fees = {name: transaction[name] for name in ("base_fee", "priority_fee", "tip")}
    if transaction["failed"]:
        return Outcome(landed=True, **fees)
    if fills:
        ends = {"amount_in": fills[0][0], "amount_out": fills[-1][1]}
        return Outcome(landed=True, filled=True, **ends, **fees, fills=tuple((one[0], one[1]) for one in fills))
    row = case.execution
    gross = gained.get(row["token"], 0) + (sum(fees.values()) if row["token"] == SOL else 0)
    amount_in = row["amount_in"] or (case.plan["amount_in"] if case.plan is not None else 0)
    booked = booked_outcome(case)
    kept = booked.fills if booked.amount_out - booked.amount_in == gross else ()
    return Outcome(landed=True, filled=True, amount_in=amount_in, amount_out=amount_in + gross, **fees, fills=kept)


def by_token(case: Case, outcome: Outcome) -> dict[str, int]:
    """Return what an outcome changes in the wallets, base units by token; fees and tips under SOL."""
    changed: dict[str, int] = {}
    tokens = _tokens(case)
    if outcome.fills and len(tokens) == len(outcome.fills):
        for (token_in, token_out), (amount_in, amount_out) in zip(tokens, outcome.fills, strict=True):
            changed[token_in] = changed.get(token_in, 0) - amount_in
            changed[token_out] = changed.get(token_out, 0) + amount_out
    elif outcome.filled:
        token = case.execution["token"]
        changed[token] = outcome.amount_out - outcome.amount_in
    changed[SOL] = changed.get(SOL, 0) - outcome.paid
    return {token: amount for token, amount in changed.items() if amount}


def correct(case: Case, now: Outcome, value: Valuer, *, signature: str, clock_ns: int) -> Correction | None:
    """Return the correction that is due, or None where the books are right."""
    was = booked_outcome(case)
    if was == now:
        return None
    row = case.execution
    cost = _cost(case, now)
    gross = now.amount_out - now.amount_in
    net = gross - cost
    price = row["sol_price_usd_e6"]
    worth = value(row["token"], net, price)
    lamports, usd_e6 = fitting(worth.lamports), fitting(worth.usd_e6)
    changed = {
        "id": deterministic_id("correction", row["id"], *([case.corrections] if case.corrections else [])),
        "status": CORRECTION,
        "executions": 0,
        "filled": int(now.filled) - row["filled"],
        "wins": int(now.filled and net > 0) - row["wins"],
        "corrects": row["id"],
        "proof": Proof.PROVED.value,
        "amount_in": now.amount_in - row["amount_in"],
        "amount_out": now.amount_out - row["amount_out"],
        "gross_profit": gross - row["gross_profit"],
        "base_fee": now.base_fee - row["base_fee"],
        "priority_fee": now.priority_fee - row["priority_fee"],
        "tip": now.tip - row["tip"],
        "cost": cost - row["cost"],
        "net_profit": net - row["net_profit"],
        "expected_profit": 0,
        "expected_of_filled": (row["expected_profit"] if now.filled else 0) - row["expected_of_filled"],
        "net_lamports": None if lamports is None else lamports - (row["net_lamports"] or 0),
        "net_usd_e6": None if usd_e6 is None else usd_e6 - (row["net_usd_e6"] or 0),
        "simulated_amount_out": 0,
        "compute_units": 0,
        "booked_ns": clock_ns,
        "plan_checked": True,
    }
    rule, detail = _why(was, now, row, signature)
    tokens = _tokens(case)
    return Correction(
        row=dict(row) | changed | {"detail": detail, "other_token": row["other_token"] or _other(tokens, row["token"])},
        fills=_fill_rows(case, changed["id"], was, now, tokens),
        rule=rule,
        detail=detail,
    )


def _tokens(case: Case) -> list[tuple[str, str]]:
    if case.fills:
        return [(fill["token_in"], fill["token_out"]) for fill in case.fills]
    return [(leg[2], leg[3]) for leg in case.legs]


def _other(tokens: Sequence[tuple[str, str]], token: str) -> str | None:
    return next((out for _, out in tokens if out != token), None)


def _cost(case: Case, now: Outcome) -> int:
    """Return what was paid, in the cycle's token, rounded up, at the rate the result or its plan was costed at."""
    row, plan = case.execution, case.plan
    if row["token"] == SOL:
        return now.paid
    paid = row["base_fee"] + row["priority_fee"] + row["tip"]
    if paid:
        return -int(-row["cost"] * now.paid // paid)
    planned = plan["base_fee"] + plan["priority_fee"] + plan["tip"] if plan is not None else 0
    return -int(-plan["cost"] * now.paid // planned) if plan is not None and planned else 0


def _why(was: Outcome, now: Outcome, row: Row, signature: str) -> tuple[str, str]:
    what = f"transaction {signature} of plan {row['plan_id']}"
    if not now.landed:
        return TRANSACTION_VANISHED, f"{what} was booked as {row['status']}, and is not on the final chain"
    became = "filled" if now.filled else "failed"
    if not was.landed:
        return TRANSACTION_LANDED_AFTER_ALL, f"{what} was booked as {row['status']}, and {became} on the final chain"
    differing = [
        f"{name} {getattr(was, name)} is {getattr(now, name)}"
        for name in ("filled", "amount_in", "amount_out", "base_fee", "priority_fee", "tip", "fills")
        if getattr(was, name) != getattr(now, name)
    ]
    return BOOKED_OTHERWISE, f"{what}: on the final chain {'; '.join(differing)}"


def _fill_rows(
    case: Case, correction_id: str, was: Outcome, now: Outcome, tokens: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Return fills that take back what was booked, and those that the chain has."""
    if was.fills == now.fills:
        return []
    rows = [
        {name: -fill[name] for name in ("amount_in", "amount_out", "expected_amount_out")}
        | {name: fill[name] for name in ("pool", "protocol", "token_in", "token_out", "slot")}
        for fill in case.fills
    ]
    booked = len(rows)
    if len(tokens) == len(now.fills):
        for number, ((token_in, token_out), (amount_in, amount_out)) in enumerate(zip(tokens, now.fills, strict=True)):
            origin = case.fills[number] if number < len(case.fills) else None
            pool, protocol = (
                (origin["pool"], origin["protocol"])
                if origin is not None
                else (case.legs[number][0], case.legs[number][1])
            )
            rows.append(
                {
                    "pool": pool,
                    "protocol": protocol,
                    "token_in": token_in,
                    "token_out": token_out,
                    "amount_in": amount_in,
                    "amount_out": amount_out,
                    "expected_amount_out": origin["expected_amount_out"] if origin is not None else 0,
                    "slot": case.execution["slot"],
                }
            )
    assert len(rows) >= booked
    return [row | {"execution_id": correction_id, "position": place} for place, row in enumerate(rows)]
