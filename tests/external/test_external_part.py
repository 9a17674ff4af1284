"""The external part in this process: real sockets, no other worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from stage import SLOT, StillMarket
from trading_stage import eventually

from localnet.provider_faults import Faults
from localnet.providers import SimulatedProviders
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline.config import load_config
from pipeline.errors import UsageFailure
from pipeline.messages import OraclePrice, Quote, SlotUpdate
from workers.quote_core.external import ExternalPart, open_external

AMOUNT = 1_000_000_000
QUICK: dict[str, object] = {
    "external.pairs": "SOL/USDC",
    "external.simulated.rate_per_s": 100,
    "external.simulated.burst": 20,
    "external.again_s": 0.1,
}


@dataclass
class Running:
    part: ExternalPart
    server: SimulatedProviders
    told: list[Quote]
    handlers: dict[str, Callable[[Any, Any], None]]

    def say(self, message: object) -> None:
        subjects = {SlotUpdate: "market_data.slot", OraclePrice: "market_data.oracle.>", Quote: "market_data.quote.>"}
        self.handlers[subjects[type(message)]](message, None)

    async def until(self, count: int) -> None:
        await eventually(lambda: len(self.told) >= count, within_s=5, what=f"{count} quotes")

    async def refused(self, reason: str, count: int) -> None:
        reasons = self.part.desk.counts.reasons
        await eventually(lambda: reasons[reason] >= count, within_s=5, what=f"{count} answers refused: {reason}")


@asynccontextmanager
async def running(**overrides: object) -> AsyncIterator[Running]:
    server = SimulatedProviders(StillMarket(), Faults())
    url = await server.start()
    settings = {**QUICK, "external.simulated.url": url, **{k.replace("__", "."): v for k, v in overrides.items()}}
    handlers: dict[str, Callable[[Any, Any], None]] = {}

    async def watch(subject: str, handler: Callable[[Any, Any], None]) -> None:
        assert subject not in handlers, "it listens once"
        handlers[subject] = handler

    context: Any = SimpleNamespace(
        name="quote_core",
        config=load_config(settings, environment={}),
        bus=SimpleNamespace(watch=watch),
        health=SimpleNamespace(collectors=[]),
        log=structlog.get_logger(),
        clock=time.time_ns,
    )
    told: list[Quote] = []
    part = open_external(context, lambda value: told.append(value) if isinstance(value, Quote) else None)
    assert part is not None
    assert len(context.health.collectors) == 1
    there = Running(part, server, told, handlers)
    task = asyncio.create_task(part.run())
    await eventually(lambda: len(handlers) == 3, what="listening")
    try:
        yield there
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await server.stop()


def local(token_in: str, token_out: str, amount_out: int) -> Quote:
    return Quote(provider="local", token_in=token_in, token_out=token_out, amount_in=AMOUNT, amount_out=amount_out)


async def test_both_directions_are_told_one_right_after_the_other() -> None:
    began_ns = time.time_ns()
    async with running() as there:
        there.say(SlotUpdate(slot=SLOT))
        await there.until(2)
        forward, reverse = there.told[:2]
        assert (forward.token_in, forward.token_out) == (SOL_MINT, USDC_MINT)
        assert (reverse.token_in, reverse.token_out) == (USDC_MINT, SOL_MINT)
        assert forward.correlation_id == reverse.correlation_id
        assert forward.id != reverse.id
        for quote in (forward, reverse):
            assert quote.provider.startswith("simulated-")
            assert quote.amount_in == AMOUNT
            assert quote.hops == 1
            assert quote.steps[0].token_in == quote.token_in
            assert quote.pool == ""
            assert quote.route == 0
            assert quote.provider_factor == 1.0
            assert began_ns <= quote.quoted_ns <= quote.created_ns


async def test_a_moved_local_price_asks_again_at_once_and_a_still_one_is_a_hit() -> None:
    async with running() as there:
        await there.until(2)
        # From here on a fresh quote is worth nothing to a test of what makes it old.
        there.say(local(SOL_MINT, USDC_MINT, 150_000_000))
        there.say(local(SOL_MINT, USDC_MINT, 150_001_000))
        hits = there.part.desk.cache.saved.hits
        assert hits == 4
        assert len(there.told) == 2
        there.say(local(SOL_MINT, USDC_MINT, 150_300_000))
        await there.until(4)
        assert there.part.desk.cache.saved.hits == hits
        assert there.part.desk.cache.saved.prices == 2, "the route was fresh"


async def test_an_answer_far_from_the_local_price_is_not_told() -> None:
    async with running() as there:
        await there.until(2)
        there.say(local(SOL_MINT, USDC_MINT, 150_000_000))
        there.say(local(SOL_MINT, USDC_MINT, 300_000_000))
        await there.refused("price", 1)
        assert len(there.told) == 2


@pytest.mark.parametrize(("dollars", "believed"), [(151, True), (300, False)])
async def test_where_nothing_is_quoted_locally_the_oracle_is_held_against_it(dollars: int, believed: bool) -> None:
    now_ns = 2_000_000_000 * 1_000_000_000
    async with running(external__fast_ttl_s=0.05) as there:
        await there.until(2)
        there.say(SlotUpdate(slot=SLOT, market_ns=now_ns))
        for token, price in ((SOL_MINT, dollars), (USDC_MINT, 1)):
            there.say(OraclePrice(token=token, source="simulated", price=price, exponent=0, published_ns=now_ns))
        if believed:
            await there.until(len(there.told) + 4)
            assert not there.part.desk.counts.reasons["price"]
        else:
            await there.refused("price", 2)


async def test_an_answer_of_an_old_slot_is_not_told() -> None:
    async with running() as there:
        await there.until(2)
        told = len(there.told)
        there.say(SlotUpdate(slot=SLOT + 151))
        there.say(local(SOL_MINT, USDC_MINT, 150_000_000))
        there.say(local(SOL_MINT, USDC_MINT, 150_500_000))
        await there.refused("stale", 2)
        assert all(quote.provider == "simulated-raydium" for quote in there.told[told:]), "it names no slot"


async def test_somebody_who_waits_is_served_within_the_limits() -> None:
    async with running(external__fast_ttl_s=0.05, external__fast_pairs="") as there:
        await there.until(2)
        assert not there.part.ask_now(SOL_MINT, USDC_MINT, AMOUNT + 1)
        assert not there.part.ask_now(USDC_MINT, load_registry().by_symbol["mSOL"].mint, AMOUNT)
        await asyncio.sleep(0.1)
        assert there.part.ask_now(USDC_MINT, SOL_MINT, AMOUNT)
        assert there.part.ask_now(SOL_MINT, USDC_MINT, AMOUNT), "it is under way"
        await there.until(4)
        hits = there.part.desk.cache.saved.hits
        assert not there.part.ask_now(SOL_MINT, USDC_MINT, AMOUNT), "its quote is fresh"
        assert there.part.desk.cache.saved.hits == hits + 1
        await asyncio.sleep(0.1)
        for state in there.part.desk.states:
            while state.take(1):
                pass
        assert not there.part.ask_now(SOL_MINT, USDC_MINT, AMOUNT), "no tokens are left"


async def test_a_part_that_is_started_again_goes_on() -> None:
    async with running(external__price_ttl_s=0.1, external__fast_ttl_s=0.1) as there:
        await there.until(2)
        for _ in range(2):
            again = asyncio.create_task(there.part.run())
            await asyncio.sleep(0.05)
            again.cancel()
            with suppress(asyncio.CancelledError):
                await again
        again = asyncio.create_task(there.part.run())
        await there.until(len(there.told) + 4)
        again.cancel()


def test_real_quotes_are_not_asked_for_beside_a_simulated_market() -> None:
    context: Any = SimpleNamespace(config=load_config({"external.source": "live"}, environment={}))
    with pytest.raises(UsageFailure, match="real market"):
        open_external(context, lambda _value: None)
    off: Any = SimpleNamespace(config=load_config({"external.enabled": "false"}, environment={}))
    assert open_external(off, lambda _value: None) is None
