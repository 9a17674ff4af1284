"""Walk over final transactions: their order, and what they leave in each account. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

from markets.solana.transactions.effects import Effect
from markets.tokens import SOL_MINT
from pipeline.ledger import AccountState


class Contradiction(ValueError):
    """Histories that cannot all be right."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an account's history."""

    signature: str
    slot: int


@dataclass(frozen=True, slots=True)
class Read:
    """An account as the chain tells it at the slot the walk goes to."""

    wallet: str
    mint: str
    lamports: int
    amount: int


def in_order(histories: Iterable[Sequence[Entry]]) -> list[tuple[Entry, int]]:
    """Return the transactions of several histories, each newest first, oldest first, and their place in their slot.

    Raises:
        Contradiction: if they tell different orders, or different slots for one transaction.
    """
    slots: dict[str, int] = {}
    before: dict[int, dict[str, set[str]]] = {}
    for history in histories:
        older: Entry | None = None
        for entry in reversed(history):
            if slots.setdefault(entry.signature, entry.slot) != entry.slot:
                raise Contradiction(f"transaction {entry.signature} is told of two slots")
            found = before.setdefault(entry.slot, {}).setdefault(entry.signature, set())
            if older is not None and older.slot == entry.slot:
                found.add(older.signature)
            if older is not None and older.slot > entry.slot:
                raise Contradiction("a history is not in the order of its slots")
            older = entry
    ordered: list[tuple[Entry, int]] = []
    for slot in sorted(before):
        try:
            signatures = list(TopologicalSorter(dict(sorted(before[slot].items()))).static_order())
        except CycleError:
            raise Contradiction(f"histories tell different orders within slot {slot}") from None
        ordered += [(Entry(signature, slot), place) for place, signature in enumerate(signatures)]
    return ordered


def lay(states: Mapping[str, AccountState], effects: Iterable[Effect]) -> dict[str, AccountState]:
    """Return the accounts after these transactions.

    An account that is new begins with what it held before the first one. One that did not begin where the transaction
    before had ended remembers which was the first.
    """
    laid = dict(states)
    for effect in effects:
        for wallet, owned in effect.accounts.items():
            for address, one in owned.items():
                before = one.lamports_before, one.amount_before
                state = laid.get(address) or AccountState(address, wallet, one.mint, *before, *before)
                fits = (state.lamports, state.amount) == before
                laid[address] = replace(
                    state,
                    lamports=state.lamports + one.lamports_after - one.lamports_before,
                    amount=state.amount + one.amount_after - one.amount_before,
                    misfit=state.misfit or ("" if fits else effect.signature),
                )
    return laid


def settle_untouched(states: Mapping[str, AccountState], reads: Mapping[str, Read]) -> dict[str, AccountState]:
    """Return the accounts, with those that no transaction touched: they began with what they hold."""
    found = dict(states)
    for address, read in reads.items():
        if address not in found:
            held = read.lamports, read.amount
            found[address] = AccountState(address, read.wallet, read.mint, *held, *held)
    return found


def apart(states: Mapping[str, AccountState], reads: Mapping[str, Read]) -> list[str]:
    """Return the accounts that hold something else than the transactions left in them."""
    return sorted(
        address
        for address, state in states.items()
        if (read := reads.get(address)) is not None and (state.lamports, state.amount) != (read.lamports, read.amount)
    )


def balances(reads: Mapping[str, Read]) -> dict[str, int]:
    """Return what the wallets hold by token; SOL is the lamports of all their accounts."""
    held: dict[str, int] = {SOL_MINT: 0}
    for read in reads.values():
        held[SOL_MINT] += read.lamports
        if read.mint and read.mint != SOL_MINT:
            held[read.mint] = held.get(read.mint, 0) + read.amount
    return held
