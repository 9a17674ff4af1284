"""What every venue module offers, and the values they speak in.

A venue module says where its program's pools are found, which accounts a quote needs beside the pool itself, and what
a swap looks like on chain. It reads addresses and flags out of accounts; amounts are the business of `Pool.parse`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Literal
from typing import Protocol as Interface

import base58
from solders.pubkey import Pubkey

from markets.tokens import SOL_MINT
from pipeline.messages import Protocol

TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
TOKEN_2022_PROGRAM = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"
TOKEN_PROGRAMS = (TOKEN_PROGRAM, TOKEN_2022_PROGRAM)
MEMO_PROGRAM = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
SYSTEM_PROGRAM = "11111111111111111111111111111111"
STAKE_PROGRAM = "Stake11111111111111111111111111111111111111"
CLOCK_SYSVAR = "SysvarC1ock11111111111111111111111111111111"
STAKE_HISTORY_SYSVAR = "SysvarStakeHistory1111111111111111111111111"
SLOTS_PER_EPOCH = 432_000
"""Mainnet's schedule, as in the core."""

Accounts = Mapping[str, tuple[str, bytes]]
"""What is known of the chain: (owner, data) by address."""

Role = Literal["vault", "config", "mint", "tick_array", "bin_array", "bitmap", "oracle", "reserve", "fees"]


class Refresh(Enum):
    """How a venue's pools move, which decides how often they are looked at."""

    CONSTANT_PRODUCT = "constant_product"
    """The price stands in the vaults: it moves with every swap and with nothing else."""
    CONCENTRATED = "concentrated"
    """The price stands in the pool account, the liquidity in arrays that change when positions do."""
    STAKE = "stake"
    """The rate moves once an epoch, what can be withdrawn moves with every use."""


class BadAccount(ValueError):
    """Bytes that are no pool of this venue; `reason` is stable."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the reason beside the sentence."""
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Memcmp:
    """Bytes that an account must hold at an offset."""

    offset: int
    data: bytes

    def rpc(self) -> dict[str, object]:
        """Return the filter as getProgramAccounts takes it."""
        return {"memcmp": {"offset": self.offset, "bytes": base58.b58encode(self.data).decode(), "encoding": "base58"}}


@dataclass(frozen=True, slots=True)
class Filters:
    """One getProgramAccounts question: all of its conditions hold."""

    memcmp: tuple[Memcmp, ...]
    data_size: int | None = None
    """Bytes of the account; None where the program gives its pools more than one size."""

    def rpc(self) -> list[dict[str, object]]:
        """Return the filters as getProgramAccounts takes them."""
        size: list[dict[str, object]] = [] if self.data_size is None else [{"dataSize": self.data_size}]
        return [*size, *(condition.rpc() for condition in self.memcmp)]

    def matches(self, data: bytes) -> bool:
        """Tell whether an account's bytes pass, as the node decides it."""
        return (self.data_size is None or len(data) == self.data_size) and all(
            data[condition.offset : condition.offset + len(condition.data)] == condition.data
            for condition in self.memcmp
        )


@dataclass(frozen=True, slots=True)
class Needed:
    """One account that a pool's quotes need beside the pool itself."""

    address: str
    role: Role
    owners: tuple[str, ...]
    """Programs that may own it; an account of another owner is not what it should be."""
    may_be_absent: bool = False
    """True where its absence on chain is a state of its own, and no failure: a tick array without positions."""

    @property
    def moves(self) -> bool:
        """Tell whether swaps change what is quoted from it; looking seldom at the others is enough."""
        return self.role not in ("config", "mint", "fees")


