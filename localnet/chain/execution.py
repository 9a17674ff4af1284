"""Transactions executed by LiteSVM, with what it does not keep: a mirror of the accounts, loaded keys, balances.

LiteSVM's own checks of blockhashes, duplicates and signatures are switched off: the chain does them, with the window
and the history that a validator has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from sys import intern

from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTable
from solders.clock import Clock
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import (
    FailedTransactionMetadata,
    InnerInstruction,
    SimulatedTransactionInfo,
    TransactionMetadata,
)

from localnet.chain.errors import error_form, in_words
from localnet.chain.prepared import message_of, writable_static
from localnet.chain.records import ChainRefusal, ErrorForm, TokenBalance
from localnet.chain.token_balances import token_balances
from localnet.chain_view import CLOCK, ChainAccount, clock_account
from markets.solana.transactions.keys import pubkey
from markets.solana.venues.shape import MEMO_PROGRAM, STAKE_PROGRAM, SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM

LOOKUP_TABLE_PROGRAM = "AddressLookupTab1e1111111111111111111111111"
BUILT_IN = (
    SYSTEM_PROGRAM,
    "ComputeBudget111111111111111111111111111111",
    LOOKUP_TABLE_PROGRAM,
    TOKEN_PROGRAM,
    TOKEN_2022_PROGRAM,
    "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL",
    MEMO_PROGRAM,
    STAKE_PROGRAM,
    "Vote111111111111111111111111111111111111111",
    "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo",
    "BPFLoader2111111111111111111111111111111111",
    "BPFLoaderUpgradeab1e11111111111111111111111",
    "SysvarRent111111111111111111111111111111111",
    "SysvarEpochSchedu1e111111111111111111111111",
    "SysvarStakeHistory1111111111111111111111111",
)
"""What LiteSVM brings along and clients may ask for."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """All keys of a transaction: static, then loaded writable, then loaded read-only."""

    keys: tuple[str, ...]
    writable: tuple[str, ...]
    """Those of all keys that it may write."""
    loaded_writable: tuple[str, ...] = ()
    loaded_readonly: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transaction did that landed, well or not."""

    loaded: Loaded
    error: ErrorForm | None
    fee: int
    pre_balances: tuple[int, ...]
    post_balances: tuple[int, ...]
    pre_tokens: tuple[TokenBalance, ...]
    post_tokens: tuple[TokenBalance, ...]
    inner: tuple[tuple[InnerInstruction, ...], ...]
    logs: tuple[str, ...]
    units: int
    return_data: tuple[str, bytes] | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a simulated transaction would do."""

    error: ErrorForm | None
    fee: int
    accounts: Mapping[str, ChainAccount | None]
    """Those that it writes, as it would leave them; none where it fails."""
    inner: tuple[tuple[InnerInstruction, ...], ...] = ()
    logs: tuple[str, ...] = ()
    units: int = 0
    return_data: tuple[str, bytes] | None = None


class Execution:
    """The VM and a mirror of its accounts."""

    def __init__(self) -> None:
        """Start a VM that holds nothing but the built-in programs."""
        svm = LiteSVM().with_blockhash_check(False).with_transaction_history(0)
        self._svm = svm.with_sigverify(False)
        self._names: dict[Pubkey, str] = {}
        self._tables: dict[str, tuple[ChainAccount, list[Pubkey]]] = {}
        self.accounts: dict[str, ChainAccount] = {}
        """Every account as it is now. Read only."""
        self.touched: set[str] = set()
        """Addresses that were written; whoever reads it clears it."""
        for address in BUILT_IN:
            self._reload(address)

    def put(self, address: str, account: ChainAccount | None) -> None:
        """Set an account, or take it away."""
        if account is not None and account.lamports <= 0:
            raise ValueError(f"{address}: an account without lamports does not exist")
        # The VM deletes what has no lamports.
        held = account or ChainAccount(SYSTEM_PROGRAM, b"", 0)
        self._svm.set_account(pubkey(address), Account(held.lamports, held.data, pubkey(held.owner), held.executable))
        if account is None:
            self.accounts.pop(address, None)
        else:
            self.accounts[address] = account

    def add_program(self, address: str, elf: bytes) -> ChainAccount:
        """Load a program; return its account."""
        self._svm.add_program(pubkey(address), elf)
        self._reload(address)
        return self.accounts[address]

    def begin(self, slot: int, unix_time: int, slot_hashes: Iterable[tuple[int, Hash]]) -> None:
        """Set the clock, and the hashes of the slots before, newest first."""
        clock = clock_account(slot, unix_time)
        self._svm.set_clock(Clock.from_bytes(clock.data))
        self._svm.set_slot_hashes(list(slot_hashes))
        self.accounts[CLOCK] = clock

    def save(self, addresses: Iterable[str]) -> dict[str, ChainAccount | None]:
        """Return what some accounts are now."""
        return {address: self.accounts.get(address) for address in addresses}

    def restore(self, saved: Mapping[str, ChainAccount | None]) -> None:
        """Bring accounts back to what they were."""
        for address, account in saved.items():
            if self.accounts.get(address) is not account:
                self.put(address, account)
                self.touched.add(address)

    def load(self, transaction: VersionedTransaction) -> Loaded:
        """Return a transaction's keys, its lookup tables resolved.

        Raises:
            ChainRefusal: if a table or an entry is not there.
        """
        message = message_of(transaction)
        keys = [self._name(key) for key in message.account_keys]
        written = [key for key, writable in zip(keys, writable_static(message), strict=True) if writable]
        writable: list[str] = []
        readonly: list[str] = []
        for lookup in getattr(message, "address_table_lookups", ()):
            entries = self._table(self._name(lookup.account_key))
            for indexes, into in ((lookup.writable_indexes, writable), (lookup.readonly_indexes, readonly)):
                for index in indexes:
                    if index >= len(entries):
                        raise _refusal("InvalidAddressLookupTableIndex")
                    into.append(self._name(entries[index]))
        return Loaded((*keys, *writable, *readonly), (*written, *writable), tuple(writable), tuple(readonly))

    def run(self, transaction: VersionedTransaction) -> Outcome:
        """Execute a transaction; one that fails while it runs has landed and cost its fee.

        Raises:
            ChainRefusal: if it cannot be loaded or pay for itself: it does not land and changes nothing.
        """
        loaded = self.load(transaction)
        accounts = self.accounts
        pre_balances, pre_tokens = self._balances(loaded.keys), token_balances(loaded.keys, accounts)
        result = self._svm.send_transaction(transaction)
        error, meta = _parts(result)
        if error is not None and (self._svm.get_balance(pubkey(loaded.keys[0])) or 0) == pre_balances[0]:
            # LiteSVM charges what failed while it ran, and nothing else.
            raise _refusal(error, tuple(meta.logs()), meta.compute_units_consumed())
        for address in loaded.writable if error is None else loaded.keys[:1]:
            self._reload(address)
        return Outcome(
            loaded,
            error,
            meta.fee(),
            pre_balances,
            self._balances(loaded.keys),
            pre_tokens,
            token_balances(loaded.keys, accounts),
            *_told(meta),
        )

    def simulate(self, transaction: VersionedTransaction) -> Trial:
        """Tell what a transaction would do, whatever its signatures and its blockhash."""
        try:
            self.load(transaction)
        except ChainRefusal as refusal:
            return Trial(refusal.error, 0, {})
        result = self._svm.simulate_transaction(transaction)
        error, meta = _parts(result)
        after: dict[str, ChainAccount | None] = {}
        if isinstance(result, SimulatedTransactionInfo):
            after = {self._name(key): self._account(account) for key, account in result.post_accounts()}
        return Trial(error, meta.fee(), after, *_told(meta))

    def _balances(self, keys: Sequence[str]) -> tuple[int, ...]:
        found = self.accounts.get
        return tuple(account.lamports if (account := found(key)) is not None else 0 for key in keys)

    def _reload(self, address: str) -> None:
        """Take over what the VM has at an address."""
        account = self._svm.get_account(pubkey(address))
        known = self.accounts.get(address)
        now = None if account is None else self._account(account)
        if now == known:
            return
        self.touched.add(address)
        if now is None:
            del self.accounts[address]
        else:
            self.accounts[address] = now

    def _account(self, account: Account) -> ChainAccount | None:
        if not account.lamports:
            return None
        return ChainAccount(self._name(account.owner), account.data, account.lamports, account.executable)

    def _name(self, key: Pubkey) -> str:
        """Return an address as text, one object for each: records hold millions of them."""
        name = self._names.get(key)
        if name is None:
            if len(self._names) > 1_000_000:
                self._names.clear()
            name = self._names[key] = str(key)
        return name

    def _table(self, address: str) -> list[Pubkey]:
        account = self.accounts.get(address)
        if account is None:
            raise _refusal("AddressLookupTableNotFound")
        known = self._tables.get(address)
        if known is not None and known[0] is account:
            return known[1]
        if account.owner != LOOKUP_TABLE_PROGRAM:
            raise _refusal("InvalidAddressLookupTableOwner")
        try:
            entries = list(AddressLookupTable.deserialize(account.data).addresses)
        except ValueError:
            raise _refusal("InvalidAddressLookupTableData") from None
        self._tables[address] = account, entries
        return entries


def _parts(
    result: TransactionMetadata | SimulatedTransactionInfo | FailedTransactionMetadata,
) -> tuple[ErrorForm | None, TransactionMetadata]:
    if isinstance(result, FailedTransactionMetadata):
        return error_form(result.err()), result.meta()
    return None, result.meta() if isinstance(result, SimulatedTransactionInfo) else result


def _told(
    meta: TransactionMetadata,
) -> tuple[tuple[tuple[InnerInstruction, ...], ...], tuple[str, ...], int, tuple[str, bytes] | None]:
    returned = meta.return_data()
    data = bytes(returned.data)
    inner = tuple(tuple(one) for one in meta.inner_instructions())
    return inner, _logs(meta), meta.compute_units_consumed(), (str(returned.program_id), data) if data else None


def _logs(meta: TransactionMetadata) -> tuple[str, ...]:
    # Most lines are the same in every transaction, and records keep them for hours.
    return tuple(line if " consumed " in line else intern(line) for line in meta.logs())


def _refusal(error: ErrorForm, logs: tuple[str, ...] = (), units: int = 0) -> ChainRefusal:
    return ChainRefusal(error, in_words(error), logs=logs, units=units)
