"""Read the books: totals, per token, per pair, and every trade."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Engine, Select, func, literal, select
from sqlalchemy.exc import DBAPIError

from pipeline.ledger.chain_models import SOL, ChainAccount, ChainBook, ChainMovement, ChainTotal, ChainTransaction
from pipeline.ledger.chain_values import Held
from pipeline.ledger.engine import LedgerError, first_line, open_engine
from pipeline.ledger.lots import Transfer
from pipeline.ledger.models import LAYOUT, Books, Execution, ExecutionFill, Plan, Position, Token, Total
from pipeline.ledger.settlement import newest_chain
from pipeline.ledger.trades import Trade, trades_of

# Of the stream, each correction right behind its result.
_IN_ORDER = (Execution.sequence, Execution.corrects.is_not(None), Execution.booked_ns, Execution.id)
_OTHER = func.coalesce(Execution.other_token, Plan.other_token)


@dataclass(frozen=True, slots=True)
class Report:
    """The books as they stand.

    `tokens` and `pairs` hold rows with the figures of the table `totals` and the names `symbol`, `decimals` and, for
    pairs, `pair`; amounts are base units of the row's token unless the name says lamports or usd.
    """

    books: dict[str, int]
    positions: dict[str, int]
    tokens: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    statuses: dict[str, int]


class Reader:
    """Read the books without writing to them."""

    def __init__(self, url: str) -> None:
        """Open the database; refuse one that holds no books or another layout's."""
        self._engine: Engine = open_engine(url, read_only=True)
        try:
            with self._engine.begin() as connection:
                layout = connection.scalar(select(Books.layout))
        except DBAPIError as error:
            self._engine.dispose()
            raise LedgerError(f"cannot read the books: {first_line(error)}", "check auditor.database_url") from None
        if layout != LAYOUT:
            self._engine.dispose()
            raise LedgerError(
                f"the books have layout {layout}, this version reads {LAYOUT}",
                "make them anew: `pipeline pnl --rebuild`",
            )

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def report(self) -> Report:
        """Return totals, tokens and pairs of one moment."""
        with self._engine.begin() as connection:
            names = {row["mint"]: row for row in connection.execute(select(Token)).mappings()}
            books = connection.execute(select(Books).where(Books.id == 1)).mappings().one()
            totals = connection.execute(select(Total).order_by(Total.token)).mappings().all()
            pairs = connection.execute(_by_pair()).mappings().all()
            by_status = select(Execution.status, func.count()).group_by(Execution.status)
            statuses = {row[0]: row[1] for row in connection.execute(by_status)}
            positions = {row[0]: row[1] for row in connection.execute(select(Position.stream, Position.sequence))}
        return Report(
            books={name: int(value) for name, value in books.items() if name not in ("id", "layout")},
            positions=positions,
            tokens=[_named(row, names) for row in totals],
            pairs=[_named(_pair(row), names) for row in pairs],
            statuses=dict(sorted(statuses.items())),
        )

    def all_trades(self) -> list[Trade]:
        """Return every trade as it stands in the end, corrections taken in, in stream order."""
        plan = [
            getattr(Plan, name).label(f"plan_{name}") for name in ("amount_in", "expected_amount_out", "tip", "cost")
        ]
        query = (
            select(*Execution.__table__.columns, _OTHER.label("other"), Plan.legs, *plan)
            .select_from(Execution)
            .outerjoin(Plan, Plan.id == Execution.plan_id)
            .order_by(*_IN_ORDER)
        )
        with self._engine.begin() as connection:
            fills: dict[str, list[Mapping[str, Any]]] = {}
            ordered = select(ExecutionFill).order_by(ExecutionFill.execution_id, ExecutionFill.position)
            for row in connection.execute(ordered).mappings():
                fills.setdefault(row["execution_id"], []).append({str(key): value for key, value in row.items()})
            names = {row["mint"]: row for row in connection.execute(select(Token)).mappings()}
            rows = [_named(row, names) for row in connection.execute(query).mappings()]
        return list(trades_of(rows, fills))

    def tokens(self) -> dict[str, tuple[str, int]]:
        """Return symbol and decimals by mint."""
        with self._engine.begin() as connection:
            rows = connection.execute(select(Token)).mappings()
            return {row["mint"]: (row["symbol"], row["decimals"]) for row in rows}

    def reconciliations(self) -> list[Held]:
        """Return how the books stood against the chain that is followed, at the last look; none where none was read."""
        with self._engine.begin() as connection:
            chain = newest_chain(connection)
            if chain is None:
                return []
            of_it = (ChainTotal.chain == chain["number"]) & (ChainTotal.slot >= 0)
            rows = connection.execute(select(ChainTotal).where(of_it).order_by(ChainTotal.token)).mappings()
            names = [name for name in Held.__slots__ if name != "genesis"]
            return [Held(**{name: row[name] for name in names}, genesis=chain["genesis"]) for row in rows]

    def transfers(self) -> list[Transfer]:
        """Return openings, deposits, withdrawals and upkeep of every chain, in order."""
        found: list[Transfer] = []
        with self._engine.begin() as connection:
            for chain in connection.execute(select(ChainBook).order_by(ChainBook.number)).mappings():
                found += _openings(connection, chain) + _moves(connection, chain["number"])
        return found

    def chains_of(self) -> dict[str, tuple[int, int, int]]:
        """Return (chain, slot, position) by signature: where each final transaction stands in the order of things."""
        with self._engine.begin() as connection:
            columns = (ChainTransaction.chain, ChainTransaction.slot, ChainTransaction.position)
            rows = connection.execute(select(ChainTransaction.signature, *columns))
            return {row.signature: (row.chain, row.slot, row.position) for row in rows}

    def trades(self, *, newest: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield booked executions in stream order, in base units, with `symbol`, `decimals`, `pair` and `pools`."""
        query = (
            select(*Execution.__table__.columns, _OTHER.label("other"), Plan.pools.label("pools"))
            .select_from(Execution)
            .outerjoin(Plan, Plan.id == Execution.plan_id)
            .order_by(*_IN_ORDER)
        )
        if newest is not None:
            first = select(Execution.sequence).order_by(Execution.sequence.desc()).limit(newest).subquery()
            query = query.where(Execution.sequence >= select(func.min(first.c.sequence)).scalar_subquery())
        with self._engine.begin() as connection:
            names = {row["mint"]: row for row in connection.execute(select(Token)).mappings()}
            for row in connection.execution_options(yield_per=1000).execute(query).mappings():
                yield _named(row, names)


def open_report(url: str) -> Reader:
    """Open the books for reading."""
    return Reader(url)


def _openings(connection: Connection, chain: Mapping[Any, Any]) -> list[Transfer]:
    held: dict[str, int] = {}
    for row in connection.execute(select(ChainAccount).where(ChainAccount.chain == chain["number"])).mappings():
        held[SOL] = held.get(SOL, 0) + row["opening_lamports"]
        if row["mint"] not in ("", SOL):
            held[row["mint"]] = held.get(row["mint"], 0) + row["opening_amount"]
    order = chain["number"], chain["begin_slot"], -1
    return [Transfer("opening", order, token, amount, chain["begun_ns"], "") for token, amount in sorted(held.items())]


def _moves(connection: Connection, number: int) -> list[Transfer]:
    one, part = ChainTransaction, ChainMovement
    query = (
        select(one.signature, one.slot, one.position, one.block_time, part.token, part.moved, part.upkeep)
        .join(part, (part.chain == one.chain) & (part.signature == one.signature))
        .where(one.chain == number)
        .order_by(one.slot, one.position, part.token)
    )
    found: list[Transfer] = []
    for row in connection.execute(query):
        order = number, row.slot, row.position
        when = row.block_time * 1_000_000_000
        if row.moved:
            event = "deposit" if row.moved > 0 else "withdrawal"
            found.append(Transfer(event, order, row.token, row.moved, when, row.signature))
        if row.upkeep:
            found.append(Transfer("upkeep", order, row.token, row.upkeep, when, row.signature))
    return found


_ZERO = literal(0, BigInteger)
_HALF = 2**32
_COUNTS: dict[str, ColumnElement[int]] = {
    "executions": func.sum(Execution.executions),
    "filled": func.sum(Execution.filled),
    "wins": func.sum(Execution.wins),
}
# Figures of a pair -> what is summed. SQLite's sums end at 63 bits: the halves of each amount are summed there, and put
# together in Python.
_SUMS: dict[str, Any] = {
    "gross_profit": Execution.gross_profit,
    "base_fees_lamports": Execution.base_fee,
    "priority_fees_lamports": Execution.priority_fee,
    "tips_lamports": Execution.tip,
    "cost": Execution.cost,
    "net_profit": Execution.net_profit,
    "expected_profit": Execution.expected_profit,
    "expected_of_filled": Execution.expected_of_filled,
    "net_lamports": func.coalesce(Execution.net_lamports, _ZERO),
    "net_usd_e6": func.coalesce(Execution.net_usd_e6, _ZERO),
}


def _by_pair() -> Select[Any]:
    columns: list[Any] = [Execution.token, _OTHER.label("other")]
    columns += [count.label(name) for name, count in _COUNTS.items()]
    half = literal(_HALF, BigInteger)
    for name, value in _SUMS.items():
        columns += [func.sum(value // half).label(f"{name}_high"), func.sum(value % half).label(f"{name}_low")]
    return (
        select(*columns)
        .select_from(Execution)
        .outerjoin(Plan, Plan.id == Execution.plan_id)
        .group_by(Execution.token, _OTHER)
        .order_by(Execution.token, _OTHER)
    )


def _pair(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Put the halves of a pair's sums together."""
    found = {name: row[name] for name in ("token", "other")}
    found |= {name: int(row[name]) for name in _COUNTS}
    found |= {name: int(row[f"{name}_high"]) * _HALF + int(row[f"{name}_low"]) for name in _SUMS}
    found["fees_lamports"] = found.pop("base_fees_lamports") + found.pop("priority_fees_lamports")
    return found


def _named(row: Mapping[Any, Any], names: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    """Return a row with the symbols of its tokens."""
    found = {str(key): value for key, value in row.items()}
    own = names.get(found["token"])
    found["symbol"] = own["symbol"] if own else found["token"]
    found["decimals"] = own["decimals"] if own else None
    if "other" in found:
        other = names.get(found["other"] or "")
        found["pair"] = f"{found['symbol']}/{other['symbol'] if other else found['other'] or '?'}"
    return found
