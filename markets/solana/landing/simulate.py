"""What a cycle's transaction would do now, as a node tells it before anything is signed."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.message import MessageV0
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from markets.solana.landing.reasons import Reason, reason_of
from markets.solana.rpc.accounts import Malformed, context_slot
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import Priority
from markets.solana.transactions.cycle import venue_of
from markets.solana.transactions.landed import BadTransaction, Instruction, read_landed
from markets.solana.transactions.lookup_tables import listed
from markets.solana.transactions.moves import Move, Payment, TokenMove, moves_of
from markets.tokens import SOL_MINT
from pipeline.messages import Leg

_MAX_LOGS = 1_000


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a transaction would do now."""

    slot: int
    units: int
    """Compute units."""
    amount_out: int
    """What the last leg would give the wallet from others, base units; 0 where the transaction fails."""
    failure: Reason | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose cycle is simulated, and where its token comes in."""

    legs: Sequence[Leg]
    token: str
    wallet: str
    account: str
    """The wallet's account of the cycle's token."""


async def simulate(
    rpc: RpcPool, message: MessageV0, tables: Sequence[AddressLookupTableAccount], asked: Asked
) -> Simulation:
    """Ask a node what the message would do on its newest state.

    Raises:
        RpcError: if no node tells.
    """
    unsigned = bytes(VersionedTransaction.populate(message, [Signature.default()]))
    encoded = base64.b64encode(unsigned).decode()
    options = {
        "encoding": "base64",
        "commitment": "processed",
        "sigVerify": False,
        "innerInstructions": True,
    }
    return await rpc.call(
        "simulateTransaction",
        [encoded, options],
        read=lambda result: _read(result, encoded, message, tables, asked),
        priority=Priority.URGENT,
    )


def leg_places(programs: Sequence[str], legs: Sequence[Leg]) -> dict[int, int]:
    """Return which leg each top-level instruction is, by their programs in order."""
    found: dict[int, int] = {}
    for place, program in enumerate(programs):
        if len(found) < len(legs) and program in venue_of(legs[len(found)]).PROGRAMS:
            found[place] = len(found)
    return found


def programs_of(message: MessageV0) -> list[str]:
    """Return the programs of a message's instructions."""
    return [str(message.account_keys[one.program_id_index]) for one in message.instructions]


def _read(
    result: Any, encoded: str, message: MessageV0, tables: Sequence[AddressLookupTableAccount], asked: Asked
) -> Simulation:
    slot = context_slot(result)
    value = result.get("value")
    if not isinstance(value, dict):
        raise Malformed("it holds no simulation")
    units, logs = value.get("unitsConsumed") or 0, value.get("logs") or []
    if type(units) is not int or not 0 <= units < 1 << 32:
        raise Malformed("it used no compute units that can be")
    if not isinstance(logs, list) or not all(isinstance(line, str) for line in logs):
        raise Malformed("its logs are no lines")
    error = value.get("err")
    if error is not None:
        programs = programs_of(message)
        legs = leg_places(programs, asked.legs)
        return Simulation(slot, units, 0, reason_of(error, logs[:_MAX_LOGS], programs=programs, legs=legs))
    return Simulation(slot, units, _gained(value, encoded, message, tables, asked))


def _gained(
    value: Mapping[str, Any],
    encoded: str,
    message: MessageV0,
    tables: Sequence[AddressLookupTableAccount],
    asked: Asked,
) -> int:
    """Return what the last leg brought into the wallet: told by what its program did, not by what it logged."""
    inner = value.get("innerInstructions")
    if not isinstance(inner, list):
        raise Malformed("it does not tell the inner instructions")
    last = max(leg_places(programs_of(message), asked.legs), default=-1)
    called = [one for one in inner if isinstance(one, dict) and one.get("index") == last]
    try:
        instructions = _instructions(encoded, message, tables, called)
        moves = [move for place, one in enumerate(instructions) if one.top == last for move in moves_of(place, one)]
    except BadTransaction as error:
        raise Malformed(f"its instructions cannot be: {error}") from None
    return sum(_into(move, asked) for move in moves)


def _into(move: Move, asked: Asked) -> int:
    """Return what one move brought into the wallet from others, of the cycle's token."""
    if isinstance(move, TokenMove) and move.destination == asked.account and move.source != asked.account:
        return move.amount - (move.fee or 0)
    if isinstance(move, Payment) and asked.token == SOL_MINT:
        return move.lamports if move.destination == asked.wallet and move.source != asked.account else 0
    return 0


def _instructions(
    encoded: str, message: MessageV0, tables: Sequence[AddressLookupTableAccount], inner: list[Any]
) -> tuple[Instruction, ...]:
    """Read the instructions as those of a transaction that landed, without what only landing tells."""
    addresses = {table.key: listed(table) for table in tables}
    writable: list[str] = []
    readonly: list[str] = []
    for lookup in message.address_table_lookups:
        entries = addresses[lookup.account_key]
        writable += [str(entries[index]) for index in lookup.writable_indexes]
        readonly += [str(entries[index]) for index in lookup.readonly_indexes]
    nothing = [0] * (len(message.account_keys) + len(writable) + len(readonly))
    meta = {
        "err": None,
        "fee": 0,
        "preBalances": nothing,
        "postBalances": nothing,
        "loadedAddresses": {"writable": writable, "readonly": readonly},
        "innerInstructions": inner,
    }
    return read_landed({"slot": 0, "blockTime": None, "transaction": [encoded, "base64"], "meta": meta}).instructions
