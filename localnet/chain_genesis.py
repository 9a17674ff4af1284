"""The offline chain before its first slot: pools, mints, lookup tables, wallets, traders. All made up, from a seed.

Addresses that the programs derive (Whirlpools, authorities, associated token accounts, lookup tables) are derived here
in the same way; the others begin with "Sim" and belong to nobody. The wallets' keys are those of
`markets.solana.wallets.keys.offline_keypair`, which anybody can make: nothing here is worth anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from solders.address_lookup_table_account import derive_lookup_table_address
from solders.keypair import Keypair

from localnet.chain_view import ChainAccount, account_of
from localnet.genesis import PROTOCOLS, STAKING, GenesisPool, genesis, staked_side
from localnet.layouts import (
    TOKEN_PROGRAM,
    cpmm_observation,
    key,
    lookup_table,
    simulated_address,
    token_account,
    token_amount,
    token_lamports,
    token_mint,
)
from localnet.stake_pools import issue, marinade_reserve, updated_account
from markets.solana.transactions.keys import pubkey
from markets.solana.transactions.lookup_tables import TABLE_MAX, TABLE_PROGRAM
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.venues import VENUES
from markets.solana.venues.shape import SLOTS_PER_EPOCH, SYSTEM_PROGRAM, Swap
from markets.solana.wallets.keys import offline_keypair
from markets.tokens import LAMPORTS_PER_SOL, SOL_MINT, USDC_MINT, Registry, Token

FIRST_SLOT = 694 * SLOTS_PER_EPOCH + 1
"""The first slot of an offline chain: a plausible height, at the start of an epoch."""

TraderRole = Literal["noise", "informed", "rival"]
TRADERS: tuple[TraderRole, ...] = ("noise", "informed", "rival")
_NOBODY = simulated_address("nobody")


@dataclass(frozen=True, slots=True)
class Funds:
    """What somebody begins with, base units."""

    lamports: int
    wrapped: int
    """Lamports in the associated account of wrapped SOL."""
    usdc: int
    staked: int = 0
    """Of every staked token."""


WALLET_FUNDS = Funds(20_000 * LAMPORTS_PER_SOL, 600 * LAMPORTS_PER_SOL, 150_000 * 10**6)
_TRADER_FUNDS = Funds(10**7 * LAMPORTS_PER_SOL, 10**7 * LAMPORTS_PER_SOL, 10**15, 10**6 * LAMPORTS_PER_SOL)
# Deposits into stake pools take lamports, and what is sold comes back as wrapped SOL: it must last for days.
_RIVAL_FUNDS = Funds(10**6 * LAMPORTS_PER_SOL, 2_000 * LAMPORTS_PER_SOL, 300_000 * 10**6)


def trader_keypair(seed: int, role: TraderRole) -> Keypair:
    """Return the key of one of the simulated traders. Anybody can make it: it is worth nothing."""
    return Keypair.from_seed(blake2b(f"offline trader/{seed}/{role}".encode(), digest_size=32).digest())


def traded(
    pools: Iterable[GenesisPool], programs: Collection[str] | None
) -> tuple[list[GenesisPool], list[GenesisPool]]:
    """Return the pools whose programs can run on this chain, and those that are left out."""
    kept: list[GenesisPool] = []
    left: list[GenesisPool] = []
    for pool in pools:
        (kept if programs is None or pool.accounts[0][1] in programs else left).append(pool)
    return kept, left


def chain_genesis(
    registry: Registry,
    seed: int,
    *,
    wallets: int = 2,
    funds: Funds = WALLET_FUNDS,
    programs: Collection[str] | None = None,
    slot: int = FIRST_SLOT,
) -> list[tuple[str, ChainAccount]]:
    """Return every account of the chain before its first slot, in a fixed order, no address twice.

    `programs` are those that the chain can run: pools of others are left out; None keeps all. The programs themselves
    are not among the accounts.
    """
    pools, _ = traded(genesis(registry, seed), programs)
    accounts: dict[str, ChainAccount] = {}
    for pool in pools:
        for address, owner, data, *lamports in pool.accounts:
            raw = updated_account(data, slot) if address == pool.address and pool.venue == "spl_stake_pool" else data
            accounts[address] = _account(owner, bytes(raw), lamports[0] if lamports else None)
        if pool.venue == "raydium_cpmm":
            address, owner, data = cpmm_observation(pool.address)
            accounts[address] = _account(owner, data)
        if pool.venue == "marinade":
            address, owner, data, *lamports = marinade_reserve(pool.address, bytes(pool.accounts[0][2]))
            accounts[address] = _account(owner, data, *lamports)
    holders = [(str(offline_keypair(seed, index).pubkey()), funds) for index in range(wallets)]
    holders += [
        (str(trader_keypair(seed, role).pubkey()), _RIVAL_FUNDS if role == "rival" else _TRADER_FUNDS)
        for role in TRADERS
    ]
    for holder, has in holders:
        accounts.update(_holdings(registry, holder, has))
    accounts.update(_mints(registry, pools, accounts))
    if wallets:
        accounts.update(_lookup_tables(pools, str(offline_keypair(seed, 0).pubkey()), slot))
    return list(accounts.items())


def _account(owner: str, data: bytes, lamports: int | None = None) -> ChainAccount:
    return account_of(owner, data, lamports or token_lamports(data) or 0)


def _holdings(registry: Registry, holder: str, funds: Funds) -> Iterable[tuple[str, ChainAccount]]:
    """Return somebody's system account, and an associated account for every token: none has to be opened."""
    yield holder, account_of(SYSTEM_PROGRAM, b"", funds.lamports)
    for token in registry.tokens:
        address = associated_address(holder, token.mint)
        made = token_account(address, token.mint, holder, _amount(token, funds))
        yield address, _account(made[1], made[2])


