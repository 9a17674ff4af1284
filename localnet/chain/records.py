"""What the chain keeps and tells: values, shared by the chain itself and by the services over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from solders.transaction import VersionedTransaction
from solders.transaction_metadata import InnerInstruction

from localnet.chain_view import ChainAccount, Commitment

__all__ = [
    "Block",
    "BundleStatus",
    "ChainRefusal",
    "Commitment",
    "ErrorForm",
    "Record",
    "Simulated",
    "Status",
    "TokenBalance",
]

ErrorForm = str | dict[str, object]
"""A TransactionError as JSON-RPC shows it: "BlockhashNotFound" or {"InstructionError": [2, {"Custom": 6036}]}."""


class ChainRefusal(Exception):
    """A transaction or bundle that the chain does not take; `error` is what JSON-RPC shows."""

    def __init__(self, error: ErrorForm, detail: str, *, logs: tuple[str, ...] = (), units: int = 0) -> None:
        """Keep what a preflight failure tells."""
        super().__init__(detail)
        self.error, self.logs, self.units = error, logs, units


@dataclass(frozen=True, slots=True)
class TokenBalance:
    """One token account's balance beside a transaction."""

    account_index: int
    mint: str
    owner: str
    program: str
    amount: int
    decimals: int


@dataclass(frozen=True, slots=True)
class Record:
    """One transaction of a block, landed well or failed."""

    signature: str
    slot: int
    block_height: int
    block_time: int
    position: int
    """Order within its block."""
    transaction: VersionedTransaction
    error: ErrorForm | None
    fee: int
    """Base and priority fee, lamports."""
    keys: tuple[str, ...]
    """All accounts: static keys, then loaded writable, then loaded read-only."""
    loaded_writable: tuple[str, ...]
    loaded_readonly: tuple[str, ...]
    pre_balances: tuple[int, ...]
    post_balances: tuple[int, ...]
    pre_token_balances: tuple[TokenBalance, ...]
    post_token_balances: tuple[TokenBalance, ...]
    inner_instructions: tuple[tuple[InnerInstruction, ...], ...]
    """By top-level instruction."""
    logs: tuple[str, ...]
    units: int
    return_data: tuple[str, bytes] | None = None
    bundle: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a transaction stands."""

    slot: int
    confirmations: int | None
    """Blocks on top of it; None when final."""
    error: ErrorForm | None
    commitment: Commitment


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a transaction would do now."""

    slot: int
    error: ErrorForm | None
    logs: tuple[str, ...]
    units: int
    accounts: Mapping[str, ChainAccount | None]
    """As the transaction would leave them; those that were asked for."""
    inner_instructions: tuple[tuple[InnerInstruction, ...], ...]
    return_data: tuple[str, bytes] | None
    fee: int | None = None
    blockhash: tuple[str, int] | None = None
    """The one put in instead, and its last valid block height; None where the transaction's own was used."""


@dataclass(frozen=True, slots=True)
class BundleStatus:
    """What became of a bundle."""

    id: str
    signatures: tuple[str, ...]
    state: Literal["Pending", "Failed", "Landed", "Invalid"]
    slot: int | None
    """Where it landed."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """One slot's outcome."""

    slot: int
    block_height: int
    unix_time: int
    blockhash: str
    records: tuple[Record, ...]
    written: Mapping[str, ChainAccount | None]
    """Accounts that differ from the slot before, those that a fork took back included; None: closed."""
    forked: tuple[str, ...] = field(default=())
    """Signatures whose transactions a fork took back at this slot."""
