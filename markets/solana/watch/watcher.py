"""Keeps pools fresh: listens, reads, and hands over what was read in batches. The I/O beside `book` and `schedule`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markets.limits import NS_PER_S, Clock
from markets.solana.rpc.accounts import AccountsAt, Malformed, accounts_at, packed
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import Priority
from markets.solana.rpc.socket import AccountSocket
from markets.solana.watch.book import MAX_GROUP, Again, Changed, Older, Outcome, PoolBook, PoolRead, Void, WatchedPool
from markets.solana.watch.chain_time import CLOCK, read_clock
from markets.solana.watch.chain_time import Clock as ChainClock
from markets.solana.watch.schedule import Rank, Schedule

_ROUNDS = 4
"""Reads in a row of a pool whose accounts turn out to be others than were read."""
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Batch:
    """What became known at one moment."""

    slot: int
    clock: ChainClock | None
    """The chain's clock, where a read told it."""
    changed: tuple[PoolRead, ...] = ()
    confirmed: tuple[str, ...] = ()
    void: tuple[Void, ...] = ()


@dataclass(slots=True)
class WatchFigures:
    """What the watcher has done."""

    notified: int = 0
    """Notifications that told of a change."""
    changed: int = 0
    confirmed: int = 0
    older: int = 0
    """Reads of an older slot than was known, which changed nothing."""
    moved: int = 0
    """Reads repeated because the price had moved on to other accounts."""
    unannounced: int = 0
    """Changes of subscribed pools that a poll found and no notification told."""
    stale: int = 0
    """Pools that are stale now."""
    failure: str = ""
    """Why the last read failed; empty when one succeeded since."""


