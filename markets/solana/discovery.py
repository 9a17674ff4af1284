"""Find the pools of the known pairs on chain, and leave out early those that nobody can or should trade with.

Every pair is asked for at every venue with getProgramAccounts. A node may refuse, forget or lie: what it answers is
checked against what was asked, and a question without an answer keeps what was known of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol as Interface

from markets.solana.rpc.accounts import MAX_ACCOUNTS, AccountInfo, AccountsAt
from markets.solana.rpc.errors import RpcError
from markets.solana.venues import VENUES, BadAccount, Filters
from markets.solana.venues.shape import TOKEN_PROGRAMS, address_at, number_at
from markets.tokens import SOL_MINT, USDC_MINT, Pair, Registry
from pipeline.messages import Protocol

NS_PER_S = 1_000_000_000
MAX_TOLD = 2_000
"""Left-out pools that are kept by name; the others are counted."""

Progress = Callable[[int, int], None]
"""Told after each question: how many are done, of how many."""


class Chain(Interface):
    """What discovery asks of an RPC client; `markets.solana.rpc.pool.RpcPool` is one."""

    async def get_program_accounts(self, program: str, filters: Sequence[Mapping[str, object]]) -> AccountsAt:
        """Return every account of a program that passes the filters."""

    async def get_accounts(self, addresses: Sequence[str]) -> AccountsAt:
        """Return up to 100 accounts as they stood at one slot."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Which pools are worth following."""

    protocols: tuple[Protocol, ...] = tuple(VENUES)
    min_sol: int = 1_000_000_000
    """Lamports that a pool with SOL must hold."""
    min_usdc: int = 100_000_000
    """Millionths that a pool with USDC, and no SOL, must hold."""
    max_pools: int = 300
    max_pools_per_pair: int = 40
    parallel: int = 4
    """Questions on their way at once."""


@dataclass(frozen=True, slots=True)
class FoundPool:
    """One pool that can be followed."""

    address: str
    protocol: Protocol
    program: str
    pair: str
    mint_a: str
    mint_b: str
    held_a: int | None = None
    """Base units in the vault when the pool was found; None where a side is not held in a token account."""
    held_b: int | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One pool that was found and is not followed."""

    address: str
    protocol: Protocol
    pair: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What one look at the chain gave."""

    pools: tuple[FoundPool, ...]
    """By pair, the largest first."""
    left_out: tuple[LeftOut, ...]
    """At most `MAX_TOLD` of them."""
    reasons: Mapping[str, int]
    """How many were left out, by reason."""
    failed: tuple[str, ...]
    """Questions without an answer, in words; what was known of them is kept."""
    slot: int
    found_ns: int
    """Wall-clock time."""


@dataclass(frozen=True, slots=True)
class Changes:
    """How one look differs from the one before."""

    added: tuple[FoundPool, ...]
    gone: tuple[LeftOut, ...]
    """Followed before and no longer, with the reason: `gone` where the chain does not show them any more."""


@dataclass(frozen=True, slots=True)
class Question:
    """One getProgramAccounts call."""

    protocol: Protocol
    program: str
    pair: Pair
    filters: Filters


@dataclass(slots=True)
class _Collected:
    """What has come together so far."""

    unix_time: int
    known: Mapping[str, FoundPool]
    candidates: dict[str, tuple[FoundPool, bytes]] = field(default_factory=dict)
    kept: dict[str, FoundPool] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    slot: int = 0

    def leave_out(self, pool: FoundPool, reason: str) -> None:
        """Note a pool that is not followed."""
        self.left_out[pool.address] = LeftOut(pool.address, pool.protocol, pool.pair, reason)


def questions(registry: Registry, limits: Limits) -> list[Question]:
    """Return every call that is to be made, in a fixed order."""
    return [
        Question(protocol, program, pair, filters)
        for pair in registry.pairs
        for protocol in limits.protocols
        for program in VENUES[protocol].PROGRAMS
        for filters in VENUES[protocol].discovery_filters(pair.base.mint, pair.quote.mint)
    ]


