"""Follow the wallets' final history, book it, and hold the books against the balances.

One pass: read the balances at a final slot, then every transaction up to it, explain them, and book all of it with the
slot as the new position. So the balances and the transactions are of one moment, and a crash anywhere repeats the pass.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from markets.solana.rpc.endpoint import EndpointSettings
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.transactions.effects import Effect
from pipeline.context import WorkerContext
from pipeline.crashpoint import crashpoint
from pipeline.ledger import (
    AccountState,
    Advanced,
    ChainMoved,
    ChainPosition,
    Held,
    Ledger,
    PlanLink,
    Step,
    WalkedTransaction,
)
from workers.auditor.chain_reader import Reader
from workers.auditor.desk import Desk
from workers.auditor.endpoints import Endpoints
from workers.auditor.explain import explain
from workers.auditor.snapshot import reconciliation
from workers.auditor.valuation import value_of
from workers.auditor.walk import Contradiction, Entry, Read, apart, balances, in_order, lay, settle_untouched

_NO_CHAIN_YET_S = 0.25
_TELL_S = 3.0
_DISCOVER_S = 10.0
_ROUNDS = 4
_FAR_SLOTS = 1_000
"""Every node tells of so many slots."""


class _Again(Exception):
    """Something was found that was not asked for: read once more with it."""


class _NotYet(Exception):
    """Accounts hold something else than their histories tell, which may only be late."""


@dataclass(frozen=True, slots=True)
class _Look:
    """Where one pass stands, and how far it goes."""

    position: ChainPosition
    height: int
    """Of a block that is final at `through`, or a lower one."""
    stored: dict[str, AccountState]
    tracked: dict[str, str]
    """Address -> wallet; grows while accounts turn up."""
    through: int
    """Up to and with this slot."""
    reads: dict[str, Read] | None
    """The accounts at that slot; None where it was not to be had."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What one pass read, in order."""

    transactions: list[tuple[Entry, int, Effect]]
    states: dict[str, AccountState]


