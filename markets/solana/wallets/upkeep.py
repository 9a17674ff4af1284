"""What wallets lack before they can trade, and the transactions that give it to them. Pure.

Nothing is opened inside a trade: token accounts, wrapped SOL and lookup tables are prepared beforehand, by the owner's
word. What trades shift between lamports and wrapped SOL, the executor shifts back. Every step is one transaction, and
leaves nothing half done if it is the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.instruction import Instruction

from markets.solana.transactions.lookup_tables import TABLE_MAX, create_table, extend_table
from markets.solana.transactions.token_accounts import TOKEN_ACCOUNT_RENT, open_account, rewrap_sol, wrap_sol
from markets.solana.wallets.lanes import RENT_OF_SYSTEM_ACCOUNT, WalletBalance, rent_exempt_minimum
from markets.tokens import SOL_MINT

__all__ = ["FEE", "Bounds", "Step", "balance_step", "lamports_short", "open_steps", "table_steps", "wrap_step"]

FEE = 5_000
"""Lamports for the one signature of a step."""
_OPENED_AT_ONCE = 10
"""Accounts opened by one transaction: more would not fit into it."""
_ADDED_AT_ONCE = 28
"""Addresses added to a table by one transaction that names its price per compute unit."""
_TABLE_HEADER_BYTES, _ADDRESS_BYTES = 56, 32
_WORTH = 1_000
"""What is too little is at least so many times what it costs to mend it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction of upkeep: who pays and signs, what it does, and what it takes."""

    wallet: str
    does: str
    instructions: tuple[Instruction, ...]
    lamports: int
    """taken from the wallet's system account: fee, rent of what is opened, what is wrapped; negative: given back"""


def open_steps(wallet: str, balance: WalletBalance, mints: Mapping[str, str], names: Mapping[str, str]) -> list[Step]:
    """Return the steps that open the token accounts a wallet lacks; `mints` tells each one's token program."""
    missing = [mint for mint in mints if mint not in balance.tokens]
    return [
        Step(
            wallet,
            "open accounts for " + ", ".join(names.get(mint, mint) for mint in some),
            tuple(open_account(wallet, wallet, mint, mints[mint]) for mint in some),
            FEE + TOKEN_ACCOUNT_RENT * len(some),
        )
        for some in _in_parts(missing, _OPENED_AT_ONCE)
    ]


def wrap_step(wallet: str, balance: WalletBalance, wrapped: int, *, exactly: bool) -> Step | None:
    """Return the step after which a wallet holds so many lamports as wrapped SOL; None where it does already.

    More than that is left as it is, unless it is to be `exactly` so much: then the rest is unwrapped.
    """
    held = balance.tokens.get(SOL_MINT, 0)
    if held < wrapped:
        missing = wrapped - held
        return Step(wallet, f"wrap {_sol(missing)} SOL", wrap_sol(wallet, missing), FEE + missing)
    if exactly and held > wrapped > 0:
        over = held - wrapped
        return Step(wallet, f"unwrap {_sol(over)} SOL", tuple(rewrap_sol(wallet, wrapped)), FEE - over)
    return None


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a wallet's SOL is shifted between its two forms. All in lamports."""

    plan: int
    """the largest plan: each form should be able to pay for it"""
    kept: int
    """stays in the system account beyond its rent"""
    cost: int
    """fees of the step, at most"""


def balance_step(wallet: str, balance: WalletBalance, bounds: Bounds) -> Step | None:
    """Return the step after which a wallet has as much to spend in lamports as wrapped; None where that can wait.

    It can wait as long as each form pays for the largest plan, or holds a quarter of the whole where that is less. A
    step leaves half in each: before the next one at least a quarter has to be traded from one form to the other.
    Nothing is done for a wallet without an account for wrapped SOL, for one that cannot pay the fees, or for amounts
    that are not worth them.
    """
    wrapped = balance.tokens.get(SOL_MINT)
    if wrapped is None or balance.lamports < RENT_OF_SYSTEM_ACCOUNT + bounds.cost:
        return None
    spendable = balance.lamports - RENT_OF_SYSTEM_ACCOUNT - bounds.kept
    whole = spendable + wrapped - bounds.cost
    least = min(bounds.plan, whole // 4)
    if least < _WORTH * bounds.cost or min(spendable, wrapped) >= least:
        return None
    return wrap_step(wallet, balance, whole // 2, exactly=True)


def table_steps(
    wallet: str, tables: Sequence[AddressLookupTableAccount], wanted: Iterable[Sequence[str]], recent_slot: int
) -> list[Step]:
    """Return the steps that put addresses into lookup tables: first into tables with room, then into new ones.

    `tables` are those that the wallet may extend. Each group of `wanted` comes into one table where that is possible,
    so that a transaction has to name few tables. `recent_slot` is one of the last 512.
    """
    room = {str(table.key): TABLE_MAX - len(table.addresses) for table in tables}
    there = {str(address) for table in tables for address in table.addresses}
    made: dict[str, tuple[Instruction, list[str]]] = {}
    added: dict[str, list[str]] = {}
    slot = recent_slot
    for group in wanted:
        missing = [address for address in dict.fromkeys(group) if address not in there]
        there.update(missing)
        for some in _in_parts(missing, TABLE_MAX):
            fitting = [address for address, left in room.items() if left >= len(some)]
            if fitting:
                table = fitting[0]
            else:
                create, table = create_table(wallet, wallet, slot)
                slot -= 1  # a table's address follows from its slot
                made[table] = (create, [])
                room[table] = TABLE_MAX
            room[table] -= len(some)
            added.setdefault(table, []).extend(some)
    steps: list[Step] = []
    for table, addresses in added.items():
        if table in made:
            rent = rent_exempt_minimum(_TABLE_HEADER_BYTES)
            steps.append(Step(wallet, f"create the lookup table {table}", (made[table][0],), FEE + rent))
        for some in _in_parts(addresses, _ADDED_AT_ONCE):
            rent = rent_exempt_minimum(_ADDRESS_BYTES * len(some)) - rent_exempt_minimum(0)
            added_by = tuple(extend_table(table, wallet, wallet, some))
            steps.append(Step(wallet, f"add {len(some)} addresses to {table}", added_by, FEE + rent))
    return steps


def lamports_short(balance: WalletBalance, steps: Iterable[Step], kept: int) -> int:
    """Return how many lamports a wallet lacks for its steps, keeping so many beyond its rent; 0 where it has them.

    A step that gives lamports back needs its fee beforehand, and may begin under what is kept.
    """
    left, short = balance.lamports, 0
    for step in steps:
        lowest = left - step.lamports - kept if step.lamports > 0 else left - FEE
        short = max(short, RENT_OF_SYSTEM_ACCOUNT - lowest)
        left -= step.lamports
    return short


def _in_parts(items: Sequence[str], most: int) -> Iterable[Sequence[str]]:
    return (items[start : start + most] for start in range(0, len(items), most))


def _sol(lamports: int) -> str:
    whole, rest = divmod(lamports, 1_000_000_000)
    return f"{whole:,}.{rest:09d}".rstrip("0").rstrip(".")
