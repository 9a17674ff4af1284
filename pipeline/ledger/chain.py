"""Book what the final chain says: openings, transactions, balances, and how far it is read, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from pipeline.clock import wall_ns
from pipeline.ledger.chain_models import (
    SOL,
    ChainAccount,
    ChainBook,
    ChainMovement,
    ChainTotal,
    ChainTransaction,
    Notice,
)
from pipeline.ledger.chain_values import (
    AccountState,
    ChainMoved,
    ChainPosition,
    Held,
    Movement,
    PlanLink,
    Step,
    WalkedTransaction,
)
from pipeline.ledger.models import Execution, Plan, Position, Proof, Submission
from pipeline.ledger.rows import Valuer
from pipeline.ledger.settlement import TOTALS, Settled, add_to_total, newest_chain, notice, reopen, settle

CHAIN_CHANGED = "chain_changed"
HISTORY_PRUNED = "history_pruned"
UNEXPLAINED_TRANSACTION = "unexplained_transaction"
RECONCILIATION_DIFFERENCE = "reconciliation_difference"
_CRITICAL = 2
_CHUNK = 500


def position_of(row: Mapping[Any, Any]) -> ChainPosition:
    """Return the position that a row of `chains` tells."""
    return ChainPosition(**{name: row[name] for name in ChainPosition.__slots__})


def begin_chain(connection: Connection, genesis: str, begin_slot: int) -> ChainPosition:
    """Open books for a chain, unless it is the one that is followed.

    Another chain than the one before is an alarm: what was booked stays, and a new opening begins.
    """
    row = newest_chain(connection)
    if row is not None and row["genesis"] == genesis:
        return position_of(row)
    if row is not None:
        notice(
            connection,
            rule=CHAIN_CHANGED,
            severity=_CRITICAL,
            about=genesis,
            measured=float(row["number"] + 1),
            limit=float(row["number"]),
            detail=f"the chain is {genesis}, no more {row['genesis']}: its books begin anew at slot {begin_slot}",
        )
    return _open_books(connection, row, genesis, begin_slot)


def begin_after_gap(connection: Connection, position: ChainPosition, begin_slot: int) -> None:
    """Open new books for the chain that is followed: between the old ones and this slot nobody tells what happened.

    Results that were pending then are lost: they stay in the sums, and no chain bears them out.

    Raises:
        ChainMoved: if the stored position is another one.
    """
    row = newest_chain(connection)
    if row is None or position_of(row) != position:
        raise ChainMoved
    notice(
        connection,
        rule=HISTORY_PRUNED,
        severity=_CRITICAL,
        about=position.genesis,
        key=str(begin_slot),
        measured=float(begin_slot),
        limit=float(position.walked_slot + 1),
        detail=f"the chain's history begins at slot {begin_slot}, and the books had read it up to slot "
        f"{position.walked_slot}: they begin anew there",
    )
    _open_books(connection, row, position.genesis, begin_slot)


def _open_books(connection: Connection, row: Mapping[Any, Any] | None, genesis: str, begin_slot: int) -> ChainPosition:
    """Open books behind those of `row`."""
    after = connection.scalar(select(Position.sequence).where(Position.stream == "EXECUTED")) or 0
    values = {
        "number": 1 if row is None else row["number"] + 1,
        "genesis": genesis,
        "begin_slot": begin_slot,
        "walked_slot": begin_slot - 1,
        "block_height": 0,
        "after_sequence": 0 if row is None else after,
        "begun_ns": wall_ns(),
    }
    connection.execute(insert(ChainBook).values(**values))
    return position_of(values)


def plans_of(connection: Connection, signatures: Sequence[str]) -> dict[str, PlanLink]:
    """Return which of these transactions belong to plans."""
    found: dict[str, PlanLink] = {}
    for start in range(0, len(signatures), _CHUNK):
        part = signatures[start : start + _CHUNK]
        for table in (Submission, Execution):
            query = (
                select(table.signature, table.plan_id, Plan.legs)
                .outerjoin(Plan, Plan.id == table.plan_id)
                .where(table.signature.in_(part))
            )
            for row in connection.execute(query):
                legs = tuple(tuple(leg) for leg in json.loads(row.legs)) if row.legs else ()
                found[row.signature] = PlanLink(row.plan_id, legs)
    return found


def accounts_of(connection: Connection, chain: int) -> dict[str, AccountState]:
    """Return the wallets' accounts as the books have them."""
    rows = connection.execute(select(ChainAccount).where(ChainAccount.chain == chain)).mappings()
    return {row["address"]: AccountState(**{name: row[name] for name in AccountState.__slots__}) for row in rows}