class ChainDesk:
    """Books one chain after the other, as they come."""

    def __init__(self, context: WorkerContext, desk: Desk, ledger: Ledger, wallets: Sequence[str]) -> None:
        """Follow these wallets."""
        self._context = context
        self._desk = desk
        self._ledger = ledger
        self._wallets = wallets
        desk.wallets = frozenset(wallets)
        self._settings = context.config.auditor
        self._offline = context.config.executor.mode == "localnet"
        self._first_seen: dict[str, float] = {}
        """Signatures that nothing explains yet, and since when (monotonic, s)."""
        self._apart: dict[str, float] = {}
        """Accounts that hold something else than their histories tell, and since when (monotonic, s)."""
        self._told: dict[str, Held] = {}
        self._told_at = 0.0
        self._discovered: dict[str, str] = {}
        self._discovered_at = -math.inf

    async def run(self) -> None:
        """Follow the chain for ever; wait for it where it is not there yet, and find it again where it moved."""
        endpoints = Endpoints(self._context.config)
        while True:
            place = endpoints.now()
            if not place:
                await asyncio.sleep(_NO_CHAIN_YET_S)
                continue
            async with AsyncExitStack() as stack:
                pool = await stack.enter_async_context(endpoints.open(place, self._counted))
                await self._follow(pool, endpoints, place)

    def _counted(self, failed: bool) -> None:
        self._context.health.rpc_calls += 1
        self._context.health.rpc_failures += failed

    async def _follow(self, pool: RpcPool, endpoints: Endpoints, place: tuple[EndpointSettings, ...]) -> None:
        """Read one chain as long as it is at these endpoints."""
        reader = Reader(pool, self._wallets, endpoints.instance)
        keeping = asyncio.create_task(pool.keep(5.0))
        try:
            while endpoints.now() in (place, ()):
                try:
                    await self.look(reader)
                    self._context.health.recovered(cause="chain")
                except (RpcError, Contradiction) as error:
                    self._context.health.degraded(f"chain: {error}", cause="chain")
                    self._context.log.warning("the chain cannot be read; trying again", error=str(error))
                except ChainMoved:
                    self._told.clear()
                    reader.begin_anew()
                await asyncio.sleep(self._settings.walk_s)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def look(self, reader: Reader) -> None:
        """Make one pass: read, explain, book and tell everything that has become final.

        Raises:
            RpcError: if the chain does not answer.
            Contradiction: if what it says cannot all be right.
            ChainMoved: if another auditor was faster, or the books begin anew.
        """
        genesis = await reader.genesis()
        position = await self._position(reader, genesis)
        height_slot, height = await reader.height()
        stored = await self._desk.do(lambda: self._ledger.accounts(position.number))
        # A wallet that the books know is followed on, whoever takes it out of the configuration.
        reader.wallets |= {state.wallet for state in stored.values()}
        self._desk.wallets = reader.wallets
        tracked = {address: state.wallet for address, state in stored.items()} | {one: one for one in reader.wallets}
        tracked |= await self._token_accounts(reader)
        for _ in range(_ROUNDS):
            through, reads = await reader.read(tracked, max(position.walked_slot, 0))
            if through <= position.walked_slot:
                await self._say_again()
                return
            await self._check_reach(reader, position, through)
            # Another node may be behind: what landed up to that height need not be told by it yet.
            known = height if height_slot <= through else position.block_height
            look = _Look(position, known, stored, tracked, through, reads)
            try:
                found = await self._walk(reader, look)
            except _Again:
                continue
            except _NotYet:
                await self._say_again()
                return
            if await reader.genesis() != genesis:
                return  # begun anew meanwhile: nothing of this pass is of one chain
            await self._book(reader, look, found)
            return
        raise Contradiction("accounts of the wallets turned up again and again")

    async def _position(self, reader: Reader, genesis: str) -> ChainPosition:
        """Return the books of this chain: they begin with an offline one, else where we came or first traded."""
        position = await self._desk.do(self._ledger.chain)
        if position is not None and position.genesis == genesis:
            return position
        begin = 0
        if not self._offline:
            begin, _ = await reader.read({one: one for one in reader.wallets}, 0)
            first = await self._desk.do(self._ledger.first_submission_slot)
            begin = min(begin, begin if first is None else first)
        self._told.clear()
        self._discovered_at = -math.inf
        reader.begin_anew()
        return await self._desk.do(lambda: self._ledger.begin_chain(genesis, begin))

    async def _check_reach(self, reader: Reader, position: ChainPosition, through: int) -> None:
        """Begin the books anew where what follows them is told no more: without it nothing can be proved.

        Raises:
            ChainMoved: if they did.
        """
        if position.walked_slot < position.begin_slot or through - position.walked_slot <= _FAR_SLOTS:
            return
        first = await reader.first_slot()
        if first > position.walked_slot + 1:
            await self._desk.do(lambda: self._ledger.begin_after_gap(position, first))
            await self._desk.tell_notices()
            raise ChainMoved

    async def _token_accounts(self, reader: Reader) -> dict[str, str]:
        """Return the wallets' token accounts, asked for now and then: what a wallet opens is in its history as well."""
        if time.monotonic() - self._discovered_at >= _DISCOVER_S:
            self._discovered = await reader.token_accounts()
            self._discovered_at = time.monotonic()
        return self._discovered

    async def _walk(self, reader: Reader, look: _Look) -> _Found:
        """Read every transaction up to a slot; token accounts' histories only where they are new or may not add up.

        Raises:
            _Again: if an account turned up that nobody knew of.
            _NotYet: if histories do not account for what accounts hold, and have not had time to.
        """
        position, stored, reads = look.position, look.stored, look.reads or {}

        async def history(address: str) -> list[Entry]:
            # An account that nobody knew of may have got something long ago; a wallet that is new begins now.
            unknown = address not in stored and look.tracked[address] in stored
            after = position.begin_slot - 1 if unknown else position.walked_slot
            return await reader.history(address, after=after, through=look.through)

        unread = look.reads is None
        first = [one for one in look.tracked if unread or one in reader.wallets or one not in stored]
        histories = dict(zip(first, await asyncio.gather(*map(history, first)), strict=True))
        while True:
            ordered = in_order(histories.values())
            signatures = [entry.signature for entry, _ in ordered]
            known = await self._desk.do(partial(self._ledger.walked, position.number, signatures))
            new = [(entry, place) for entry, place in ordered if entry.signature not in known]
            effects = await reader.effects(entry for entry, _ in new)
            transactions = [(entry, place, effects[entry.signature]) for entry, place in new]
            states = lay(stored, (effect for _, _, effect in transactions))
            if unknown := states.keys() - look.tracked.keys():
                look.tracked.update({address: states[address].wallet for address in unknown})
                raise _Again
            differing = apart(states, reads)
            missing = [one for one in differing if one not in histories]
            if not missing:
                self._give_time(differing)
                return _Found(transactions, settle_untouched(states, reads))
            histories |= dict(zip(missing, await asyncio.gather(*map(history, missing)), strict=True))

    def _give_time(self, differing: Sequence[str]) -> None:
        """Wait for a while where accounts differ from their histories: what a pass leaves out is never read again."""
        now = time.monotonic()
        self._apart = {address: self._apart.get(address, now) for address in differing}
        if any(now - since < self._settings.plan_grace_s for since in self._apart.values()):
            raise _NotYet

    async def _book(self, reader: Reader, look: _Look, found: _Found) -> None:
        """Book a pass; what nothing explains yet is waited for, for a while."""
        signatures = [entry.signature for entry, _, _ in found.transactions]
        links: dict[str, PlanLink] = await self._desk.do(partial(self._ledger.plans_of, signatures))
        walked = [
            explain(effect, place, reader.wallets, links.get(entry.signature))
            for entry, place, effect in found.transactions
        ]
        until = self._clear_until(walked, links)
        if until is None:
            accounts, through = found.states, look.through
            held = balances(look.reads) if look.reads is not None else None
        else:
            if until <= look.position.walked_slot:
                await self._say_again()
                return
            accounts, through, held = lay_until(look.stored, found, until), until, None
            walked = [one for one in walked if one.slot <= until]
        step = Step(
            chain=look.position.number,
            after=look.position.walked_slot,
            through=through,
            block_height=look.height if until is None else look.position.block_height,
            transactions=walked,
            accounts=sorted(accounts.values(), key=lambda one: one.address),
            balances=held,
        )
        crashpoint("walking")
        advanced = await self._desk.do(partial(self._ledger.advance, step, value_of))
        crashpoint("walked")
        for one in walked:
            self._first_seen.pop(one.signature, None)
        reader.booked((one.signature for one in walked), through)
        await self._tell(advanced)

    def _clear_until(self, walked: Sequence[WalkedTransaction], links: Mapping[str, PlanLink]) -> int | None:
        """Return the slot before the first transaction whose plan may still become known; None where there is none."""
        now = time.monotonic()
        for one in walked:
            link = links.get(one.signature)
            if one.kind == "unexplained" or (link is not None and not link.legs and not one.failed):
                since = self._first_seen.setdefault(one.signature, now)
                if now - since < self._settings.plan_grace_s:
                    return one.slot - 1
        return None

    async def _tell(self, advanced: Advanced) -> None:
        await self._desk.tell_notices()
        if advanced.corrected is not None:
            self._desk.announce(advanced.corrected)
        if not advanced.held:
            await self._say_again()
            return
        due = time.monotonic() - self._told_at >= _TELL_S
        before = {token: _without_slot(one) for token, one in self._told.items()}
        changed = [one for one in advanced.held if due or _without_slot(one) != before.get(one.token)]
        self._told = {held.token: held for held in advanced.held}
        if due:
            self._told_at = time.monotonic()
        await self._publish(changed)

    async def _say_again(self) -> None:
        """Tell what was told last, where nobody heard anything for a while."""
        await self._desk.tell_notices()
        if self._told and time.monotonic() - self._told_at >= _TELL_S:
            self._told_at = time.monotonic()
            await self._publish(self._told.values())

    async def _publish(self, several: Iterable[Held]) -> None:
        for held in several:
            await self._desk.publish(partial(reconciliation, held))


def lay_until(stored: dict[str, AccountState], found: _Found, through: int) -> dict[str, AccountState]:
    """Return the accounts as they were at a slot; those that nothing had touched by then hold their opening."""
    states = lay(stored, (effect for _, _, effect in found.transactions if effect.slot <= through))
    for address, state in found.states.items():
        if address not in states:
            opened = state.opening_lamports, state.opening_amount
            states[address] = AccountState(address, state.wallet, state.mint, *opened, *opened)
    return states


def _without_slot(held: Held) -> object:
    return tuple(getattr(held, name) for name in Held.__slots__ if name not in ("slot", "last_signature"))