class Watcher:
    """Reads the pools of a book as the schedule says. `run` it as a task."""

    def __init__(
        self,
        rpc: RpcPool,
        sockets: Sequence[AccountSocket],
        book: PoolBook,
        schedule: Schedule,
        on_batch: Callable[[Batch], None],
        *,
        batch_s: float = 0.02,
        sweep_s: float = 5.0,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        """`on_batch` is called with every read, and with every slot that a socket tells."""
        self.figures = WatchFigures()
        self._rpc = rpc
        self._sockets = sockets
        self._book = book
        self._schedule = schedule
        self._on_batch = on_batch
        self._batch_s = batch_s
        self._sweep_s = sweep_s
        self._clock = clock
        self._wake = asyncio.Event()
        self._reads: set[asyncio.Task[None]] = set()
        self._unannounced: dict[str, int] = {}
        self._slot = 0
        self._version = -1
        self._failure: BaseException | None = None

    # What the owner says

    def add(self, pool: WatchedPool) -> None:
        """Keep a pool fresh from now on."""
        if self._book.add(pool):
            self._schedule.add(pool.address, slow=self._book.slow(pool.address))
            self._wake.set()

    def remove(self, address: str) -> None:
        """Leave a pool alone from now on."""
        self._book.remove(address)
        self._schedule.remove(address)
        self._unannounced.pop(address, None)

    def request(self, address: str) -> bool:
        """Read a pool before all others: somebody waits for it. False for one that is not kept."""
        known = self._schedule.urgent(address)
        self._wake.set()
        return known

    # Tasks

    async def run(self) -> None:
        """Read, listen and sweep until cancelled; a part that fails ends the others with it."""
        parts = [self._read_on(), self._sweep_on(), self._match_on()]
        parts += [part for socket in self._sockets for part in (socket.run(), self._listen_to(socket))]
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(part)
        finally:
            for task in self._reads:
                task.cancel()

    async def _read_on(self) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            for turn in self._schedule.begin():
                groups = {pool: self._book.group(pool) for pool in turn.pools}
                for call in packed(groups.values(), MAX_GROUP):
                    pools = [group[0] for group in call]
                    task = asyncio.create_task(self._read(pools, turn.rank))
                    self._reads.add(task)
                    task.add_done_callback(self._read_ended)
            self._wake.clear()
            try:
                async with asyncio.timeout(self._schedule.wait_s() + 0.001):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _read_ended(self, task: asyncio.Task[None]) -> None:
        self._reads.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
        self._wake.set()

    async def _read(self, pools: list[str], rank: Rank) -> None:
        """Read pools in one call, and again those that need other accounts than were read."""
        priority = Priority.NORMAL if rank is Rank.DUE else Priority.URGENT
        open_ = dict.fromkeys(pools)
        try:
            for _ in range(_ROUNDS):
                groups = [self._book.group(pool) for pool in open_ if pool in self._schedule]
                # A pool may have come to need more accounts: what fitted one call may need two.
                for call in packed(groups, MAX_GROUP):
                    answered = [group[0] for group in call]
                    again = await self._read_once(answered, call, rank, priority)
                    for pool in set(answered).difference(again):
                        del open_[pool]
                self.figures.moved += len(open_)
                if not open_:
                    return
        except RpcError as error:
            self.figures.failure = str(error)
            # Asking for a slot that nobody has reached would fail for ever.
            self._book.forget_least_slot(open_)
        finally:
            # Whatever happened, no pool stays under way.
            self._schedule.failed(open_)

    async def _read_once(
        self, pools: list[str], groups: Sequence[Sequence[str]], rank: Rank, priority: Priority
    ) -> list[str]:
        """Make one call and hand over what it tells; return the pools that need other accounts."""
        addresses = list(dict.fromkeys([*(address for group in groups for address in group), CLOCK]))
        least = self._book.least_slot(pools)
        at, clock = await self._get(addresses, least, priority)
        self.figures.failure = ""
        self._slot = max(self._slot, at.slot)
        outcomes = [self._book.read(pool, at, clock.unix_time) for pool in pools if pool in self._schedule]
        self._hand_over(at.slot, clock, outcomes, rank)
        return [outcome.pool for outcome in outcomes if isinstance(outcome, Again)]

    async def _get(self, addresses: list[str], least_slot: int, priority: Priority) -> tuple[AccountsAt, ChainClock]:
        """Return accounts with the chain's clock of the same slot."""

        def read(result: Any) -> tuple[AccountsAt, ChainClock]:
            at = accounts_at(addresses, result)
            clock = at.accounts[CLOCK]
            if clock is None:
                raise Malformed("the chain has no clock")
            try:
                return at, read_clock(clock.data)
            except ValueError as error:
                raise Malformed(str(error)) from None

        options: dict[str, object] = {"encoding": "base64", "commitment": self._rpc.settings.commitment}
        if least_slot:
            options["minContextSlot"] = least_slot
        return await self._rpc.call(
            "getMultipleAccounts", [addresses, options], read=read, priority=priority, min_slot=least_slot
        )

    def _hand_over(self, slot: int, clock: ChainClock, outcomes: Sequence[Outcome], rank: Rank) -> None:
        changed: list[PoolRead] = []
        confirmed: list[str] = []
        void: list[Void] = []
        for outcome in outcomes:
            match outcome:
                case Changed(state):
                    changed.append(state)
                    self._schedule.done(state.address)
                    self._note_unannounced(state.address, rank)
                case Void():
                    void.append(outcome)
                    self._schedule.done(outcome.pool)
                case Older(pool):
                    self.figures.older += 1
                    self._schedule.done(pool, confirmed=False)
                case Again():
                    pass  # still under way
                case _:
                    confirmed.append(outcome.pool)
                    self._schedule.done(outcome.pool)
        self.figures.changed += len(changed)
        self.figures.confirmed += len(confirmed)
        self._on_batch(Batch(slot, clock, tuple(changed), tuple(confirmed), tuple(void)))

    # Listening

    async def _listen_to(self, socket: AccountSocket) -> None:
        """Turn notifications into reads, a short while after the first of them: one swap writes several accounts."""
        while True:
            await socket.news.wait()
            await asyncio.sleep(self._batch_s)
            for account, note in socket.take().items():
                for pool in self._book.notified(account, note.slot, note.account):
                    self.figures.notified += 1
                    self._unannounced.pop(pool, None)
                    self._schedule.dirty(pool)
                    self._wake.set()
            if socket.slot > self._slot:
                self._slot = socket.slot
                self._on_batch(Batch(socket.slot, None))

    def _note_unannounced(self, pool: str, rank: Rank) -> None:
        """Remember a change that a poll found first: its notification should come soon."""
        if rank is Rank.DUE and self._heard(pool):
            self._unannounced.setdefault(pool, self._clock())

    def _heard(self, pool: str) -> bool:
        listened = self._book.listened(pool)
        return any(socket.subscribed(listened) for socket in self._sockets)

    async def _match_on(self) -> None:
        """Keep the subscriptions at what the pools need, and the schedule at what is subscribed."""
        while True:
            if self._book.version != self._version:
                self._version = self._book.version
                wanted = self._book.all_listened()
                for socket in self._sockets:
                    socket.want(wanted)
            for pool in self._book:
                self._schedule.subscribed(pool, self._heard(pool))
            self._wake.set()
            await asyncio.sleep(_LOOK_S)

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s)
            self.figures.stale = len(self._schedule.sweep())
            horizon = self._clock() - int(self._sweep_s * NS_PER_S)
            silent = [pool for pool, since in self._unannounced.items() if since < horizon]
            if silent:
                self.figures.unannounced += len(silent)
                self._unannounced.clear()
                for socket in self._sockets:
                    socket.renew("did not tell of a change")
            self._wake.set()