def book_step(connection: Connection, step: Step, value: Valuer) -> Settled:
    """Book a step, and settle what it decides.

    Raises:
        ChainMoved: if the stored position is not the one that the step continues.
    """
    chain = newest_chain(connection)
    if chain is None or chain["number"] != step.chain or chain["walked_slot"] != step.after:
        raise ChainMoved
    known = set(_known(connection, step.chain, [one.signature for one in step.transactions]))
    new = [one for one in step.transactions if one.signature not in known]
    for one in new:
        _book_transaction(connection, step.chain, one)
    reopen(connection, step.chain, [one.signature for one in new])
    _store_accounts(connection, step)
    connection.execute(
        update(ChainBook)
        .where(ChainBook.number == step.chain)
        .values(walked_slot=step.through, block_height=max(step.block_height, chain["block_height"]))
    )
    return settle(connection, value)


def hold(connection: Connection, step: Step) -> list[Held]:
    """Hold the books against the balances that were read; note what does not fit.

    Nothing is held where no balances were read at the step's end.
    """
    if step.balances is None:
        return []
    genesis = connection.scalar(select(ChainBook.genesis).where(ChainBook.number == step.chain)) or ""
    openings: dict[str, int] = {SOL: 0}
    for one in step.accounts:
        openings[SOL] += one.opening_lamports
        if one.mint and one.mint != SOL:
            openings[one.mint] = openings.get(one.mint, 0) + one.opening_amount
    of_chain = ChainTotal.chain == step.chain
    rows = {row["token"]: row for row in connection.execute(select(ChainTotal).where(of_chain)).mappings()}
    pending = _pending(connection)
    found: list[Held] = []
    for token in sorted(openings.keys() | rows.keys() | step.balances.keys()):
        if token not in rows:
            add_to_total(connection, step.chain, token, {})
        row: Mapping[Any, Any] = rows.get(token) or dict.fromkeys((*TOTALS, "transactions"), 0) | {"last_signature": ""}
        held = Held(
            token=token,
            slot=step.through,
            opening=openings.get(token, 0),
            balance=step.balances.get(token, 0),
            **{name: row[name] for name in (*TOTALS, "transactions", "last_signature")},
            pending=pending.get(token, 0),
            genesis=genesis,
        )
        stored = {"slot": held.slot, "opening": held.opening, "balance": held.balance, "pending": held.pending}
        connection.execute(update(ChainTotal).where(of_chain & (ChainTotal.token == token)).values(**stored))
        if held.difference:
            _note_difference(connection, step, held)
        found.append(held)
    return found


def _note_difference(connection: Connection, step: Step, held: Held) -> None:
    """Say that a token is not explained, and which transaction is the first that does not fit."""
    first = _first_misfit(connection, step.chain, held.token)
    misfits = [one.misfit for one in step.accounts if one.misfit and held.token in (SOL, one.mint)]
    first = first or (misfits[0] if misfits else "")
    notice(
        connection,
        rule=RECONCILIATION_DIFFERENCE,
        severity=_CRITICAL,
        about=first or held.token,
        key=f"{held.genesis} {held.token} {held.difference}",
        measured=float(held.difference),
        limit=0.0,
        detail=f"{held.difference} base units of {held.token} are not explained at slot {held.slot}; "
        + (f"the first transaction that does not fit is {first}" if first else "no transaction accounts for them"),
    )


def _first_misfit(connection: Connection, chain: int, token: str) -> str:
    query = (
        select(ChainTransaction.signature, ChainMovement.unexplained)
        .join(
            ChainMovement,
            (ChainMovement.chain == ChainTransaction.chain) & (ChainMovement.signature == ChainTransaction.signature),
        )
        .where(ChainTransaction.chain == chain, ChainTransaction.kind == "unexplained", ChainMovement.token == token)
        .order_by(ChainTransaction.slot, ChainTransaction.position)
    )
    return next((row.signature for row in connection.execute(query) if row.unexplained), "")


def _book_transaction(connection: Connection, chain: int, one: WalkedTransaction) -> None:
    names = (
        "signature",
        "slot",
        "position",
        "block_time",
        "kind",
        "failed",
        "base_fee",
        "priority_fee",
        "tip",
        "units",
    )
    connection.execute(
        insert(ChainTransaction).values(
            chain=chain, fills=json.dumps(one.fills), **{name: getattr(one, name) for name in names}
        )
    )
    for token, movement in one.movements.items():
        parts = {name: getattr(movement, name) for name in (*TOTALS, "unexplained")}
        connection.execute(insert(ChainMovement).values(chain=chain, signature=one.signature, token=token, **parts))
        add_to_total(connection, chain, token, {name: parts[name] for name in TOTALS} | {"transactions": 1})
        where = (ChainTotal.chain == chain) & (ChainTotal.token == token)
        connection.execute(update(ChainTotal).where(where).values(last_signature=one.signature))
    if one.kind == "unexplained":
        amounts = ", ".join(f"{m.unexplained} of {token}" for token, m in one.movements.items() if m.unexplained)
        notice(
            connection,
            rule=UNEXPLAINED_TRANSACTION,
            severity=_CRITICAL,
            about=one.signature,
            measured=float(one.movements.get(SOL, Movement()).unexplained),
            limit=0.0,
            detail=f"transaction {one.signature} of slot {one.slot} belongs to no plan: {amounts or 'nothing moved'}",
        )


