"""The external part: asks aggregators for both directions of a pair at once, and tells what they would give.

What is asked when, and of whom, is decided in `markets.providers`. Its quotes come by the wall clock and stand beside
the local ones; no local quote waits for them or depends on them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from markets.oracle.fair import FairValues
from markets.oracle.pyth import OracleRefused
from markets.providers.answer import Answer, Ask, Known, Route
from markets.providers.cache import SplitCache
from markets.providers.choose import Chosen, Pair
from markets.providers.desk import Desk, Fetch, PairSaid, Said
from markets.providers.fetch import Fetcher
from markets.providers.provider import Provider
from markets.providers.schedule import Pace, Schedule
from markets.tokens import Registry, load_registry
from pipeline import run_files
from pipeline.config import Config
from pipeline.context import WorkerContext
from pipeline.errors import UsageFailure
from pipeline.ids import deterministic_id
from pipeline.messages import Message, OraclePrice, Quote, RouteStep, SlotUpdate
from pipeline.tasks import end_tasks
from workers.quote_core.external_metrics import ExternalMetrics
from workers.quote_core.external_settings import patience_of, providers_of, terms_of
from workers.quote_core.parts import LOCAL, Emit

TICK_S = 0.05
LOOK_S = 1.0
RUN_FILE = "simulated-providers"
"""Where the simulated providers say their address, in the run directory."""


def open_external(context: WorkerContext, emit: Emit) -> ExternalPart | None:
    """Return what asks external providers, or None where none is to be asked.

    Raises:
        UsageFailure: if the configuration names a pair that is not known, or an amount that is not quoted locally, or
            wants real quotes beside a market that is not.
    """
    config = context.config
    if not config.external.enabled:
        return None
    if config.external.source == "live" and config.quote_core.source != "rpc":
        raise UsageFailure(
            'external.source = "live" asks about the real market, and quote_core.source names another one',
            'set quote_core.source = "rpc", or external.source = "simulated", or external.enabled = false',
        )
    part = ExternalPart(context, emit, load_registry())
    context.health.collectors.append(ExternalMetrics(part.desk, part.schedule, part.names).collect)
    return part


@dataclass(slots=True)
class _Heard:
    """What the market said last."""

    slot: int = 0
    market_ns: int = 0


class ExternalPart:
    """The providers, the pairs, and what is under way."""

    def __init__(self, context: WorkerContext, emit: Emit, registry: Registry) -> None:
        """Prepare; nothing is asked before `run`."""
        settings = context.config.external
        self.context = context
        self.emit = emit
        self.names = pairs_of(context.config, registry)
        """Pair -> its name, for people."""
        fast = _mints_of(settings.fast_pairs, registry)
        pace = Pace(
            price_ttl_s=settings.price_ttl_s,
            fast_ttl_s=settings.fast_ttl_s,
            move_bps=settings.move_bps,
            again_s=settings.again_s,
            again_max_s=settings.again_max_s,
        )
        clock = time.monotonic_ns
        self.schedule = Schedule({pair: _mints(pair) in fast for pair in self.names}, pace, clock)
        self._fetch = _Switch()
        self.desk = Desk(
            [(provider, patience_of(settings, provider.name)) for provider in providers_of(settings, "")],
            terms_of(settings),
            SplitCache(clock, settings.route_ttl_s),
            self._fetch,
            clock=clock,
            draw=random.random,
        )
        self._heard = _Heard()
        # Its usual limits are narrow enough for what it is asked here: whether an answer is absurd.
        self._fair = FairValues({token.mint: token.decimals for token in registry.tokens})
        self._listening = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._address = ""
        self._running = False
        self._by_question = {
            (ask.token_in, ask.token_out, ask.amount_in): pair
            for pair in self.names
            for ask in (pair.forward, pair.reverse)
        }

    async def run(self) -> None:
        """Listen to the market and ask, until cancelled."""
        if not self._listening:
            self._listening = True
            for subject in ("market_data.slot", "market_data.quote.>", "market_data.oracle.>"):
                await self.context.bus.watch(subject, self._on_message)
        try:
            async with Fetcher() as fetcher:
                self._fetch.to = fetcher
                self._running = True
                await self._ask_for_ever()
        finally:
            self._running = False
            await end_tasks(self._tasks)

    def ask_now(self, token_in: str, token_out: str, amount_in: int) -> bool:
        """Begin asking for a pair because somebody waits for it; return whether it is under way.

        It is not where the pair or the amount is none that is asked for, where its quote is fresh, or where the limits
        do not allow it now.
        """
        pair = self._by_question.get((token_in, token_out, amount_in))
        if pair is None or not self._running or not self._address:
            return False
        if self.schedule.under_way(pair):
            return True
        age_s = self.schedule.age_s(pair)
        if age_s is not None and age_s < self.context.config.external.fast_ttl_s:
            self._count_hit(pair.forward if pair.forward.token_in == token_in else pair.reverse)
            return False
        chosen = self.desk.take(pair, urgent=True)
        if chosen is not None:
            self._begin(pair, chosen)
        return chosen is not None

    async def _ask_for_ever(self) -> None:
        looked = 0.0
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() - looked >= LOOK_S:
                looked = loop.time()
                self._find_providers()
            if self._address:
                for due in self.schedule.due():
                    chosen = self.desk.take(due.pair, urgent=due.urgent)
                    if chosen is not None:
                        self._begin(due.pair, chosen)
            await asyncio.sleep(TICK_S)

    def _find_providers(self) -> None:
        """Learn where the simulated providers are; the real ones are where the configuration says."""
        settings = self.context.config.external
        if settings.source == "live":
            self._address = "live"
            return
        entry = None if settings.simulated.url else run_files.read(self.context.config, RUN_FILE)
        address = settings.simulated.url or (entry.url if entry is not None else "")
        if address and address != self._address:
            self._readdress(providers_of(settings, address))
            self.context.log.info("simulated providers found", url=address)
        self._address = address

    def _readdress(self, providers: Iterable[Provider]) -> None:
        by_name = {provider.name: provider for provider in providers}
        for state in self.desk.states:
            state.provider = by_name[state.name]

    def _on_message(self, message: Message, _delivery: object) -> None:
        if isinstance(message, SlotUpdate):
            self._heard.slot = max(self._heard.slot, message.slot)
            self._heard.market_ns = max(self._heard.market_ns, message.market_ns)
        elif isinstance(message, OraclePrice):
            with suppress(OracleRefused):  # the aggregator counts them
                self._fair.take(message, self._heard.market_ns or message.published_ns)
        elif isinstance(message, Quote) and message.provider == LOCAL:
            good = self.schedule.local_price(message.token_in, message.token_out, message.amount_in, message.amount_out)
            for pair in good:
                # What would have been asked at this change of price without a cache.
                for ask in pair:
                    self._count_hit(ask)

    def _count_hit(self, ask: Ask) -> None:
        for state in self.desk.states:
            if self.desk.cache.route(state.name, ask) is not None:
                self.desk.cache.hit(state.name, ask)
                return

    def _begin(self, pair: Pair, chosen: Chosen) -> None:
        self.schedule.begin(pair)
        task = asyncio.create_task(self._ask(pair, chosen))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, pair: Pair, chosen: Chosen) -> None:
        try:
            said = await self.desk.ask(pair, chosen, self.schedule.ttl_s(pair), self._known)
        except Exception:
            # One pair's trouble stays its own.
            self.context.log.exception("asking providers failed", pair=self.names[pair])
            self.schedule.failed(pair)
            return
        if said.whole:
            self.schedule.got(pair, said.sent_ns)
            self._tell(said)
            return
        self.schedule.failed(pair)
        for side in (said.forward, said.reverse):
            if side.bad is not None:
                self.context.log.debug(
                    "no external quote", provider=side.provider, pair=self.names[pair], reason=str(side.bad)
                )

    def _known(self, ask: Ask) -> Known:
        """Return what an answer is held against: the local price, and where there is none the oracle's."""
        reference = self.schedule.local_out(ask.token_in, ask.token_out, ask.amount_in)
        if not reference:
            rate = self._fair.rate(ask.token_in, ask.token_out, self._heard.market_ns)
            reference = None if rate is None else rate.of(ask.amount_in)
        return Known((reference,) if reference else (), self._heard.slot)

    def _tell(self, said: PairSaid) -> None:
        """Emit both directions, one right after the other."""
        together = deterministic_id("external-pair", said.pair.name, said.sent_ns)
        for side in (said.forward, said.reverse):
            if side.answer is not None:
                self.emit(self._quote(side, side.answer, together))

    def _quote(self, side: Said, answer: Answer, together: str) -> Quote:
        now_ns = self.context.clock()
        # As old as the question: what happened since it was sent may not be in the answer.
        sent_ns = now_ns if side.sent_ns is None else now_ns - (time.monotonic_ns() - side.sent_ns)
        return Quote(
            id=deterministic_id("external-quote", answer.provider, answer.token_in, answer.token_out, together),
            correlation_id=together,
            created_ns=now_ns,
            producer=self.context.name,
            provider=answer.provider,
            token_in=answer.token_in,
            token_out=answer.token_out,
            amount_in=answer.amount_in,
            amount_out=answer.amount_out,
            price_impact_bps=answer.price_impact_bps,
            slot=answer.slot,
            quoted_ns=sent_ns,
            hops=longest_way(answer.route, answer.token_in),
            steps=[
                RouteStep(pool=step.pool, venue=step.venue, token_in=step.token_in, token_out=step.token_out)
                for step in answer.route
            ],
            provider_factor=side.reliability,
        )


