"""The venue that is a chain: transactions are made, sent, followed, and read back from the chain that they landed on.

The mode, localnet or live, decides nothing here: it names the wallets, the endpoints and the clock that are passed in.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from markets.market_view import MarketView
from markets.solana.landing.balances import Balances
from markets.solana.landing.link import ChainLink
from markets.solana.landing.outcome import Told, Unexplained, ending_of, followed_of, look_up, not_landed
from markets.solana.landing.pool_accounts import PoolAccounts
from markets.solana.landing.prepare import ChainPrepared, Preparer
from markets.solana.landing.push import Pusher
from markets.solana.landing.reference import parse_reference
from markets.solana.landing.settings import LandingSettings
from markets.solana.landing.tracker import Followed
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.line import Answer
from markets.solana.wallets.keys import Signer
from markets.solana.wallets.lanes import Lane, Lanes
from markets.tokens import SOL_MINT
from markets.venue import (
    Filled,
    Landing,
    NeverBegun,
    NotPrepared,
    Prepared,
    Recovery,
    RefusedByWallet,
    Reverted,
    Trace,
    Undecided,
)
from pipeline.messages import ExecutionPlan, Mode, PoolState, SlotUpdate

LINK_WAIT_S = 4.0
"""How long a plan waits for a chain that is not there yet."""
_ASKED_AHEAD = 4
_LOOK_UPS = 20
_LOOK_UP_S, _LOOK_UP_MAX_S = 0.02, 1.0
_UNEXPLAINED = 3
"""Nodes' answers that make no sense together, until a person has to look."""
_ASK_AGAIN_S = 2.0
_REMEMBERED = 100_000
"""Signatures of this process: far more than can be under way."""


