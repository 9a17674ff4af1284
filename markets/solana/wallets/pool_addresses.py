"""Which addresses belong into lookup tables: those that swaps with some pools name, whoever makes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from markets.solana.discovery import FoundPool
from markets.solana.rpc.accounts import AccountInfo, packed
from markets.solana.rpc.pool import RpcPool
from markets.solana.venues import VENUES, BadAccount
from markets.solana.venues.shape import Accounts, Swap

__all__ = ["read_addresses", "static_addresses"]

# Some pools name accounts that only other accounts tell of, such as arrays in a bitmap.
_ROUNDS = 2
# Stands for the user and their accounts; it is in no table. Sysvars' owner: nobody holds tokens as it.
_NOBODY = "Sysvar1111111111111111111111111111111111111"


def static_addresses(pool: FoundPool, accounts: Accounts) -> list[str]:
    """Return what swaps with a pool name beside the user's own accounts, both ways, in a fixed order.

    Raises:
        BadAccount: if an account that decides that is missing.
    """
    venue = VENUES[pool.protocol]
    named = {pool.address: None}
    for a_to_b in (True, False):
        swap = Swap(a_to_b, 1, 0, _NOBODY, _NOBODY, _NOBODY)
        named |= dict.fromkeys(meta.address for meta in venue.swap_instruction(pool.address, accounts, swap).metas)
    return [address for address in named if address != _NOBODY]


async def read_addresses(rpc: RpcPool, pools: Sequence[FoundPool]) -> list[list[str]]:
    """Return the addresses of some pools, a group for each pair; pools that cannot be read are left out.

    Raises:
        RpcError: if no node tells.
    """
    known: dict[str, tuple[str, bytes]] = {}
    wanted = {pool.address for pool in pools}
    for _ in range(_ROUNDS + 1):
        known |= await _read(rpc, sorted(wanted - known.keys()))
        wanted = {address for pool in pools for address in _needed(pool, known)}
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for pool in pools:
        try:
            groups[pool.pair] |= dict.fromkeys(static_addresses(pool, known))
        except BadAccount:
            continue
    return [list(group) for group in groups.values()]


def _needed(pool: FoundPool, known: Accounts) -> Iterable[str]:
    if pool.address not in known:
        return ()
    try:
        needed = VENUES[pool.protocol].accounts_needed(pool.address, known[pool.address][1], known)
    except BadAccount:
        return ()
    return [one.address for one in needed]


async def _read(rpc: RpcPool, addresses: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    found: dict[str, AccountInfo | None] = {}
    for call in packed([[address] for address in addresses]):
        found |= (await rpc.get_accounts([address for group in call for address in group])).accounts
    return {address: (account.owner, account.data) for address, account in found.items() if account is not None}
