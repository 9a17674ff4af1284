"""Hermes: its answers are believed as far as their text goes, and a hostile service costs one bounded call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from markets.oracle.hermes import MAX_BYTES, Hermes, HermesFailed, parse_latest
from markets.oracle.pyth import RECEIVER_PROGRAM, OracleRefused, PriceUpdate
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.config import load_config
from pipeline.messages import OraclePrice
from tests.oracle.test_pyth import SOL_FEED, USDC_FEED, account
from workers.quote_core.oracle import OraclePart, feeds_of, push_account

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def entry(feed: str = SOL_FEED, **price: Any) -> dict[str, Any]:
    whole = {"price": "15000000000", "conf": "9000000", "expo": -8, "publish_time": 1_700_000_000}
    return {"id": feed, "price": whole | price, "ema_price": {}, "metadata": {"slot": 1}}


def answer(*entries: Any) -> bytes:
    return json.dumps({"binary": {"encoding": "hex", "data": ["00"]}, "parsed": list(entries)}).encode()


@asynccontextmanager
async def serving(handler: Handler, *, key: str = "", timeout_s: float = 2.0) -> AsyncIterator[Hermes]:
    app = web.Application()
    app.router.add_get("/v2/updates/price/latest", handler)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield Hermes(session, str(server.make_url("/")), key=key, timeout_s=timeout_s)


def replying(body: bytes, status: int = 200, **headers: str) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers=headers)

    return handler


async def test_prices_of_the_feeds_asked_for() -> None:
    asked: list[tuple[Any, ...]] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append((request.query.getall("ids[]"), request.query["parsed"], request.headers.get("Authorization")))
        return web.Response(body=answer(entry(), entry(USDC_FEED, price="100001234"), entry("ab" * 32)))

    async with serving(handler, key="the-key") as hermes:
        found = await hermes.latest(["0x" + SOL_FEED.upper(), USDC_FEED])
    assert found == {
        SOL_FEED: PriceUpdate(SOL_FEED, 15_000_000_000, 9_000_000, -8, 1_700_000_000),
        USDC_FEED: PriceUpdate(USDC_FEED, 100_001_234, 9_000_000, -8, 1_700_000_000),
    }
    assert asked == [([SOL_FEED, USDC_FEED], "true", "Bearer the-key")]


async def failure(handler: Handler, timeout_s: float = 2.0) -> HermesFailed:
    async with serving(handler, timeout_s=timeout_s) as hermes:
        with pytest.raises(HermesFailed) as caught:
            await hermes.latest([SOL_FEED])
    assert "127.0.0.1" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (replying(b"", 500), "status"),
        (replying(answer(entry()), 302, Location="/v2/updates/price/latest"), "status"),
        (replying(b"", 401), "unauthorized"),
        (replying(b"", 403), "unauthorized"),
        (replying(answer(entry())[:-9]), "malformed"),
        (replying(b"<html>"), "malformed"),
        (replying(b"\xff\xfe"), "malformed"),
        (replying(b"[" * 100_000), "malformed"),
        (replying(b"[]"), "shape"),
        (replying(b'{"error": "no"}'), "shape"),
        (replying(b'{"parsed": {}}'), "shape"),
        (replying(b" " * (MAX_BYTES + 1)), "too_large"),
    ],
)
async def test_bad_answers_are_named(handler: Handler, reason: str) -> None:
    assert (await failure(handler)).reason == reason


async def test_a_rate_limit_says_how_long() -> None:
    assert (await failure(replying(b"", 429, **{"Retry-After": "17"}))).retry_after_s == 17
    assert (await failure(replying(b"", 429, **{"Retry-After": "soon"}))).retry_after_s == 0


async def test_silence_and_dripping_end_in_time() -> None:
    async def silent(_request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.02)
        return response

    for handler in (silent, dripping):
        began = time.monotonic()
        assert (await failure(handler, timeout_s=0.2)).reason == "timeout"
        assert time.monotonic() - began < 2


async def test_nobody_there() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(HermesFailed, match="unreachable"):
            await Hermes(session, "http://127.0.0.1:1").latest([SOL_FEED])


@pytest.mark.parametrize(
    "wrong",
    [
        {"price": 15_000_000_000},
        {"price": "1e9"},
        {"price": "-5"},
        {"price": "0"},
        {"price": ""},
        {"price": "9" * 30},
        {"price": str(2**63)},
        {"conf": "-1"},
        {"conf": None},
        {"expo": "-8"},
        {"expo": True},
        {"expo": -8.0},
        {"expo": 99},
        {"publish_time": "1700000000"},
        {"publish_time": -1},
        {"publish_time": 10**15},
    ],
)
def test_a_price_that_is_none_costs_only_its_feed(wrong: dict[str, Any]) -> None:
    found = parse_latest(answer(entry(**wrong), entry(USDC_FEED)), [SOL_FEED, USDC_FEED])
    assert isinstance(found[SOL_FEED], OracleRefused)
    assert isinstance(found[USDC_FEED], PriceUpdate)


def test_two_prices_of_one_feed_are_none() -> None:
    assert isinstance(parse_latest(answer(entry(), entry(price="1")), [SOL_FEED])[SOL_FEED], OracleRefused)
    assert parse_latest(answer(None, 3, {}, {"id": 4}), [SOL_FEED]) == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["price", "conf", "expo"]), inner),
    max_leaves=8,
)


@given(json_values, json_values)
def test_json_of_any_kind_is_an_answer_or_a_failure(parsed: object, price: object) -> None:
    for document in ({"parsed": parsed}, {"parsed": [{"id": SOL_FEED, "price": price}]}, parsed):
        with contextlib.suppress(HermesFailed):
            for update in parse_latest(json.dumps(document).encode(), [SOL_FEED]).values():
                assert isinstance(update, OracleRefused) or update.price > 0


def part(told: list[OraclePrice], read: Any = None, **overrides: object) -> OraclePart:
    """Return the part with a context that notes what is degraded."""
    config = load_config({"oracle.poll_ms": 100, **overrides}, environment={})
    missing: dict[str, str] = {}
    health = SimpleNamespace(
        missing=missing,
        collectors=[],
        degraded=lambda detail, *, cause: missing.update({cause: detail}),
        recovered=lambda *, cause: missing.pop(cause, None),
    )
    log = SimpleNamespace(warning=lambda *_words, **_fields: None)
    context: Any = SimpleNamespace(config=config, clock=time.time_ns, name="quote_core", health=health, log=log)
    return OraclePart(context, told.append, read)


async def until(condition: Callable[[], object]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within 5 s")


async def test_the_part_tells_each_price_once_from_both_sources() -> None:
    published = [1_700_000_000]
    asked: list[list[str]] = []

    async def read(addresses: list[str]) -> list[tuple[str, bytes] | None]:
        asked.append(addresses)
        return [(RECEIVER_PROGRAM, account(published_s=published[0])), (RECEIVER_PROGRAM, account(level=b"\x00\x05"))]

    app = web.Application()
    app.router.add_get("/v2/updates/price/latest", replying(answer(entry(), entry(USDC_FEED))))
    told: list[OraclePrice] = []
    async with TestServer(app) as server:
        oracle = part(told, read, **{"oracle.hermes_url": str(server.make_url("/"))})
        assert oracle.asks
        task = asyncio.create_task(oracle.run())
        await until(lambda: len(asked) >= 3 and len(told) >= 3)
        published[0] += 1
        await until(lambda: len(told) >= 4)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert asked[0] == [
        "7UVimffxr9ow1uXYxsr4LHAcV58mLzhmwaeKvJ1pjLiE",
        "Dpw1EAVrSB1ibxiDQyTAW6Zip3J4Btk2x4SgApQCeFbX",
    ]
    by_source = sorted((price.source, price.token) for price in told)
    assert by_source == [("hermes", USDC_MINT), ("hermes", SOL_MINT), ("pyth", SOL_MINT), ("pyth", SOL_MINT)]
    assert len({price.id for price in told}) == 4
    assert oracle.figures.failed[("pyth", "partial_verification")] >= 3
    families = {family.name: family for collect in oracle.context.health.collectors for family in collect()}
    samples = {tuple(sample.labels.values()): sample.value for sample in families["pipeline_oracle_prices"].samples}
    assert samples == {("hermes",): 2, ("pyth",): 2}
    assert "oracle-pyth" in oracle.context.health.missing
    assert "oracle-hermes" not in oracle.context.health.missing


async def test_a_chain_that_cannot_be_read_does_not_end_the_part() -> None:
    calls = 0

    async def read(_addresses: list[str]) -> list[tuple[str, bytes] | None]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("down")
        return [None, (RECEIVER_PROGRAM, account(feed=USDC_FEED))]

    told: list[OraclePrice] = []
    oracle = part(told, read)
    task = asyncio.create_task(oracle.run())
    await until(lambda: told)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [price.token for price in told] == [USDC_MINT]
    assert oracle.figures.failed == {("pyth", "unreachable"): 1, ("pyth", "short_data"): 1}


def test_nobody_to_ask() -> None:
    assert not part([]).asks
    assert not part([], object(), **{"oracle.pyth_accounts": False}).asks


def test_configuration() -> None:
    config = load_config(environment={})
    assert feeds_of(config) == {SOL_FEED: SOL_MINT, USDC_FEED: USDC_MINT}
    assert push_account(SOL_FEED, config.oracle.pyth_push_program) == "7UVimffxr9ow1uXYxsr4LHAcV58mLzhmwaeKvJ1pjLiE"