async def find_pools(
    chain: Chain,
    registry: Registry,
    limits: Limits,
    known: Iterable[FoundPool],
    *,
    now_ns: int,
    progress: Progress | None = None,
) -> Found:
    """Ask for the pools of every pair. `known` are those that were followed until now; `now_ns` is wall-clock time."""
    unix_time = now_ns // NS_PER_S
    asked = questions(registry, limits)
    answered = 0
    collected = _Collected(unix_time, {pool.address: pool for pool in known})
    gate = asyncio.Semaphore(limits.parallel)

    async def ask(question: Question) -> None:
        nonlocal answered
        async with gate:
            await _ask(chain, question, collected)
        answered += 1
        if progress is not None:
            progress(answered, len(asked))

    await asyncio.gather(*(ask(question) for question in asked))
    await _ask_for_missing(chain, gate, collected, registry)
    followed = await _measured(chain, gate, collected, limits)
    followed += [pool for address, pool in collected.kept.items() if address not in collected.candidates]
    pools = _within(followed, collected, limits)
    reasons: dict[str, int] = {}
    for one in collected.left_out.values():
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    told = sorted(collected.left_out.values(), key=lambda one: (one.address not in collected.known, one.address))
    return Found(tuple(pools), tuple(told[:MAX_TOLD]), reasons, tuple(sorted(collected.failed)), collected.slot, now_ns)


def changes(before: Found | None, after: Found) -> Changes:
    """Return which pools have come and which have gone, and why."""
    old = {pool.address: pool for pool in before.pools} if before is not None else {}
    new = {pool.address for pool in after.pools}
    reasons = {one.address: one.reason for one in after.left_out}
    gone = [
        LeftOut(address, pool.protocol, pool.pair, reasons.get(address, "gone"))
        for address, pool in old.items()
        if address not in new
    ]
    return Changes(tuple(pool for pool in after.pools if pool.address not in old), tuple(gone))


async def _ask(chain: Chain, question: Question, collected: _Collected) -> None:
    """Ask one question and sort its answer."""
    name = question.pair.name
    try:
        answer = await chain.get_program_accounts(question.program, question.filters.rpc())
    except RpcError as error:
        collected.failed.append(f"{question.protocol.name.lower()} {name}: {error}")
        collected.kept |= {
            pool.address: pool
            for pool in collected.known.values()
            if pool.program == question.program and pool.pair == name
        }
        return
    collected.slot = max(collected.slot, answer.slot)
    for account in answer.accounts.values():
        if account is not None:
            _take(account, question.protocol, question.program, question.pair, collected)


def _take(account: AccountInfo, protocol: Protocol, program: str, pair: Pair, collected: _Collected) -> None:
    """Take a pool over as a candidate, or leave it out for what its own bytes say."""
    venue = VENUES[protocol]
    pool = FoundPool(account.address, protocol, program, pair.name, "", "")
    reason: str | None = "wrong_owner"
    if account.owner == program:
        try:
            mint_a, mint_b = venue.mints(account.data)
            pool = replace(pool, mint_a=mint_a, mint_b=mint_b)
            reason = "unknown_pair"
            if frozenset((mint_a, mint_b)) == pair.mints:
                reason = venue.unusable(account.data, collected.unix_time, collected.slot)
        except BadAccount as error:
            reason = error.reason
    if reason is None:
        collected.candidates[account.address] = pool, account.data
    else:
        collected.leave_out(pool, reason)


async def _ask_for_missing(chain: Chain, gate: asyncio.Semaphore, collected: _Collected, registry: Registry) -> None:
    """Read the pools that were followed and that no answer named: a node may have forgotten them, not the chain."""
    named = collected.candidates.keys() | collected.left_out.keys() | collected.kept.keys()
    missing = sorted(collected.known.keys() - named)

    async def read(addresses: list[str]) -> None:
        async with gate:
            try:
                answer = await chain.get_accounts(addresses)
            except RpcError as error:
                collected.failed.append(f"{len(addresses)} pools that are no longer found: {error}")
                collected.kept |= {address: collected.known[address] for address in addresses}
                return
        for address in addresses:
            pool, account = collected.known[address], answer.accounts.get(address)
            pair = registry.pair(pool.mint_a, pool.mint_b)
            if account is not None and pair is not None and pool.protocol in VENUES:
                _take(account, pool.protocol, pool.program, pair, collected)

    await asyncio.gather(*(read(missing[at : at + MAX_ACCOUNTS]) for at in range(0, len(missing), MAX_ACCOUNTS)))