def _store_accounts(connection: Connection, step: Step) -> None:
    stored = accounts_of(connection, step.chain)
    for one in step.accounts:
        values = {name: getattr(one, name) for name in AccountState.__slots__}
        if one.address not in stored:
            connection.execute(insert(ChainAccount).values(chain=step.chain, **values))
        elif stored[one.address] != one:
            where = (ChainAccount.chain == step.chain) & (ChainAccount.address == one.address)
            connection.execute(update(ChainAccount).where(where).values(**values))


def _known(connection: Connection, chain: int, signatures: list[str]) -> Iterable[str]:
    for start in range(0, len(signatures), _CHUNK):
        part = ChainTransaction.signature.in_(signatures[start : start + _CHUNK])
        yield from connection.scalars(select(ChainTransaction.signature).where(ChainTransaction.chain == chain, part))


def _pending(connection: Connection) -> dict[str, int]:
    """Return, by the cycle's token, how many results or submissions wait for the final chain; all of them under SOL."""
    found: dict[str, int] = {SOL: 0}
    landed = Execution.status.in_(("FILLED", "REVERTED")) & (Execution.proof == Proof.PENDING.value)
    chain = newest_chain(connection)
    unresulted = ~Submission.resulted & (Submission.sequence > (chain["after_sequence"] if chain is not None else 0))
    waiting = [
        select(Execution.token, func.count()).where(landed).group_by(Execution.token),
        select(Submission.token, func.count()).where(unresulted).group_by(Submission.token),
    ]
    for query in waiting:
        for token, count in connection.execute(query):
            found[token] = found.get(token, 0) + count
            found[SOL] += count if token != SOL else 0
    return found


class ChainBooks:
    """The chain's side of the books. Methods block: call them outside the event loop."""

    _engine: Engine

    def chain(self) -> ChainPosition | None:
        """Return the chain that is followed, or None while none was seen."""
        with self._engine.begin() as connection:
            row = newest_chain(connection)
            return position_of(row) if row is not None else None

    def begin_chain(self, genesis: str, begin_slot: int) -> ChainPosition:
        """Open books for a chain, unless it is the one that is followed."""
        with self._engine.begin() as connection:
            return begin_chain(connection, genesis, begin_slot)

    def begin_after_gap(self, position: ChainPosition, begin_slot: int) -> None:
        """Open new books for the chain that is followed, whose history begins only at that slot.

        Raises ChainMoved where the stored position is another one.
        """
        with self._engine.begin() as connection:
            begin_after_gap(connection, position, begin_slot)

    def accounts(self, chain: int) -> dict[str, AccountState]:
        """Return the wallets' accounts as the books have them, by address."""
        with self._engine.begin() as connection:
            return accounts_of(connection, chain)

    def walked(self, chain: int, signatures: list[str]) -> set[str]:
        """Return which of these transactions are booked."""
        with self._engine.begin() as connection:
            return set(_known(connection, chain, signatures))

    def plans_of(self, signatures: Sequence[str]) -> dict[str, PlanLink]:
        """Return which of these transactions belong to plans."""
        with self._engine.begin() as connection:
            return plans_of(connection, list(signatures))

    def first_submission_slot(self) -> int | None:
        """Return the first slot in which something was submitted to a live chain, or None."""
        with self._engine.begin() as connection:
            return connection.scalar(select(func.min(Submission.slot)).where(Submission.mode == "LIVE"))

    def notices(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return what a person should know and nobody has been told yet, oldest first."""
        query = select(Notice).where(~Notice.told).order_by(Notice.noted_ns, Notice.id).limit(limit)
        with self._engine.begin() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def mark_told(self, ids: Iterable[str]) -> None:
        """Note that these were published."""
        with self._engine.begin() as connection:
            connection.execute(update(Notice).where(Notice.id.in_(list(ids))).values(told=True))


def forget_bookings(connection: Connection) -> None:
    """Empty what is made from the streams, and let the chain's own word stand for what was booked.

    The chain's evidence stays: it does not change any more, and an offline chain may be gone.
    """
    connection.execute(delete(Submission))
    for row in connection.execute(select(ChainTotal.chain, ChainTotal.token)).all():
        moved = (ChainMovement.chain == row.chain) & (ChainMovement.token == row.token)
        traded = sum(connection.scalars(select(ChainMovement.traded).where(moved)))
        where = (ChainTotal.chain == row.chain) & (ChainTotal.token == row.token)
        connection.execute(update(ChainTotal).where(where).values(traded=traded))