def _amount(token: Token, funds: Funds) -> int:
    match token.kind:
        case "native":
            return funds.wrapped
        case "stable":
            return funds.usdc if token.mint == USDC_MINT else 0
        case _:
            return funds.staked


def _mints(
    registry: Registry, pools: Iterable[GenesisPool], accounts: dict[str, ChainAccount]
) -> Iterable[tuple[str, ChainAccount]]:
    """Return every token's mint: as much in circulation as all accounts hold, and as a stake pool says at least."""
    issued = {
        staked.mint: issue(pool.address, pool.accounts[0][1], pool.accounts[0][2])
        for pool in pools
        if pool.venue in STAKING and (staked := staked_side(pool.pair)) is not None
    }
    held: dict[str, int] = defaultdict(int)
    for account in accounts.values():
        if len(account.data) == 165:
            held[account.data[:32].hex()] += token_amount(account.data)
    for token in registry.tokens:
        authority, least = issued.get(token.mint, (None, 0))
        # The native mint knows no supply: wrapped SOL is counted as SOL.
        supply = 0 if token.mint == SOL_MINT else max(least, held[key(token.mint).hex()])
        address, owner, data = token_mint(token.mint, token.decimals, supply, authority)
        yield address, _account(owner, data)


def static_accounts(pool: GenesisPool) -> list[str]:
    """Return what swaps with a pool name beside the user's own accounts, both ways, in a fixed order."""
    venue = VENUES[PROTOCOLS[pool.venue]]
    known = {account[0]: (account[1], bytes(account[2])) for account in pool.accounts}
    known |= dict.fromkeys(venue.mints(known[pool.address][1]), (TOKEN_PROGRAM, b""))
    # Tick arrays that a swap may come to later, beside those that it names now.
    program = known[pool.address][0]
    named = dict.fromkeys(address for address, (owner, _) in known.items() if owner == program)
    for a_to_b in (True, False):
        swap = Swap(a_to_b, 1, 0, _NOBODY, _NOBODY, _NOBODY)
        named |= dict.fromkeys(meta.address for meta in venue.swap_instruction(pool.address, known, swap).metas)
    return [address for address in named if address != _NOBODY]


def _lookup_tables(pools: Iterable[GenesisPool], authority: str, slot: int) -> Iterable[tuple[str, ChainAccount]]:
    """Return tables that an authority made a while ago: a pair's pools all in one, so that a cycle names one table."""
    by_pair: dict[str, dict[str, None]] = defaultdict(dict)
    for pool in pools:
        by_pair[pool.pair.name] |= dict.fromkeys(static_accounts(pool))
    tables: list[dict[str, None]] = []
    for named in by_pair.values():
        if not tables or len(tables[-1] | named) > TABLE_MAX:
            # Tip accounts are in none: block engines look for them among a transaction's own keys.
            tables.append({})
        tables[-1] |= named
    for number, addresses in enumerate(tables):
        made = slot - 1_000 + number
        address, _ = derive_lookup_table_address(pubkey(authority), made)
        data = lookup_table(authority, made, list(addresses))
        yield str(address), account_of(TABLE_PROGRAM, data)