async def _measured(chain: Chain, gate: asyncio.Semaphore, collected: _Collected, limits: Limits) -> list[FoundPool]:
    """Look into the vaults, and leave out pools that hold too little."""
    sides: dict[str, tuple[str | None, str | None]] = {}
    for address, (pool, data) in collected.candidates.items():
        sides[address] = VENUES[pool.protocol].vaults(data)
    wanted = sorted({vault for pair in sides.values() for vault in pair if vault is not None})
    vaults: dict[str, AccountInfo | None] = {}

    async def read(addresses: list[str]) -> None:
        async with gate:
            try:
                answer = await chain.get_accounts(addresses)
            except RpcError as error:
                collected.failed.append(f"{len(addresses)} vaults: {error}")
                return
        vaults.update(answer.accounts)

    await asyncio.gather(*(read(wanted[at : at + MAX_ACCOUNTS]) for at in range(0, len(wanted), MAX_ACCOUNTS)))
    followed = []
    for address, (pool, _) in collected.candidates.items():
        held, reason = _holdings(pool, sides[address], vaults)
        measured = replace(pool, held_a=held[0], held_b=held[1])
        reason = reason or _too_small(measured, limits)
        if reason is None:
            followed.append(measured)
        elif reason == "vault_unread" and address in collected.known:
            followed.append(collected.known[address])
        else:
            collected.leave_out(pool, reason)
    return followed


def _holdings(
    pool: FoundPool, sides: tuple[str | None, str | None], vaults: Mapping[str, AccountInfo | None]
) -> tuple[list[int | None], str | None]:
    """Return what a pool's vaults hold, and what is wrong with them."""
    held: list[int | None] = []
    reason = None
    for vault, mint in zip(sides, (pool.mint_a, pool.mint_b), strict=True):
        amount, problem = None, None
        if vault is not None and vault not in vaults:
            # Nobody told: a pool that was followed goes on, a new one waits for the next look.
            problem = "vault_unread"
        elif vault is not None:
            amount, problem = _balance(vaults[vault], mint)
        held.append(amount)
        reason = reason or problem
    return held, reason


def _balance(account: AccountInfo | None, mint: str) -> tuple[int | None, str | None]:
    """Return what a vault holds, or why it is none."""
    if account is None:
        return None, "missing_vault"
    try:
        if account.owner not in TOKEN_PROGRAMS or address_at(account.data, 0) != mint:
            return None, "foreign_vault"
        return number_at(account.data, 64, "Q"), None
    except BadAccount:
        return None, "foreign_vault"


def _too_small(pool: FoundPool, limits: Limits) -> str | None:
    """Return `too_small` for a pool that holds less than is worth following."""
    held = {pool.mint_a: pool.held_a, pool.mint_b: pool.held_b}
    for mint, least in ((SOL_MINT, limits.min_sol), (USDC_MINT, limits.min_usdc)):
        if mint in held:
            amount = held[mint]
            return "too_small" if amount is not None and amount < least else None
    return None


def _within(followed: list[FoundPool], collected: _Collected, limits: Limits) -> list[FoundPool]:
    """Return the largest pools that the limits have room for, by pair."""

    def size(pool: FoundPool) -> tuple[int, str]:
        held = {pool.mint_a: pool.held_a, pool.mint_b: pool.held_b}
        amounts = [held[mint] for mint in (SOL_MINT, USDC_MINT) if mint in held]
        # Stake pools hold nothing in vaults and are few: they come first.
        amount = amounts[0] if amounts else 0
        return (-(1 << 64) if amount is None else -amount, pool.address)

    by_pair: dict[str, list[FoundPool]] = {}
    for pool in sorted(followed, key=size):
        by_pair.setdefault(pool.pair, []).append(pool)
    ranked = [(rank, pair, pool) for pair, pools in by_pair.items() for rank, pool in enumerate(pools)]
    # Every pair's largest pool before any pair's second one.
    ranked.sort(key=lambda one: one[:2])
    kept: list[FoundPool] = []
    for rank, _, pool in ranked:
        if rank >= limits.max_pools_per_pair or len(kept) >= limits.max_pools:
            collected.leave_out(pool, "over_limit")
        else:
            kept.append(pool)
    return sorted(kept, key=lambda pool: (pool.pair, size(pool)))
