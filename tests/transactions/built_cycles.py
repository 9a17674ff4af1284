"""Cycles over the simulated pools, and what their transactions say when they are read back from their bytes."""

from dataclasses import dataclass
from functools import lru_cache

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey

from localnet.genesis import GenesisPool, genesis
from markets.solana.transactions.cycle import CycleOrder
from markets.solana.transactions.tips import TIP_ACCOUNTS
from markets.solana.venues import VENUES, Accounts, Swap
from markets.solana.venues.shape import TOKEN_PROGRAM
from markets.tokens import SOL_MINT, load_registry
from pipeline.messages import Leg, Protocol

WALLET = Keypair.from_seed(bytes(range(32)))
OWNER = str(WALLET.pubkey())
BLOCKHASH = str(Hash(bytes(range(32))))
PROTOCOLS = {
    "whirlpool": Protocol.WHIRLPOOL,
    "raydium_amm_v4": Protocol.RAYDIUM_AMM_V4,
    "raydium_cpmm": Protocol.RAYDIUM_CPMM,
    "spl_stake_pool": Protocol.SPL_STAKE_POOL,
    "marinade": Protocol.MARINADE,
}


@lru_cache(maxsize=1)
def pools() -> dict[str, list[GenesisPool]]:
    """The simulated pools by pair."""
    found: dict[str, list[GenesisPool]] = {}
    for pool in genesis(load_registry(), 1):
        found.setdefault(pool.pair.name, []).append(pool)
    return found


@lru_cache(maxsize=1)
def chain() -> Accounts:
    """Every account of the simulated pools, and their mints."""
    known: dict[str, tuple[str, bytes]] = {}
    for pool in (pool for pair in pools().values() for pool in pair):
        known |= {account[0]: (account[1], bytes(account[2])) for account in pool.accounts}
        known |= {mint: (TOKEN_PROGRAM, bytes(82)) for mint in (pool.pair.base.mint, pool.pair.quote.mint)}
    return known


@lru_cache(maxsize=1)
def tables() -> tuple[AddressLookupTableAccount, ...]:
    """Lookup tables of everything that swaps name, 256 addresses each."""
    names = dict.fromkeys(TIP_ACCOUNTS)
    for pool in (pool for pair in pools().values() for pool in pair):
        venue = VENUES[PROTOCOLS[pool.venue]]
        for a_to_b in (True, False):
            swap = Swap(a_to_b, 1, int(venue.ENFORCES_MINIMUM), OWNER, OWNER, OWNER)
            names |= dict.fromkeys(meta.address for meta in venue.swap_instruction(pool.address, chain(), swap).metas)
    names.pop(OWNER)
    keys = [Pubkey.from_string(name) for name in names]
    return tuple(
        AddressLookupTableAccount(Pubkey(bytes([at] * 32)), keys[start : start + 256])
        for at, start in enumerate(range(0, len(keys), 256), start=1)
    )


def other_mint(pool: GenesisPool) -> str:
    return next(token.mint for token in (pool.pair.base, pool.pair.quote) if token.mint != SOL_MINT)


def leg(pool: GenesisPool, token_in: str, amount_in: int, amount_out: int) -> Leg:
    mints = {pool.pair.base.mint, pool.pair.quote.mint}
    (token_out,) = mints - {token_in}
    return Leg(
        pool=pool.address,
        protocol=PROTOCOLS[pool.venue],
        token_in=token_in,
        token_out=token_out,
        amount_in=amount_in,
        amount_out=amount_out,
    )


def two_legs(first: GenesisPool, second: GenesisPool, middle: int = 800_000_123) -> list[Leg]:
    """SOL to the pair's other token and back."""
    return [
        leg(first, SOL_MINT, 10**9, middle),
        leg(second, other_mint(first), middle, 10**9 + 10**6),
    ]


def order(legs: list[Leg], **changes: object) -> CycleOrder:
    fields: dict[str, object] = {
        "legs": legs,
        "token": legs[0].token_in,
        "amount_in": legs[0].amount_in,
        "min_amount_out": legs[0].amount_in + 120_000,
        "wallet": OWNER,
        "compute_limit": 250_000,
        "micro_lamports": 40_000,
        "tip": 100_000,
        "tip_account": TIP_ACCOUNTS[3],
    }
    return CycleOrder(**(fields | changes))


@dataclass(frozen=True)
class Read:
    """One instruction of a message, its accounts resolved."""

    program: str
    accounts: list[str]
    data: bytes


def read_back(message: MessageV0, known: tuple[AddressLookupTableAccount, ...] = ()) -> list[Read]:
    """What a validator would execute: instructions with the addresses that their indices mean."""
    by_key = {table.key: table.addresses for table in known}
    keys = list(message.account_keys)
    lookups = message.address_table_lookups
    keys += [by_key[one.account_key][at] for one in lookups for at in one.writable_indexes]
    keys += [by_key[one.account_key][at] for one in lookups for at in one.readonly_indexes]
    names = [str(key) for key in keys]
    return [
        Read(names[one.program_id_index], [names[at] for at in one.accounts], bytes(one.data))
        for one in message.instructions
    ]
