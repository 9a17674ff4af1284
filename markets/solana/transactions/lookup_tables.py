"""Address lookup tables: reading them, choosing among them, creating and filling them.

A table names up to 256 addresses; a transaction names an address in it by one byte instead of 32. Layout: the address
lookup table program's public source (anza-xyz/agave, sdk/program/src/address_lookup_table/state.rs).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from solders.address_lookup_table_account import ID, AddressLookupTable, AddressLookupTableAccount
from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.system_program import (
    CreateLookupTableParams,
    ExtendLookupTableParams,
    create_lookup_table,
    extend_lookup_table,
)

from markets.solana.transactions.keys import pubkey
from markets.solana.transactions.tips import TIP_ACCOUNTS
from markets.solana.venues.shape import BadAccount, Filters, Memcmp, key

TABLE_PROGRAM = str(ID)
TABLE_MAX = 256
EXTEND_MAX = 28
"""Addresses added by one transaction: more would not fit into it beside a compute limit and a price."""
_NEVER = 2**64 - 1
_KNOWN_MAX = 1_024
_TIPS = frozenset(map(pubkey, TIP_ACCOUNTS))
_INITIALIZED, _AUTHORITY, _ADDRESSES = b"\x01\x00\x00\x00", 21, 56


def parse_table(address: str, owner: str, data: bytes, slot: int | None = None) -> AddressLookupTableAccount:
    """Return a table as transactions are compiled with it.

    Where `slot` is given, addresses that were added in it or later are left out: they can be used from the next on.

    Raises:
        BadAccount: `wrong_owner`, `wrong_discriminator`, or `deactivated`.
    """
    if owner != TABLE_PROGRAM:
        raise BadAccount("wrong_owner", f"{address} is owned by {owner}, not by the lookup table program")
    if data[:4] != _INITIALIZED or len(data) < _ADDRESSES or (len(data) - _ADDRESSES) % 32:
        raise BadAccount("wrong_discriminator", f"{address} is no lookup table")
    try:
        table = AddressLookupTable.deserialize(data)
    except ValueError as error:
        raise BadAccount("wrong_discriminator", f"{address} is no lookup table: {error}") from error
    if table.meta.deactivation_slot != _NEVER:
        raise BadAccount("deactivated", f"lookup table {address} was deactivated")
    addresses = list(table.addresses)
    if slot is not None and table.meta.last_extended_slot >= slot:
        addresses = addresses[: table.meta.last_extended_slot_start_index]
    return AddressLookupTableAccount(pubkey(address), addresses)


def tables_of(authority: str) -> Filters:
    """Return the getProgramAccounts question for the tables that an authority may extend."""
    return Filters((Memcmp(0, _INITIALIZED), Memcmp(_AUTHORITY, b"\x01" + key(authority))))


def create_table(authority: str, payer: str, recent_slot: int) -> tuple[Instruction, str]:
    """Return the instruction that creates an empty table, and the table's address.

    `recent_slot` must be among the slot hashes that the chain still holds: the last 512.
    """
    made, address = create_lookup_table(
        CreateLookupTableParams(
            authority_address=pubkey(authority), payer_address=pubkey(payer), recent_slot=recent_slot
        )
    )
    return made, str(address)


def extend_table(table: str, authority: str, payer: str, addresses: Sequence[str]) -> list[Instruction]:
    """Return the instructions that add addresses, each to be sent in a transaction of its own and in this order.

    Raises:
        ValueError: if they are more than a table holds.
    """
    if len(addresses) > TABLE_MAX:
        raise ValueError(f"a lookup table holds {TABLE_MAX} addresses, not {len(addresses)}")
    return [
        extend_lookup_table(
            ExtendLookupTableParams(
                payer_address=pubkey(payer),
                lookup_table_address=pubkey(table),
                authority_address=pubkey(authority),
                new_addresses=[pubkey(address) for address in addresses[start : start + EXTEND_MAX]],
            )
        )
        for start in range(0, len(addresses), EXTEND_MAX)
    ]


def chosen(
    tables: Iterable[AddressLookupTableAccount], keys: Collection[Pubkey], own: Collection[Pubkey] = ()
) -> list[AddressLookupTableAccount]:
    """Return the tables worth naming for these keys, the most useful first.

    Tip accounts are never looked up: block engines want to see them among a transaction's own keys. Nor are the
    wallet's `own` accounts: what a table holds is told by a node, and programs pay out to whatever account they are
    given, so a node that lies about a table could have a swap pay somebody else.

    Naming a table costs 34 bytes and an address in it one, an address beside it 32: it pays from the second key on.
    """
    wanted = set(keys).difference(own)
    left = [(table, table.addresses.intersection(wanted)) for table in map(_known, tables)]
    found: list[AddressLookupTableAccount] = []
    while left:
        best, covered = max(left, key=lambda one: len(one[1]))
        if len(covered) < 2:
            break
        found.append(best.without(own))
        left = [(other, others - covered) for other, others in left if other is not best]
    return found


def listed(table: AddressLookupTableAccount) -> Sequence[Pubkey]:
    """Return a table's addresses in their places; read from it once, as it makes them anew whenever it is asked."""
    return _known(table).listed


@dataclass(frozen=True, slots=True)
class _Known:
    """A table that was looked into."""

    table: AddressLookupTableAccount
    listed: tuple[Pubkey, ...]
    addresses: frozenset[Pubkey]
    """Without tip accounts."""
    usable: AddressLookupTableAccount

    def without(self, own: Collection[Pubkey]) -> AddressLookupTableAccount:
        """Return the table with these accounts hidden as tip accounts are; they seldom stand in one."""
        if self.addresses.isdisjoint(own):
            return self.usable
        key = self.table.key
        return AddressLookupTableAccount(key, [key if one in own else one for one in self.usable.addresses])


_known_tables: dict[int, _Known] = {}


def _known(table: AddressLookupTableAccount) -> _Known:
    # By identity: an entry keeps its table alive, so that nothing else can have the same one.
    found = _known_tables.get(id(table))
    if found is None:
        addresses = table.addresses
        usable = table
        if not _TIPS.isdisjoint(addresses):
            # A tip account hides behind the table's own address, which no instruction of ours names.
            usable = AddressLookupTableAccount(table.key, [table.key if one in _TIPS else one for one in addresses])
        if len(_known_tables) >= _KNOWN_MAX:
            _known_tables.clear()
        found = _known_tables[id(table)] = _Known(table, tuple(addresses), frozenset(addresses) - _TIPS, usable)
    return found
