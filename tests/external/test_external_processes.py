"""The external part as a process, against simulated providers as another: faulty, and killed.

That they have no influence on what is traded is shown in tests/demo.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from trading_stage import Stage, eventually

from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.bus import Delivery
from pipeline.messages import Message, Quote
from pipeline.shm import QUOTES_EXTERNAL, QuoteTable, SharedMemoryError

pytestmark = [pytest.mark.integration, pytest.mark.slow]

QUICK: dict[str, object] = {
    "external.pairs": "SOL/USDC,SOL/JitoSOL",
    "external.price_ttl_s": 0.2,
    "external.fast_ttl_s": 0.1,
    "external.route_ttl_s": 1.0,
    "external.again_s": 0.1,
    "external.simulated.rate_per_s": 50,
    "external.simulated.burst": 10,
    "external.breaker_open_s": 0.3,
    "external.simulated.fault_ratio": 0.2,
}


async def test_pairs_come_whole_from_faulty_providers_and_again_after_a_kill(tmp_path: Path) -> None:
    stage = Stage(tmp_path, **QUICK)
    await stage.open()
    bus = await stage.bus()
    heard: list[Quote] = []

    def on_quote(message: Message, _delivery: Delivery) -> None:
        if isinstance(message, Quote):
            heard.append(message)

    await bus.watch("market_data.external_quote.>", on_quote)
    try:
        # Nobody settles the first slot, so the pools stay as they are: two whole pairs are what there is to say.
        for worker in ("quote_core-local", "quote_core-aggregator", "quote_core-external", "market"):
            stage.start(worker)
        providers = stage.start("providers")
        await eventually(lambda: len(heard) >= 60, what="external quotes", logs=stage.logs)
        by_pair: dict[str, list[Quote]] = defaultdict(list)
        for quote in heard[: len(heard) // 2 * 2]:
            by_pair[quote.correlation_id].append(quote)
        for one, other in by_pair.values():
            assert (one.token_in, one.token_out, one.amount_in) == (other.token_out, other.token_in, other.amount_in)
            assert abs(one.quoted_ns - other.quoted_ns) <= 100_000_000
        for quote in heard:
            assert quote.provider.startswith("simulated-")
            assert quote.pool == ""
            assert quote.hops == max(1, quote.hops)
            assert quote.steps
            assert 0 < quote.provider_factor <= 1
            if {quote.token_in, quote.token_out} == {SOL_MINT, USDC_MINT}:
                # One SOL and a thousand dollars near 150 dollars a SOL: no lie came through.
                expected = 150_000_000 if quote.token_in == SOL_MINT else 6_666_666_666
                assert quote.amount_out == pytest.approx(expected, rel=0.05)
        table = await eventually(lambda: external_table(stage), what="the table", logs=stage.logs)
        names = {table.name("provider", entry.provider) for entry in entries(table)}
        assert names
        assert all(name.startswith("simulated-") for name in names)

        providers.send_signal(signal.SIGKILL)
        await stage.ended(providers)
        stage.start("providers")
        before = len(heard)
        await eventually(lambda: len(heard) >= before + 20, what="quotes again", logs=stage.logs)
    finally:
        await bus.close()
        stage.close()


def external_table(stage: Stage) -> QuoteTable | None:
    try:
        table = QuoteTable(stage.config().shm_directory / QUOTES_EXTERNAL)
    except SharedMemoryError:
        return None
    return table if entries(table) else None


def entries(table: QuoteTable) -> list[Any]:
    found = [table.read(index) for index in range(len(table))]
    return [entry for entry in found if entry is not None and not entry.void]
