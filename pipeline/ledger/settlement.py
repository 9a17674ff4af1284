"""Hold booked executions against the final chain, inside the transaction of whatever brought news of either.

News comes from two sides, in any order: a result is booked, or the final chain is read further. Both end here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from pipeline.clock import wall_ns
from pipeline.ids import deterministic_id
from pipeline.ledger.chain_models import (
    ChainAccount,
    ChainBook,
    ChainMovement,
    ChainTotal,
    ChainTransaction,
    Notice,
)
from pipeline.ledger.corrections import (
    NEVER_LANDED,
    TRANSACTION_LANDED_AFTER_ALL,
    TRANSACTION_VANISHED,
    Case,
    Correction,
    Outcome,
    booked_outcome,
    by_token,
    chain_outcome,
    correct,
)
from pipeline.ledger.models import Execution, ExecutionFill, Plan, Proof, Submission
from pipeline.ledger.rows import Valuer

SUBMISSION_WITHOUT_RESULT = "submission_without_result"
PLAN = "plan"
TOTALS = ("traded", "moved", "upkeep")
_WARNING, _CRITICAL = 1, 2
_CHUNK = 500
_OVERDUE_BLOCKS = 300
"""So many blocks after its transaction can no longer land a result is there, even where its executor began anew."""


@dataclass(slots=True)
class Settled:
    """What holding the books against the chain came to."""

    corrections: list[Correction] = field(default_factory=list)
    changed: dict[tuple[int, str], int] = field(default_factory=dict)
    """(chain, token) -> by how much the booked trades differ from the chain's own word; 0 after right corrections."""


def newest_chain(connection: Connection) -> Mapping[Any, Any] | None:
    """Return the row of the chain that is followed, or None while none was seen."""
    return connection.execute(select(ChainBook).order_by(ChainBook.number.desc()).limit(1)).mappings().one_or_none()


def settle(connection: Connection, value: Valuer) -> Settled:
    """Prove or correct every pending execution that the final chain, as far as it is read, has decided."""
    settled = Settled()
    chain = newest_chain(connection)
    if chain is None:
        return settled
    query = select(*Execution.__table__.columns).where(Execution.proof == Proof.PENDING.value)
    pending = [dict(row) for row in connection.execute(query.order_by(Execution.sequence)).mappings()]
    chains = _chains_of(connection, [row["signature"] for row in pending])
    began_ns = _began_ns(chain)
    followed = set(connection.scalars(_wallets_of(chain["number"])))
    for row in pending:
        if row["signature"] in chains:
            _landed(connection, settled, row, chains[row["signature"]], value)
        elif row["sequence"] <= chain["after_sequence"] or row["finished_ns"] < began_ns:
            _mark(connection, row["id"], Proof.LOST)
        elif 0 < row["last_valid_block_height"] < chain["block_height"] and row["wallet"] in followed:
            _never_landed(connection, settled, row, value)
    _name_overdue(connection, chain)
    for (number, token), amount in settled.changed.items():
        if amount:
            add_to_total(connection, number, token, {"traded": amount})
    return settled


def reopen(connection: Connection, chain: int, signatures: Sequence[str]) -> None:
    """Have executions settled anew whose transactions turned up on the final chain after all."""
    chains = _chains_of(connection, signatures)
    nowhere_else = [signature for signature in signatures if chains[signature] == [chain]]
    for start in range(0, len(nowhere_else), _CHUNK):
        of_them = Execution.signature.in_(nowhere_else[start : start + _CHUNK]) & Execution.corrects.is_(None)
        settled = of_them & (Execution.proof != Proof.NONE.value)
        connection.execute(update(Execution).where(settled).values(proof=Proof.PENDING.value))


def _wallets_of(chain: int) -> Select[str]:
    """Select the wallets whose histories are read: of any other one nothing can be said."""
    return select(ChainAccount.address).where(ChainAccount.chain == chain, ChainAccount.address == ChainAccount.wallet)