class ChainVenue:
    """Executes plans on a chain, once it is linked to one."""

    def __init__(
        self,
        mode: Mode,
        settings: LandingSettings,
        lanes: Lanes,
        signers: Mapping[str, Signer],
        *,
        mints: Sequence[str],
        allowed: Callable[[], bool],
        wall_ns: Callable[[], int],
        clock: Callable[[], int] | None = None,
        warn: Callable[[str], object] = lambda _: None,
        link_wait_s: float = LINK_WAIT_S,
        draw: random.Random | None = None,
    ) -> None:
        """`mints` are the tokens that wallets may hold, `allowed` tells whether trading is; `clock` is the wall
        clock, ns, by which market time goes on between two slots; without one it stands still until the next.
        """
        self.mode = mode
        self.settings = settings
        self.market = MarketView()
        self.accounts = PoolAccounts(self.market)
        self.balances = Balances(lanes, self.accounts, mints, warn)
        self._lanes = lanes
        self._wall_ns = wall_ns
        self._clock = clock
        self._told_ns = 0
        self._warn = warn
        self._link_wait_s = link_wait_s
        self._draw = draw or random.Random()
        self._preparer = Preparer(settings, lanes, signers, self.market, self.accounts, warn)
        self._pusher = Pusher(
            settings,
            link=lambda: self._link,
            allowed=allowed,
            slot=lambda: self.market.slot,
            slot_reached=self._slot_reached,
            warn=warn,
            draw=self._draw,
        )
        self._link: ChainLink | None = None
        self._linked = asyncio.Event()
        self._next_slot = asyncio.Event()
        self._sent: dict[str, None] = {}
        self._following: dict[str, Followed] = {}
        self._background: set[asyncio.Task[object]] = set()
        self._asked_ahead: set[asyncio.Task[tuple[int, ...] | None]] = set()

    # The market

    @property
    def slot(self) -> int:
        """Return the newest slot seen."""
        return self.market.slot

    @property
    def now_ns(self) -> int:
        """Return market time, ns."""
        if self._clock is None:
            return self.market.now_ns
        # The chain's clock and ours differ: only what has passed since it was told is taken from ours.
        return self.market.now_ns + max(0, self._clock() - self._told_ns)

    @property
    def wallets(self) -> tuple[str, ...]:
        """Return the addresses that sign."""
        return self._lanes.addresses

    def take_pool(self, state: PoolState) -> None:
        """Keep a pool's state until its slot is whole."""
        self.market.take_pool(state)

    def take_slot(self, update: SlotUpdate) -> bool:
        """Go on to a slot; return False where a pool's state was missed."""
        whole = self.market.take_slot(update)
        if whole is None:
            return True
        self._told_ns = update.created_ns
        self._told_slot()
        return whole

    def load(self, states: list[PoolState], update: SlotUpdate | None) -> None:
        """Take over states read from the stream."""
        self.market.load(states, update)
        if update is not None:
            self._told_ns = update.created_ns
        self._told_slot()

    def give_up(self) -> int:
        """Give up nothing: the chain decides what becomes of a transaction."""
        return 0

    def _told_slot(self) -> None:
        """Look at fees and balances as soon as there is a slot: nobody waits for them then."""
        self._preparer.turn()
        event, self._next_slot = self._next_slot, asyncio.Event()
        event.set()
        link = self._link
        if link is not None:
            link.tracker.poke()
            self.balances.turn(link.rpc)
            self._in_background(link.fees.facts(self.market.slot))
            if self.accounts.lacking(self.market.states.protocols()):
                self._in_background(self.accounts.prefetch(link.rpc))

    def _in_background(self, work: Coroutine[Any, Any, object]) -> None:
        task: asyncio.Task[object] = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _slot_reached(self, slot: int) -> None:
        while self.market.slot < slot:
            await self._next_slot.wait()

    # The chain

    async def link(self, link: ChainLink) -> None:
        """Work on an open link from now on, once what plans need has been read over it.

        Raises:
            RpcError: if no node tells.
        """
        await link.read_tables()
        await self.accounts.prefetch(link.rpc)
        await link.fees.facts(self.market.slot)
        await self.balances.read(link.rpc)
        self._link = link
        for followed in self._following.values():
            self._follow(link, followed)
        self._linked.set()

    def unlink(self) -> None:
        """Work without a chain: plans wait for a while, and are refused."""
        self._link = None
        self._linked.clear()

    @staticmethod
    def _follow(link: ChainLink, followed: Followed) -> None:
        if not followed.fate.done():
            link.tracker.follow(followed)
            link.socket.want(followed.signature)

    def _forget(self, signature: str) -> None:
        self._following.pop(signature, None)
        if self._link is not None:
            self._link.tracker.drop(signature)
            self._link.socket.drop(signature)

    async def _present_link(self) -> ChainLink | None:
        if self._link is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._linked.wait(), self._link_wait_s)
        return self._link

    # Plans

    def announce(self, plan: ExecutionPlan) -> int:
        """Return nothing of interest: on a chain plans do not wait for each other."""
        return 0

    def decided(self, ticket: int) -> None:
        """Do nothing: on a chain plans do not wait for each other."""

    def expect(self, pools: Sequence[str], slot: int) -> None:
        """Ask ahead what some pools cost: a plan over just these may come. A few at a time, since plans come first."""
        if self._link is not None and self._link.rpc.roomy and len(self._asked_ahead) < _ASKED_AHEAD:
            task = asyncio.create_task(self._link.fees.samples(max(self.market.slot, slot), pools))
            self._asked_ahead.add(task)
            task.add_done_callback(self._asked_ahead.discard)

    async def prepare(self, plan: ExecutionPlan) -> Prepared | NotPrepared:
        """Build, simulate and sign the plan's transaction, or say why it ends here. Nothing is sent."""
        link = await self._present_link()
        if link is None:
            return RefusedByWallet(self.slot, "no transaction was made: no chain can be reached")
        await self.balances.known()
        ready: Prepared | NotPrepared | None = None
        try:
            ready = await self._preparer.prepare(plan, link)
        finally:
            if not isinstance(ready, Prepared):
                self.balances.ended[plan.id] = None
        return ready

    def withdraw(self, prepared: Prepared) -> None:
        """Give back lane and connections of a plan that will not be submitted."""
        assert isinstance(prepared, ChainPrepared)
        if prepared.lane is not None:
            self.balances.ended.setdefault(prepared.lane.plan_id, None)
        if prepared.trial is not None:
            prepared.trial.cancel()
        for line in (prepared.bundle_line, prepared.rpc_line):
            if line is not None:
                line.give_back()

    def submit(self, plan: ExecutionPlan, prepared: Prepared) -> asyncio.Future[Landing]:
        """Write the transaction to the connections that stand ready; the future tells what became of it."""
        assert isinstance(prepared, ChainPrepared)
        bundle = prepared.bundle_line.post(prepared.bundle_body) if prepared.bundle_line is not None else None
        rpc = prepared.rpc_line.post(prepared.rpc_body) if prepared.rpc_line is not None else None
        trace = replace(prepared.trace, submitted_ns=self._wall_ns())
        self._sent[trace.signature] = None
        if len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]
        followed = followed_of(trace, bundle=prepared.bundle, by_rpc=rpc is not None)
        return asyncio.ensure_future(self._landed(plan, prepared, trace, followed, (bundle, rpc)))

    async def _landed(
        self,
        plan: ExecutionPlan,
        prepared: ChainPrepared,
        trace: Trace,
        followed: Followed,
        answers: tuple[asyncio.Future[Answer] | None, asyncio.Future[Answer] | None],
    ) -> Landing:
        self._following[followed.signature] = followed
        if self._link is not None:
            self._follow(self._link, followed)
        pushing = asyncio.ensure_future(self._pusher.push(prepared, followed, *answers))
        try:
            landing = await self._ending(plan, trace, followed)
        finally:
            pushing.cancel()
        if followed.taken:
            return landing
        return replace(landing, trace=replace(landing.trace, bundle=""))

    async def _ending(self, plan: ExecutionPlan, trace: Trace, followed: Followed) -> Landing:
        """Follow a transaction to its end, and give its lane back whatever that is.

        Raises:
            Unexplained: if it is on the chain, and what it did cannot be told.
        """
        landed_slot: int | None = None
        try:
            landing = await self._fate(plan, trace, followed)
            landed_slot = landing.slot if isinstance(landing, Filled | Reverted) else None
            return landing
        finally:
            self._forget(followed.signature)
            self.balances.ended[plan.id] = landed_slot

    async def _fate(self, plan: ExecutionPlan, trace: Trace, followed: Followed) -> Landing:
        """Return how it ended, once the chain or the block engine has said so."""
        while True:
            match await followed.fate:
                case "landed":
                    told = await self._told(plan, trace)
                    if told is not None:
                        self._preparer.learn(plan, told.effect.units)
                        trace = replace(trace, landed_ns=followed.seen_ns or self._wall_ns())
                        return ending_of(plan, told, trace, sol_price_usd_e6=self.market.sol_price_usd_e6())
                    # Its status was there and it is not: a fork took it back. It may come again.
                    followed.fate = asyncio.get_running_loop().create_future()
                    followed.seen_ns = 0
                    if self._link is not None:
                        self._follow(self._link, followed)
                case fate:
                    return not_landed(fate, followed, trace, self.slot)

    async def _told(self, plan: ExecutionPlan, trace: Trace) -> Told | None:
        """Return the transaction that has a status; None where no node has it after all."""
        finalized = self.settings.commitment == "finalized"
        unexplained = 0
        for attempt in range(_LOOK_UPS):
            link = await self._present_link()
            told = None
            try:
                if link is not None:
                    told = await look_up(link.rpc, trace.signature, plan, trace.wallet, finalized=finalized)
            except RpcError as error:
                self._warn(f"a transaction could not be read back: {error}")
            except Unexplained as error:
                unexplained += 1
                if unexplained == _UNEXPLAINED:
                    raise
                self._warn(f"a transaction could not be explained: {error}")
            if told is not None:
                return told
            limit_s = min(_LOOK_UP_S * 2.0**attempt, _LOOK_UP_MAX_S)
            await asyncio.sleep(self._draw.uniform(limit_s / 2, limit_s))
        return None

    async def recover(self, plan: ExecutionPlan, reference: str) -> Recovery:
        """Ask the chain what became of a transaction that another process may have sent."""
        known = parse_reference(reference)
        if known is None:
            return NeverBegun()
        resolved = known.signature not in self._sent
        trace = Trace(
            signature=known.signature,
            wallet=known.wallet,
            last_valid_block_height=known.last_valid_block_height,
            resolved=resolved,
        )
        link = await self._present_link()
        if link is None:
            return Undecided(_ASK_AGAIN_S, trace)
        followed = self._following.get(known.signature)
        if followed is None:
            followed = self._following[known.signature] = followed_of(trace, bundle="", by_rpc=True)
            self._follow(link, followed)
            fees = plan.base_fee + plan.priority_fee + plan.tip
            # Its first leg may take lamports instead of wrapped SOL.
            lamports = fees + (plan.amount_in if plan.token == SOL_MINT else 0)
            self.balances.ended.pop(plan.id, None)  # that nothing new could be made of the plan gives no lane back
            self._lanes.hold(Lane(known.wallet, plan.id, {plan.token: plan.amount_in}, lamports))
            try:
                await link.tracker.look_back(followed)
            except RpcError as error:
                self._warn(f"a transaction could not be asked for: {error}")
            if not followed.fate.done():
                return Undecided(0.0, trace)
        done, _ = await asyncio.wait({followed.fate}, timeout=_ASK_AGAIN_S)
        if not done:
            return Undecided(0.0, trace)
        return await self._ending(plan, trace, followed)