@dataclass(frozen=True, slots=True)
class Meta:
    """One account of an instruction."""

    address: str
    signer: bool = False
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, as it stands in a transaction."""

    program: str
    metas: tuple[Meta, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Swap:
    """A swap of an exact input, and who makes it."""

    a_to_b: bool
    amount_in: int
    min_amount_out: int
    user: str
    """Signer; owner of both token accounts."""
    source: str
    """Token account that pays. Where a program takes lamports instead, the user pays and this is not read."""
    destination: str
    """Token account that receives; not read where a program gives lamports to the user."""


class Venue(Interface):
    """One module per program. Every module of `VENUES` has exactly this shape."""

    @property
    def PROTOCOL(self) -> Protocol:  # noqa: N802  a constant of the module
        """Return the venue's number in the schemas."""

    @property
    def PROGRAMS(self) -> tuple[str, ...]:  # noqa: N802  a constant of the module
        """Return the programs with this layout: one, or several deployments of one."""

    @property
    def REFRESH(self) -> Refresh:  # noqa: N802  a constant of the module
        """Return how its pools move."""

    @property
    def ENFORCES_MINIMUM(self) -> bool:  # noqa: N802  a constant of the module
        """Tell whether a swap can be given a least output, under which it fails."""

    @property
    def NATIVE_SOL(self) -> bool:  # noqa: N802  a constant of the module
        """Tell whether SOL is taken from the user and given to them as lamports, not as wrapped SOL."""

    def discovery_filters(self, mint_a: str, mint_b: str) -> tuple[Filters, ...]:
        """Return the questions whose answers together are all pools of two mints, whatever their order."""

    def mints(self, data: bytes) -> tuple[str, str]:
        """Return token a and token b of a pool.

        Raises:
            BadAccount: if the bytes are no pool of this venue.
        """

    def unusable(self, data: bytes, unix_time: int, slot: int = 0) -> str | None:
        """Return why nobody can swap with this pool now, as far as the pool's own bytes tell; None where it may do."""

    def vaults(self, data: bytes) -> tuple[str | None, str | None]:
        """Return the token accounts that hold token a and b; None for a side that is not held in one."""

    def accounts_needed(self, address: str, data: bytes, known: Accounts) -> tuple[Needed, ...]:
        """Return what `Pool.parse` needs beside the pool itself, in a fixed order.

        The list follows the pool's state: ask again whenever the pool's bytes change. `known` lets a venue look into
        accounts that were fetched before (bitmaps that tell which arrays exist); an empty mapping is always allowed.
        """

    def swap_instruction(self, address: str, accounts: Accounts, swap: Swap) -> Instruction:
        """Return the instruction of a swap; `accounts` holds the pool and what `accounts_needed` names.

        Raises:
            BadAccount: if an account that decides the instruction is missing, with the reason `missing_account`.
        """


def address_at(data: bytes, offset: int) -> str:
    """Return the address at an offset."""
    if len(data) < offset + 32:
        raise BadAccount("short_data", f"an address is wanted at offset {offset}, the account has {len(data)} bytes")
    return _encoded(data[offset : offset + 32])


@lru_cache(maxsize=65_536)
def _encoded(raw: bytes) -> str:
    address: str = base58.b58encode(raw).decode()
    return address


@lru_cache(maxsize=65_536)
def key(address: str) -> bytes:
    """Return an address as its 32 bytes."""
    raw: bytes = base58.b58decode(address)
    if len(raw) != 32:
        raise BadAccount("bad_address", f"{address!r} is not 32 bytes in base58")
    return raw


def number_at(data: bytes, offset: int, layout: str) -> int:
    """Return one little-endian integer; `layout` is its letter in `struct`."""
    try:
        value: int = struct.unpack_from(f"<{layout}", data, offset)[0]
    except struct.error:
        raise BadAccount("short_data", f"the account has only {len(data)} bytes") from None
    return value