def _name_overdue(connection: Connection, chain: Mapping[Any, Any]) -> None:
    """Name transactions that were decided long ago, and of which no result tells: they are in no profit."""
    query = select(*Submission.__table__.columns).where(
        ~Submission.resulted,
        Submission.sequence > chain["after_sequence"],
        Submission.last_valid_block_height > 0,
        Submission.last_valid_block_height < chain["block_height"] - _OVERDUE_BLOCKS,
    )
    overdue = connection.execute(query).all()
    if overdue:
        # What was submitted before a result of a chain that is gone went to that chain, or to one before it.
        lost = connection.scalar(select(func.max(Execution.sequence)).where(Execution.proof == Proof.LOST.value)) or 0
        overdue = [one for one in overdue if one.sequence > lost]
    found = _chains_of(connection, [one.signature for one in overdue])
    for one in overdue:
        place = "is on the final chain" if one.signature in found else "never landed"
        notice(
            connection,
            rule=SUBMISSION_WITHOUT_RESULT,
            severity=_CRITICAL,
            about=one.signature,
            correlation_id=one.opportunity_id,
            measured=float(chain["block_height"]),
            limit=float(one.last_valid_block_height + _OVERDUE_BLOCKS),
            detail=f"transaction {one.signature} of plan {one.plan_id} {place}, and no result tells of it",
        )


def _began_ns(chain: Mapping[Any, Any]) -> int:
    """Return when an offline chain began, wall-clock ns; 0 for any other one."""
    return int(chain["genesis"].partition("@")[2] or 0)


def _chains_of(connection: Connection, signatures: Sequence[str]) -> dict[str, list[int]]:
    """Return on which chains these transactions are.

    The same seed gives the same transactions: offline, a chain and the one begun anew after it may both have one.
    """
    numbers = connection.scalars(select(ChainBook.number)).all()
    found: dict[str, list[int]] = {}
    for start in range(0, len(signatures), _CHUNK):
        query = select(ChainTransaction.chain, ChainTransaction.signature).where(
            ChainTransaction.chain.in_(numbers), ChainTransaction.signature.in_(signatures[start : start + _CHUNK])
        )
        for row in connection.execute(query):
            found.setdefault(row.signature, []).append(row.chain)
    return found


def _landed(
    connection: Connection, settled: Settled, execution: dict[str, Any], chains: Sequence[int], value: Valuer
) -> None:
    """Settle an execution whose transaction is on the final chain, or on several: then the newest one counts."""
    signature, chain = execution["signature"], max(chains)
    where = (ChainTransaction.chain == chain) & (ChainTransaction.signature == signature)
    transaction = connection.execute(select(ChainTransaction).where(where)).mappings().one()
    adopt(connection, chain, transaction)
    movements = connection.execute(
        select(ChainMovement).where((ChainMovement.chain == chain) & (ChainMovement.signature == signature))
    ).mappings()
    gained = {row["token"]: row["traded"] + row["moved"] + row["upkeep"] + row["unexplained"] for row in movements}
    case = _case(connection, execution)
    outcome = chain_outcome(case, transaction, json.loads(transaction["fills"]), gained)
    _finish(connection, settled, case, outcome, correct(case, outcome, value, signature=signature, clock_ns=wall_ns()))
    booked = by_token(case, outcome)
    if _claims(connection, execution) >= len(chains):
        gained = {}  # the chain gave it once, to another result
    for token in booked.keys() | gained.keys():
        key = chain, token
        settled.changed[key] = settled.changed.get(key, 0) + booked.get(token, 0) - gained.get(token, 0)


def _claims(connection: Connection, execution: Mapping[str, Any]) -> int:
    """Return how many other results were settled with the same transaction."""
    others = select(func.count()).where(
        Execution.signature == execution["signature"],
        Execution.id != execution["id"],
        Execution.corrects.is_(None),
        Execution.proof.in_((Proof.PROVED.value, Proof.CORRECTED.value)),
    )
    return connection.scalar(others) or 0


def _never_landed(connection: Connection, settled: Settled, execution: dict[str, Any], value: Valuer) -> None:
    """Settle an execution whose transaction can no longer land."""
    case = _case(connection, execution)
    was = booked_outcome(case)
    signature = execution["signature"]
    found = correct(case, NEVER_LANDED, value, signature=signature, clock_ns=wall_ns()) if was.landed else None
    _finish(connection, settled, case, NEVER_LANDED, found)


