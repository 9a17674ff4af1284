"""Quote core, scanner and planner of the execution's benchmark, in its own process: their real search and decision.

What is measured then is the executor beside a chain, a server and a manager, and not how many processes share the
machine's cores.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial

from markets.confidence import Factors
from markets.pool_states import PoolStates
from pipeline._core import Pool, QuoteError
from pipeline.bus import Bus
from pipeline.clock import NS_PER_MS
from pipeline.config import Config
from pipeline.messages import (
    ExecutionResult,
    Leg,
    Mode,
    Opportunity,
    PermitState,
    PoolState,
    RefusalReason,
    SlotUpdate,
)
from pipeline.permit import Allowed
from workers.planner.cycle import LegQuote, NoQuote
from workers.planner.decide import Moment, Rules
from workers.planner.limits import PlanLimits
from workers.planner.open_plans import OpenPlans, Pending
from workers.planner.planner import Planner
from workers.planner.quotes import after
from workers.scanner.finder import Finder
from workers.scanner.opportunity import Describer
from workers.scanner.opportunity import Moment as Searched
from workers.scanner.worker import cycle_costs, cycle_limits

PRODUCER = "bench"
SURE = Factors(age=1.0, hops=0.8, oracle=1.0, provider=1.0, slippage=1.0)


@dataclass(slots=True)
class _Market:
    """The pools as the chain's market told them last; what the planner quotes from."""

    states: PoolStates = field(default_factory=PoolStates)
    slot: int = 0
    now_ns: int = 0

    def moment(self, opportunity: Opportunity) -> Moment:
        """Return slot and time of the market."""
        return Moment(max(self.slot, opportunity.slot), max(self.now_ns, opportunity.found_ns))

    def quote(self, leg: Leg, amount_in: int, pending: Pending | None) -> LegQuote | NoQuote:
        """Quote one leg at its pool's newest state, with and without what is on its way."""
        pool = self.states.get(leg.pool)
        if pool is None:
            return NoQuote(RefusalReason.QUOTE_MISSING, 0.0, 1.0)
        pools: list[Pool] = [pool] if pending is None else [pool, after(pool, pool.token_a, pending.swaps)]
        a_to_b = leg.token_in == pool.token_a
        try:
            quote = min((one.quote_in(a_to_b, amount_in) for one in pools), key=lambda one: one.amount_out)
        except QuoteError:
            return NoQuote(RefusalReason.AMOUNT_OUT_OF_RANGE, float(amount_in), 0.0)
        return LegQuote(quote.amount_out, quote.price_impact_bps, self.slot, self.now_ns)


class Deciding:
    """Searches after every slot and publishes what it finds and decides, as the workers do."""

    def __init__(self, bus: Bus, config: Config) -> None:
        self._bus = bus
        self._market = _Market()
        self._ids: dict[str, int] = {}
        self._told: list[PoolState] = []
        self._finder = Finder(partial(cycle_costs, config.scanner, config.tip.min_lamports), cycle_limits(config))
        self._describer = Describer(config.scanner.expires_ms * NS_PER_MS)
        plans = OpenPlans()
        self._planner = Planner(
            rules=Rules.of(config.planner, config.tip),
            open_plans=plans,
            limits=PlanLimits(
                plans, max_plans=config.planner.max_plans, window_ns=config.planner.window_ms * NS_PER_MS
            ),
            market=self._market,
            gate=lambda: Allowed(epoch=1, state=PermitState.ACTIVE),
            mode=Mode.LOCALNET,
            wall_ns=time.time_ns,
            producer=PRODUCER,
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Watch the market and the results."""
        await self._bus.watch("market_data.pool.*", self._on_pool)
        await self._bus.watch("market_data.pool_change.*", self._on_pool)
        await self._bus.watch("market_data.slot", self._on_slot)
        await self._bus.watch("executed.result", self._on_result)

    def _on_pool(self, state: PoolState, _delivery: object) -> None:
        self._told.append(state)

    def _on_result(self, result: ExecutionResult, _delivery: object) -> None:
        self._planner.settle(result)

    def _on_slot(self, update: SlotUpdate, _delivery: object) -> None:
        market = self._market
        market.slot, market.now_ns = update.slot, update.market_ns
        changed: list[int] = []
        for state in self._told:
            if not market.states.apply(state) or (pool := market.states.get(state.pool)) is None:
                continue
            changed.append(self._ids.setdefault(state.pool, len(self._ids)))
            self._finder.put(changed[-1], pool, state.observed_ns)
        self._told.clear()
        searched = Searched(update.slot, update.market_ns, time.time_ns(), PRODUCER)
        task = asyncio.create_task(self._decide(changed, searched))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _decide(self, changed: list[int], searched: Searched) -> None:
        known = [pool_id for pool_id in changed if pool_id in self._finder.pools]
        for found in self._finder.search(known):
            opportunity = self._describer.opportunity(found, SURE, searched)
            if (await self._bus.publish(opportunity)).duplicate:
                continue
            answer = self._planner.answer(opportunity)
            if answer is not None:
                await self._bus.publish(answer)
                self._planner.stored(opportunity.id)
