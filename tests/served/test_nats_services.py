"""Quotes over NATS, from a real quote core process: answers, problems, discovery, subscriptions."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nats import errors
from served_world import DOLLAR, S, World, ask
from trading_stage import eventually

from markets.tokens import SOL_MINT, USDC_MINT
from pipeline import run_files
from pipeline._core import Pool
from pipeline.bus import Bus
from pipeline.messages import (
    AskedPair,
    PairQuotes,
    PoolAnswer,
    PoolRequest,
    Problem,
    QuoteAnswer,
    QuoteChanges,
    SubscribeAnswer,
    SubscribeRequest,
)

pytestmark = pytest.mark.integration
_names = itertools.count()


async def test_a_quote_both_ways(world: World, client: Bus) -> None:
    answer = await ask(client, "SOL/USDC", paired=True)
    assert answer is not None
    (pair,) = answer.pairs
    assert answer.correlation_id == "asked"
    assert (answer.slot, answer.problem) == (world.slot, Problem.NONE)
    quote = pair.forward[0]
    assert quote.amount_out == world.best_out(SOL_MINT)
    assert world.out(quote.pool, SOL_MINT) == quote.amount_out
    assert pair.reverse[0].amount_out == world.best_out(USDC_MINT, quote.amount_out)
    assert quote.confidence > 0.9
    assert quote.oracle_amount_out == 150_000_000
    assert quote.route


async def test_by_hand_in_json(client: Bus) -> None:
    reply = await client.client.request("quotes.get", b'{"pair":"SOL/USDC","amount":"1000000000"}')
    shown = json.loads(reply.data)
    assert int(shown["pairs"][0]["forward"][0]["amount_out"]) > 100_000_000
    assert not reply.headers


async def test_a_batch_and_its_limit(client: Bus) -> None:
    answer = await ask(client, "SOL/USDC", "SOL/mSOL", "SOL/XYZ", "USDC/SOL", "SOL/INF", subject="quotes.batch")
    assert answer is not None
    assert [pair.problem == Problem.NONE for pair in answer.pairs][:4] == [True, True, False, True]
    assert answer.pairs[2].problem == Problem.UNKNOWN_TOKEN
    answer = await ask(client, *["SOL/USDC"] * 17, subject="quotes.batch")
    assert answer is not None
    assert answer.problem == Problem.TOO_MANY
    assert "at most 16" in answer.detail
    answer = await ask(client, "SOL/USDC", "SOL/USDC")
    assert answer is not None
    assert "quotes.batch" in answer.detail


async def test_a_pool_with_its_grid(world: World, client: Bus) -> None:
    reply = await client.client.request("quotes.pool", PoolRequest(pool=DOLLAR[0]).encode())
    answer = PoolAnswer.decode(reply.data)
    (state,) = answer.pools
    assert (state.pool, state.slot) == (DOLLAR[0], world.pools[DOLLAR[0]].slot)
    for row in state.quotes:
        token_in = state.token_a if row.a_to_b else state.token_b
        assert row.amount_out == world.out(DOLLAR[0], token_in, row.amount_in)
    carried = Pool.from_snapshot(state.snapshot)
    assert carried.quote_in(True, 12_345_678).amount_out == world.out(DOLLAR[0], carried.token_a, 12_345_678)


@pytest.mark.parametrize(
    ("subject", "payload", "problem", "code", "words"),
    [
        ("quotes.get", b"", "BAD_REQUEST", "400", "the request is no QuoteRequest"),
        ("quotes.get", b"\x00" * 64, "BAD_REQUEST", "400", "the request is no QuoteRequest"),
        ("quotes.get", PoolRequest(pool="x").encode(), "BAD_REQUEST", "400", "the request is no QuoteRequest"),
        ("quotes.get", b"{", "BAD_REQUEST", "400", "not JSON"),
        ("quotes.get", b"{}", "BAD_REQUEST", "400", "no pair; ask for example"),
        ("quotes.get", b'{"pair": "SOL/USDC"}', "BAD_REQUEST", "400", "amount is missing"),
        ("quotes.get", b'{"pair": "SOL/DOGE", "amount": 1}', "UNKNOWN_TOKEN", "404", "is no token"),
        ("quotes.get", b'{"pair": "SOL/USDC", "amount": "18446744073709551615"}', "NO_QUOTE", "404", "ask for less"),
        ("quotes.pool", b'{"pool": "nowhere"}', "UNKNOWN_POOL", "404", "pipeline pools list"),
        ("quotes.pool", b"\xff", "BAD_REQUEST", "400", "no PoolRequest"),
        ("quotes.subscribe", b"\xff", "BAD_REQUEST", "400", "no SubscribeRequest"),
        ("quotes.subscribe", b'{"subscription": "a.b", "pair": "SOL/USDC", "amount": 1}', "BAD_REQUEST", "400", "name"),
        ("quotes.subscribe", b'{"subscription": "nobody-knows-it"}', "UNKNOWN_SUBSCRIPTION", "404", "begin it"),
        (
            "quotes.subscribe",
            b'{"subscription": "long-enough", "pair": "SOL/USDC"}',
            *("BAD_REQUEST", "400", "amount is missing"),
        ),
    ],
)
async def test_problems_are_typed_and_say_what_to_do(
    client: Bus, subject: str, payload: bytes, problem: str, code: str, words: str
) -> None:
    reply = await client.client.request(subject, payload)
    kind = {"get": QuoteAnswer, "pool": PoolAnswer, "subscribe": SubscribeAnswer}[subject.split(".")[1]]
    shown = json.loads(reply.data) if payload[:1] == b"{" else kind.decode(reply.data).to_dict()
    assert shown["problem"] == problem
    assert words in shown["detail"]
    assert reply.headers is not None
    assert reply.headers["Nats-Service-Error-Code"] == code
    assert reply.headers["Nats-Service-Error"]


async def test_discovery_and_statistics(client: Bus) -> None:
    info = json.loads((await client.client.request("$SRV.INFO.quotes", b"")).data)
    assert {endpoint["subject"] for endpoint in info["endpoints"]} == {
        *("quotes.get", "quotes.batch", "quotes.pool", "quotes.subscribe"),
    }
    before = await _statistics(client)
    await ask(client, "SOL/USDC")
    await client.client.request("quotes.get", b"{}")
    after = await _statistics(client)
    assert after["num_requests"] - before["num_requests"] == 2
    assert after["num_errors"] - before["num_errors"] == 1
    assert "no pair" in after["last_error"]
    assert after["average_processing_time"] > 0


async def _statistics(client: Bus) -> dict[str, Any]:
    stats = json.loads((await client.client.request("$SRV.STATS.quotes", b"")).data)
    found: dict[str, Any] = next(endpoint for endpoint in stats["endpoints"] if endpoint["name"] == "get")
    return found


def test_the_command_line_of_nats_finds_and_asks(world: World) -> None:
    found = shutil.which("nats", path=f"{os.environ.get('PATH', '')}:{os.path.expanduser('~/go/bin')}")
    if found is None:
        pytest.skip("the nats command line is not installed")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [found, "-s", world.stage.url, *arguments], check=False, capture_output=True, text=True, timeout=30
        )
        return done.stdout + done.stderr

    assert "quotes" in run("micro", "ls")
    assert "quotes.subscribe" in run("micro", "info", "quotes")
    assert '"amount_out"' in run("req", "quotes.get", '{"pair":"SOL/USDC","amount":"1000000000"}')


class Listener:
    """What one subscription is told, and what its client knows from it."""

    def __init__(self, client: Bus, name: str) -> None:
        self.client = client
        self.name = name
        self.heard: list[QuoteChanges] = []
        self.known: dict[tuple[str, str], PairQuotes] = {}
        self._more = asyncio.Event()

    async def on_message(self, message: Any) -> None:
        changes = QuoteChanges.decode(message.data)
        self.heard.append(changes)
        self.known |= {(pair.token_in, pair.token_out): pair for pair in changes.pairs}
        self._more.set()

    async def ask(self, **fields: Any) -> SubscribeAnswer:
        request = SubscribeRequest(id="s", subscription=self.name, **fields)
        return SubscribeAnswer.decode((await self.client.client.request("quotes.subscribe", request.encode())).data)

    async def renew(self, **fields: Any) -> SubscribeAnswer:
        return await self.ask(received=self.heard[-1].sequence if self.heard else 0, **fields)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def subscribed(client: Bus, *pairs: str) -> AsyncIterator[Listener]:
    listener = Listener(client, f"listener-{next(_names)}")
    listening = await client.client.subscribe(f"quotes.stream.{listener.name}", cb=listener.on_message)
    answer = await listener.ask(pairs=[AskedPair(pair=pair, amount=S) for pair in pairs])
    assert answer.problem == Problem.NONE, answer.detail
    assert answer.subject == f"quotes.stream.{listener.name}"
    try:
        yield listener
    finally:
        await listening.unsubscribe()
        with contextlib.suppress(errors.Error):
            await listener.ask(end=True)


async def test_a_snapshot_first_then_changes_in_sequence(world: World, client: Bus) -> None:
    async with subscribed(client, "SOL/USDC", "SOL/mSOL", "USDC/SOL") as listener:
        await listener.until(1)
        assert listener.heard[0].snapshot
        assert len(listener.heard[0].pairs) == 3
        for amount in (S, 2 * S):
            slot = await world.feed(client, DOLLAR[:1], amount)
            await listener.until(len(listener.heard) + 1)
            changes = listener.heard[-1]
            assert not changes.snapshot
            assert changes.slot == slot
            assert {(pair.token_in, pair.token_out) for pair in changes.pairs} == {
                (SOL_MINT, USDC_MINT),
                (USDC_MINT, SOL_MINT),
            }
        assert [changes.sequence for changes in listener.heard] == list(range(1, len(listener.heard) + 1))
        assert listener.known[SOL_MINT, USDC_MINT].forward[0].amount_out == world.best_out(SOL_MINT)


async def test_after_a_gap_everything_is_told_again(client: Bus) -> None:
    async with subscribed(client, "SOL/USDC", "SOL/mSOL") as listener:
        await listener.until(1)
        await listener.renew(snapshot=True)
        await listener.until(2)
        assert listener.heard[1].snapshot
        assert len(listener.heard[1].pairs) == 2
        assert listener.heard[1].sequence == 2


async def test_who_does_not_say_what_was_received_is_told_the_newest_later(world: World, client: Bus) -> None:
    async with subscribed(client, "SOL/USDC") as listener:
        for _ in range(100):
            await world.feed(client, DOLLAR[:1], S)
            await asyncio.sleep(0.02)
            if len(listener.heard) >= 8:
                break
            await listener.ask()  # keeps the lease, and says of nothing that it was received
        for _ in range(5):
            await world.feed(client, DOLLAR[:1], S)
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        assert len(listener.heard) == 8, "it goes no further ahead than the window"
        answer = await listener.renew()
        assert answer.sequence == 8
        await listener.until(9)
        assert listener.heard[8].sequence == 9
        assert listener.heard[8].slot == world.slot
        assert listener.known[SOL_MINT, USDC_MINT].forward[0].amount_out == world.best_out(SOL_MINT)


async def test_a_lease_that_is_not_renewed_ends_and_one_that_is_does_not(world: World, client: Bus) -> None:
    async with subscribed(client, "SOL/USDC") as kept, subscribed(client, "SOL/USDC") as left:
        for _ in range(12):
            await asyncio.sleep(0.2)
            assert (await kept.renew()).problem == Problem.NONE
        count = len(left.heard)
        await world.feed(client, DOLLAR[:1], S)
        await kept.until(len(kept.heard) + 1)
        assert len(left.heard) == count
        assert (await left.renew()).problem == Problem.UNKNOWN_SUBSCRIPTION


async def test_it_can_be_ended_and_begun_again_under_its_name(client: Bus) -> None:
    async with subscribed(client, "SOL/USDC") as listener:
        await listener.until(1)
        again = await listener.ask(pairs=[AskedPair(pair="USDC/SOL", amount=S)])
        assert again.problem == Problem.NONE
        await listener.until(2)
        assert listener.heard[1].sequence == 1, "a new subscription begins anew"
        assert (await listener.ask(end=True)).problem == Problem.NONE
        assert (await listener.ask(end=True)).problem == Problem.UNKNOWN_SUBSCRIPTION


async def test_there_are_only_so_many(client: Bus) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            await stack.enter_async_context(subscribed(client, "SOL/USDC"))
        one_more = Listener(client, "one-too-many")
        answer = await one_more.ask(pairs=[AskedPair(pair="SOL/USDC", amount=S)])
        assert answer.problem == Problem.TOO_MANY
        assert "try again later" in answer.detail


async def test_subscriptions_in_json(client: Bus) -> None:
    inbox = await client.client.subscribe("quotes.stream.in-json-by-hand")
    request = b'{"subscription": "in-json-by-hand", "pair": "SOL/USDC", "amount": "1000000000", "paired": true}'
    answer = json.loads((await client.client.request("quotes.subscribe", request)).data)
    assert answer["subject"] == "quotes.stream.in-json-by-hand"
    told = json.loads((await inbox.next_msg(timeout=5)).data)
    assert told["snapshot"]
    assert told["pairs"][0]["reverse"]
    await client.client.request("quotes.subscribe", b'{"subscription": "in-json-by-hand", "end": true}')


async def test_the_pages_example_runs(world: World) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "served-quotes.md").read_text()
    snippet = page.split("```python\n")[1].split("```")[0]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-c", snippet),
        env={**os.environ, "PIPELINE_NATS__URL": world.stage.url},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(15):
            sequence, amount = (await process.stdout.readline()).split()
    finally:
        process.kill()
        await process.wait()
    assert (int(sequence), int(amount)) == (1, world.best_out(SOL_MINT))


async def test_the_metrics_tell_what_was_served(world: World, client: Bus) -> None:
    await ask(client, "SOL/USDC")
    await ask(client, "SOL/USDC")
    entry = run_files.read(world.stage.config(), "quote_core")
    assert entry is not None
    async with aiohttp.ClientSession() as session, session.get(f"{entry.url}/metrics") as response:
        page = await response.text()
    assert 'pipeline_quote_answers_total{memory="hit"}' in page
    assert 'pipeline_quote_answer_timeouts_total{source="local"}' in page
    assert "pipeline_quote_requests_total" in page
    assert 'pipeline_quote_request_problems_total{problem="bad_request"}' in page


async def test_the_server_goes_and_comes_back(world: World) -> None:
    """Last in this file: the streams are empty afterwards, what the quote core knows stays."""
    await world.stage.restart_server()
    bus = await world.stage.bus("after")

    async def served() -> bool:
        return await ask(bus, "SOL/USDC") is not None

    await eventually(served, what="quotes after the restart", logs=world.stage.logs)
    async with subscribed(bus, "SOL/USDC") as listener:
        await listener.until(1)
    await bus.close()