def _finish(
    connection: Connection, settled: Settled, case: Case, outcome: Outcome, correction: Correction | None
) -> None:
    _mark(connection, case.execution["id"], Proof.PROVED if correction is None else Proof.CORRECTED)
    if correction is None:
        return
    settled.corrections.append(correction)
    unheard_of = correction.rule in (TRANSACTION_VANISHED, TRANSACTION_LANDED_AFTER_ALL)
    notice(
        connection,
        rule=correction.rule,
        severity=_WARNING if unheard_of else _CRITICAL,
        about=case.execution["id"],
        correlation_id=case.execution["opportunity_id"],
        measured=float(case.execution["net_profit"] + correction.row["net_profit"]),
        limit=float(case.execution["net_profit"]),
        detail=correction.detail,
    )


def adopt(connection: Connection, chain: int, transaction: Mapping[Any, Any]) -> None:
    """Book a transaction under its plan that was taken for something else while the plan was not known."""
    if transaction["kind"] == PLAN:
        return
    where = (ChainMovement.chain == chain) & (ChainMovement.signature == transaction["signature"])
    for row in connection.execute(select(ChainMovement).where(where)).mappings().all():
        amount = row["moved"] + row["upkeep"] + row["unexplained"]
        nothing = {"moved": 0, "upkeep": 0, "unexplained": 0}
        connection.execute(
            update(ChainMovement)
            .where(where & (ChainMovement.token == row["token"]))
            .values(traded=row["traded"] + amount, **nothing)
        )
        change = {"traded": amount, "moved": -row["moved"], "upkeep": -row["upkeep"]}
        add_to_total(connection, chain, row["token"], change)
    same = (ChainTransaction.chain == chain) & (ChainTransaction.signature == transaction["signature"])
    connection.execute(update(ChainTransaction).where(same).values(kind=PLAN))


def add_to_total(connection: Connection, chain: int, token: str, change: Mapping[str, int]) -> None:
    """Add to a token's sums, which are made where there are none."""
    where = (ChainTotal.chain == chain) & (ChainTotal.token == token)
    row = connection.execute(select(ChainTotal).where(where)).mappings().one_or_none()
    if row is None:
        empty = {"slot": -1, "opening": 0, "balance": 0, "transactions": 0, "pending": 0, "last_signature": ""}
        values = empty | dict.fromkeys(TOTALS, 0) | dict(change)
        connection.execute(insert(ChainTotal).values(chain=chain, token=token, **values))
        return
    connection.execute(
        update(ChainTotal).where(where).values(**{name: row[name] + amount for name, amount in change.items()})
    )


def notice(
    connection: Connection,
    *,
    rule: str,
    severity: int,
    about: str,
    measured: float,
    limit: float,
    detail: str,
    correlation_id: str = "",
    key: str = "",
) -> None:
    """Note something a person should know, once; it is published after it stands in the books.

    `about` is the id or signature of what it is about; `key` tells apart what is noted about the same thing.
    """
    name = deterministic_id("anomaly", rule, about, key) if key else deterministic_id("anomaly", rule, about)
    if connection.scalar(select(Notice.id).where(Notice.id == name)) is None:
        connection.execute(
            insert(Notice).values(
                id=name,
                told=False,
                rule=rule,
                severity=severity,
                about=about,
                correlation_id=correlation_id,
                measured=measured,
                limit_value=limit,
                detail=detail,
                noted_ns=wall_ns(),
            )
        )


def mark_resulted(connection: Connection, plan_ids: list[str]) -> None:
    """Note that the results of these plans are booked."""
    if plan_ids:
        connection.execute(update(Submission).where(Submission.plan_id.in_(plan_ids)).values(resulted=True))


def _mark(connection: Connection, execution_id: str, proof: Proof) -> None:
    connection.execute(update(Execution).where(Execution.id == execution_id).values(proof=proof.value))


def _case(connection: Connection, execution: dict[str, Any]) -> Case:
    fills = _fills(connection, execution["id"])
    plan = connection.execute(select(Plan).where(Plan.id == execution["plan_id"])).mappings().one_or_none()
    legs = json.loads(plan["legs"]) if plan is not None else []
    corrections = select(Execution).where(Execution.corrects == execution["id"]).order_by(Execution.booked_ns)
    case = Case(execution, fills, plan, legs)
    for row in connection.execute(corrections).mappings().all():
        case = case.after(row, _fills(connection, row["id"]))
    return case


def _fills(connection: Connection, execution_id: str) -> Sequence[Mapping[Any, Any]]:
    query = select(ExecutionFill).where(ExecutionFill.execution_id == execution_id).order_by(ExecutionFill.position)
    return connection.execute(query).mappings().all()