@dataclass(slots=True)
class _Switch:
    """Hands requests to the session of the present run: a part that is started again opens another one."""

    to: Fetch | None = None

    def get(self, *args: Any) -> Any:
        assert self.to is not None, "nothing is asked before the session is open"
        return self.to.get(*args)


def longest_way(route: Route, token_in: str) -> int:
    """Return the number of swaps on the longest way through a route; its steps go in no circle."""
    onward = [longest_way(route, step.token_out) for step in route if step.token_in == token_in]
    return 1 + max(onward) if onward else 0


def pairs_of(config: Config, registry: Registry) -> dict[Pair, str]:
    """Return the pairs and amounts to ask for, with their names.

    Raises:
        UsageFailure: if a pair is not known, or an amount is not quoted locally too.
    """
    settings = config.external
    if unknown := sorted(set(settings.amounts) - set(config.quote_core.amounts)):
        raise UsageFailure(
            f"external.amounts holds {unknown[0]}, which is not quoted locally",
            f"choose of quote_core.amounts: {', '.join(map(str, config.quote_core.amounts))}",
        )
    wanted = _mints_of(settings.pairs, registry)
    return {
        Pair(
            Ask(pair.base.mint, pair.quote.mint, amount, settings.slippage_bps),
            Ask(pair.quote.mint, pair.base.mint, amount, settings.slippage_bps),
        ): pair.name
        for pair in registry.pairs
        if not settings.pairs or pair.mints in wanted
        for amount in settings.amounts
    }


def _mints_of(names: Iterable[str], registry: Registry) -> set[frozenset[str]]:
    known = {pair.name: pair.mints for pair in registry.pairs}
    for name in names:
        if name not in known:
            raise UsageFailure(f"there is no pair {name!r}", f"pairs: {', '.join(known)}")
    return {known[name] for name in names}


def _mints(pair: Pair) -> frozenset[str]:
    return frozenset((pair.forward.token_in, pair.forward.token_out))
