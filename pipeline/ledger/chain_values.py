"""What the final chain says, as values: between the auditor, who reads it, and the books."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class ChainMoved(Exception):
    """Another auditor read the chain further, or another chain has begun: begin again from what is stored."""


@dataclass(frozen=True, slots=True)
class ChainPosition:
    """A chain, and how far it is read."""

    number: int
    genesis: str
    begin_slot: int
    walked_slot: int
    block_height: int


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account of a wallet: what it held when the books began, and what is left after the transactions since."""

    address: str
    wallet: str
    mint: str
    """Empty for the wallet's system account."""
    opening_lamports: int
    opening_amount: int
    lamports: int
    amount: int
    misfit: str = ""
    """Signature of the first transaction that did not begin where the one before had ended."""


@dataclass(frozen=True, slots=True)
class Movement:
    """What a transaction changed of one token in all wallets together, by what it was for, base units."""

    traded: int = 0
    moved: int = 0
    upkeep: int = 0
    unexplained: int = 0


@dataclass(frozen=True, slots=True)
class WalkedTransaction:
    """One final transaction, explained."""

    signature: str
    slot: int
    position: int
    block_time: int
    kind: str
    """plan, deposit, withdrawal, upkeep or unexplained"""
    failed: bool
    base_fee: int
    priority_fee: int
    tip: int
    units: int
    fills: tuple[tuple[int, int], ...]
    movements: Mapping[str, Movement]


@dataclass(frozen=True, slots=True)
class PlanLink:
    """The plan a transaction belongs to."""

    plan_id: str
    legs: tuple[tuple[str, str, str, str], ...]
    """(pool, protocol, token in, token out); empty while the plan is not booked."""


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of the final chain."""

    chain: int
    after: int
    """The stored position, which it continues; slot."""
    through: int
    """Up to and with this slot."""
    block_height: int
    """One that was final at `through`, or a lower one."""
    transactions: Sequence[WalkedTransaction]
    accounts: Sequence[AccountState]
    """All accounts as they are after it."""
    balances: Mapping[str, int] | None
    """By token, what the wallets hold at `through` as the chain tells it; None where it was not read there."""


@dataclass(frozen=True, slots=True)
class Held:
    """The books held against the chain for one token; see the message Reconciliation."""

    token: str
    slot: int
    opening: int
    balance: int
    traded: int
    moved: int
    upkeep: int
    transactions: int
    pending: int
    last_signature: str
    genesis: str

    @property
    def difference(self) -> int:
        """Return what nothing explains, base units."""
        return self.balance - self.opening - self.traded - self.moved - self.upkeep


@dataclass(frozen=True, slots=True)
class Advanced:
    """What a step brought."""

    held: list[Held]
    """One for each token; none where no balances were read at the step's end."""
    corrected: Any
    """The totals after corrections; None where there were none."""
