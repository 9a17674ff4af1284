"""Pools for the pipeline's benchmark: pairs that agree until one of them is changed; the quote core's part of that."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from localnet.layouts import Account, cpmm, cpmm_config, simulated_address, token_account
from localnet.publication import HeldState, Publication
from markets.confidence import Factors, confidence
from markets.tokens import LAMPORTS_PER_SOL, SOL_MINT
from pipeline._core import Pool, quote_grids
from pipeline.ids import deterministic_id
from pipeline.messages import PoolState, Protocol, SlotUpdate, Staleness
from pipeline.shm import POOLS, QUOTES_INTERNAL, PoolBlobWriter, QuoteTableWriter

PRODUCER = "bench"
SURE = Factors(age=1.0, hops=0.8, oracle=1.0, provider=1.0, slippage=1.0)
AMOUNTS = (10 * LAMPORTS_PER_SOL,)
DEPTH = 10_000 * LAMPORTS_PER_SOL
FEE_MILLIONTHS = 2_500
GAPS_BPS = (70, 75)
"""The two states that the changing pool of a group takes in turn; both leave a profit after all costs."""


def _pool(group: int, side: str, gap_bps: int) -> Pool:
    """Return a pool of SOL and a token of its own group, the token cheaper by the gap."""
    token = simulated_address("bench-token", group)
    address = simulated_address("bench-pool", group, side)
    vaults = [simulated_address(address, "vault", index) for index in range(2)]
    config = simulated_address("bench-config")
    shape = cpmm(address, (SOL_MINT, token), vaults, (9, 9), lp_supply=DEPTH, config=config)
    accounts: list[Account] = [
        shape,
        cpmm_config(config, FEE_MILLIONTHS),
        token_account(vaults[0], SOL_MINT, address, DEPTH),
        token_account(vaults[1], token, address, DEPTH * (10_000 + gap_bps) // 10_000),
    ]
    return Pool.parse(Protocol.RAYDIUM_CPMM, address, accounts, 0, 0, 0)


@dataclass(slots=True)
class _Group:
    changing: tuple[Pool, ...]
    pool_id: int
    entries: tuple[int, ...]
    turn: int = 0


@dataclass(slots=True)
class World:
    """The quote core's files, and the market that stands behind them.

    Every `per_slot` changes the market's slot goes on. A group comes again after `groups` changes: its plans have
    landed by then, so that a change is one opportunity, and nothing open on the group's pools spoils the next one.
    """

    directory: Path
    groups: int
    per_slot: int
    slot: int = 1
    changed: dict[tuple[str, int], int] = field(default_factory=dict)
    """Wall-clock time of each change, by the changed pool and its slot."""
    table: QuoteTableWriter = field(init=False)
    blobs: PoolBlobWriter = field(init=False)
    _next: int = 0
    _in_slot: int = 0
    _groups: list[_Group] = field(default_factory=list)
    _steady: list[Pool] = field(default_factory=list)
    _worth: dict[int, int] = field(default_factory=dict)
    """What each entry gives, which is taken for what it is worth."""

    def __post_init__(self) -> None:
        """Write every pool once, without a gap."""
        self.table = QuoteTableWriter(self.directory / QUOTES_INTERNAL, 8 * self.groups, 16 * 1024, 8 * self.groups)
        self.blobs = PoolBlobWriter(self.directory / POOLS, 2 * self.groups + 1, 4096)
        for number in range(self.groups):
            steady, level = _pool(number, "steady", 0), _pool(number, "changing", 0)
            self._steady.append(steady)
            self._write(steady, *self._entries(steady))
            pool_id, entries = self._entries(level)
            self._write(level, pool_id, entries)
            gaps = tuple(_pool(number, "changing", gap) for gap in GAPS_BPS)
            self._groups.append(_Group(gaps, pool_id, entries))
        self.commit()

    def change(self) -> None:
        """Change one pool of the next group, at the present slot; seen at the next commit."""
        group = self._groups[self._next]
        self._next = (self._next + 1) % len(self._groups)
        group.turn = 1 - group.turn
        self._in_slot += 1
        at = time.time_ns()
        pool = group.changing[group.turn].at(self.slot, 0, at // 10**9)
        self.changed[pool.address, self.slot] = at
        self._write(pool, group.pool_id, group.entries)

    def commit(self) -> None:
        """Let the readers know."""
        self.table.commit(self.slot, time.time_ns())

    def turn(self, *, now: bool = False) -> SlotUpdate | None:
        """Begin the next slot where this one is full, or `now`; return the market's message of it."""
        if self._in_slot < self.per_slot and not now:
            return None
        self._in_slot = 0
        self.slot += 1
        at = time.time_ns()
        for entry, worth in self._worth.items():
            self.table.refresh(entry, at, confidence(SURE), int(Staleness.FRESH), SURE, worth)
        return SlotUpdate(
            id=deterministic_id("slot", self.slot, at),
            created_ns=at,
            producer=PRODUCER,
            slot=self.slot,
            market_ns=at,
            pools_changed=0,
        )

    def keyframes(self) -> Iterable[PoolState]:
        """Yield the states that the executor fills against: the better ones, as a leg that gives less must revert."""
        publication = Publication(PRODUCER)
        now = time.time_ns()
        for pool in [*self._steady, *(group.changing[-1] for group in self._groups)]:
            yield publication.keyframe(HeldState(pool, self.slot, 0, now), now)

    def heartbeat(self) -> None:
        """Tell the readers that the writer lives."""
        self.table.heartbeat()
        self.blobs.heartbeat()

    def _entries(self, pool: Pool) -> tuple[int, tuple[int, ...]]:
        pool_id = self.table.intern("pool", pool.address)
        one, other = self.table.intern("token", pool.token_a), self.table.intern("token", pool.token_b)
        protocol = int(Protocol.RAYDIUM_CPMM)
        return pool_id, tuple(
            self.table.entry(pool_id, *tokens, protocol=protocol) for tokens in ((one, other), (other, one))
        )

    def _write(self, pool: Pool, pool_id: int, entries: tuple[int, ...]) -> None:
        now = time.time_ns()
        self.blobs.write(pool_id, pool.snapshot(), pool.slot, pool.write_version, now)
        (grid,) = quote_grids([pool], AMOUNTS)
        for entry, (_a_to_b, _index, amount_in, amount_out, _fee, impact) in zip(entries, grid, strict=True):
            assert amount_out
            # Told as the quote core tells what it is sure of, so that the planner's bands let it through.
            self.table.write(
                entry,
                amount_in,
                amount_out,
                pool.slot,
                now,
                impact,
                confidence(SURE),
                oracle_amount_out=amount_out,
                factors=SURE,
            )
            self._worth[entry] = amount_out