def check(data: bytes, start: bytes, what: str, size: int) -> None:
    """Refuse bytes that do not begin like an account of this kind, or are too short for one.

    Raises:
        BadAccount: with the reason.
    """
    if data[: len(start)] != start:
        raise BadAccount("wrong_discriminator", f"not a {what} account")
    if len(data) < size:
        raise BadAccount("short_data", f"a {what} account has {size} bytes, this one {len(data)}")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the pool accounts of a program keep what every pool of two vaults has."""

    what: str
    start: bytes
    """Discriminator; empty where the size is all that tells an account."""
    size: int
    mint_offsets: tuple[int, int]
    vault_offsets: tuple[int, int]
    sorted_mints: bool
    """True where the program keeps both mints in the order of their bytes."""

    def check(self, data: bytes) -> None:
        """Refuse bytes that are no pool.

        Raises:
            BadAccount: with the reason.
        """
        check(data, self.start, self.what, self.size)
        if len(data) != self.size:
            raise BadAccount("short_data", f"a {self.what} account has {self.size} bytes, this one {len(data)}")

    def filters(self, mint_a: str, mint_b: str) -> tuple[Filters, ...]:
        """Return the questions for the pools of two mints: one where mints are sorted, else one for each order."""
        mints = (key(mint_a), key(mint_b))
        orders = [sorted(mints)] if self.sorted_mints else [mints, mints[::-1]]
        start = (Memcmp(0, self.start),) if self.start else ()
        first, second = self.mint_offsets
        return tuple(Filters((*start, Memcmp(first, a), Memcmp(second, b)), self.size) for a, b in orders)

    def mints(self, data: bytes) -> tuple[str, str]:
        """Return token a and token b."""
        self.check(data)
        return address_at(data, self.mint_offsets[0]), address_at(data, self.mint_offsets[1])

    def vaults(self, data: bytes) -> tuple[str, str]:
        """Return the vaults of token a and token b."""
        self.check(data)
        return address_at(data, self.vault_offsets[0]), address_at(data, self.vault_offsets[1])

    def holdings(self, data: bytes) -> tuple[Needed, ...]:
        """Return vaults and mints as accounts that are needed."""
        vaults = (Needed(vault, "vault", TOKEN_PROGRAMS) for vault in self.vaults(data))
        return (*vaults, *mints_needed(*self.mints(data)))


def staked_filters(start: bytes, mint_offset: int, mint_a: str, mint_b: str) -> tuple[Filters, ...]:
    """Return the question for the stake pools of two mints: none where neither is SOL."""
    if SOL_MINT not in (mint_a, mint_b):
        return ()
    staked = mint_b if mint_a == SOL_MINT else mint_a
    return (Filters((Memcmp(0, start), Memcmp(mint_offset, key(staked)))),)


def discriminator(name: str, space: str = "global") -> bytes:
    """Return the eight bytes by which programs built with Anchor know an instruction or an account."""
    return hashlib.sha256(f"{space}:{name}".encode()).digest()[:8]


@lru_cache(maxsize=65_536)
def derived(program: str, *seeds: bytes) -> str:
    """Return the address that a program derives from seeds."""
    return str(Pubkey.find_program_address(list(seeds), Pubkey.from_string(program))[0])


def mints_needed(*mints: str) -> tuple[Needed, ...]:
    """Return the mints: they tell transfer fees and the token program."""
    return tuple(Needed(mint, "mint", TOKEN_PROGRAMS) for mint in mints)


def token_program(accounts: Accounts, mint: str) -> str:
    """Return the token program of a mint.

    Raises:
        BadAccount: if the mint is not known, or belongs to no token program.
    """
    owner = data_of(accounts, mint, "mint")[0]
    if owner not in TOKEN_PROGRAMS:
        raise BadAccount("wrong_owner", f"mint {mint} is owned by {owner}, not by a token program")
    return owner


def data_of(accounts: Accounts, address: str, what: str) -> tuple[str, bytes]:
    """Return (owner, data) of an account that must be known.

    Raises:
        BadAccount: if it is not.
    """
    found = accounts.get(address)
    if found is None:
        raise BadAccount("missing_account", f"the {what} {address} is not among the accounts")
    return found


def sides(swap: Swap, side_a: str, side_b: str) -> tuple[str, str]:
    """Return what belongs to token a and b as (given, taken)."""
    return (side_a, side_b) if swap.a_to_b else (side_b, side_a)
