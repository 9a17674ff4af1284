"""Quotes over gRPC, from a real quote core process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc import aio
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from served_world import DOLLAR, S, World
from trading_stage import eventually

from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.bus import Bus
from pipeline.config import ConfigError, load_config
from pipeline.quotes_grpc import pb, pb_grpc

pytestmark = pytest.mark.integration
TOKEN = "a-token-that-is-long-enough"


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[Any]:
    async with aio.insecure_channel(world.grpc_address) as channel:
        yield pb_grpc.QuotesStub(channel)


@pytest.fixture
async def stub(world: World) -> AsyncIterator[Any]:
    async with connected(world) as made:
        yield made


def asked(pair: str, amount: int = S) -> Any:
    return pb.AskedPair(pair=pair, amount=amount)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_a_quote_both_ways(world: World, stub: Any) -> None:
    for _ in range(100):
        reply = await stub.GetQuote(pb.GetQuoteRequest(pair=asked("SOL/USDC"), paired=True))
        forward, reverse = reply.quotes.forward[0], reply.quotes.reverse[0]
        if forward.oracle_amount_out:
            break
        # Quotes may be served before the oracle's first price is there.
        await asyncio.sleep(0.05)
    assert reply.slot == world.slot
    assert forward.amount_out == world.best_out(SOL_MINT)
    assert (reverse.token_in, reverse.amount_in) == (USDC_MINT, forward.amount_out)
    assert (forward.provider, forward.protocol, forward.band) == ("local", "WHIRLPOOL", pb.BAND_EXECUTE)
    assert forward.confidence > 0.9
    assert forward.oracle_amount_out == 150_000_000


async def test_problems_have_their_status_and_say_what_to_do(stub: Any) -> None:
    code, words = await refused(stub.GetQuote(pb.GetQuoteRequest(pair=asked("SOL/DOGE"))))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "neither a known symbol" in words
    code, words = await refused(stub.GetQuote(pb.GetQuoteRequest(pair=asked("SOL/USDC", 0))))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "amount is missing" in words
    code, _ = await refused(stub.GetQuote(pb.GetQuoteRequest()))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    code, _ = await refused(stub.GetQuote(pb.GetQuoteRequest(pair=asked("SOL/USDC", 2**64 - 1))))
    assert code is grpc.StatusCode.NOT_FOUND
    code, words = await refused(stub.GetPoolState(pb.GetPoolStateRequest(pool="nowhere")))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "pipeline pools list" in words
    for request in (pb.StreamBatchQuotesRequest(), pb.StreamBatchQuotesRequest(pairs=[asked("SOL/DOGE")])):
        code, _ = await refused(stub.StreamBatchQuotes(request).read())
        assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    code, words = await refused(
        stub.StreamBatchQuotes(pb.StreamBatchQuotesRequest(pairs=[asked("SOL/USDC")] * 17)).read()
    )
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "at most 16" in words


async def test_a_request_that_is_too_large_is_refused(stub: Any) -> None:
    huge = pb.StreamBatchQuotesRequest(pairs=[pb.AskedPair(pair="x" * 100_000)] * 20)
    code, _ = await refused(stub.StreamBatchQuotes(huge).read())
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_pool_with_its_grid(world: World, stub: Any) -> None:
    state = await stub.GetPoolState(pb.GetPoolStateRequest(pool=DOLLAR[0]))
    assert (state.pool, state.slot, state.protocol) == (DOLLAR[0], world.pools[DOLLAR[0]].slot, "WHIRLPOOL")
    for row in state.quotes:
        assert row.amount_out == world.out(DOLLAR[0], state.token_a if row.a_to_b else state.token_b, row.amount_in)


async def test_a_stream_of_changes(world: World, client: Bus, stub: Any) -> None:
    stream = stub.StreamBatchQuotes(
        pb.StreamBatchQuotesRequest(pairs=[asked("SOL/USDC"), asked("SOL/mSOL")], paired=True)
    )
    first = await stream.read()
    assert (first.sequence, first.snapshot, len(first.pairs)) == (1, True, 2)
    for sequence in (2, 3):
        slot = await world.feed(client, DOLLAR[:1], S)
        changes = await stream.read()
        assert (changes.sequence, changes.snapshot, changes.slot) == (sequence, False, slot)
        assert [(pair.token_in, pair.token_out) for pair in changes.pairs] == [(SOL_MINT, USDC_MINT)]
    assert changes.pairs[0].forward[0].amount_out == world.best_out(SOL_MINT)
    stream.cancel()


async def test_a_client_that_reads_slowly_gets_the_newest_and_one_that_goes_is_let_go(
    world: World, client: Bus, stub: Any
) -> None:
    before = (await stub.Health(pb.HealthRequest())).subscriptions
    async with aio.insecure_channel(world.grpc_address) as channel:
        # Sixteen pairs a message fill the transport's window soon, for a client that does not read.
        pairs = [asked("SOL/USDC", S + number) for number in range(16)]
        stream = pb_grpc.QuotesStub(channel).StreamBatchQuotes(pb.StreamBatchQuotesRequest(pairs=pairs, paired=True))
        assert (await stream.read()).snapshot
        for _ in range(120):
            await world.feed(client, DOLLAR[:1], S)
        await asyncio.sleep(0.1)
        last = world.slot
        told = 1
        async with asyncio.timeout(20):
            while (changes := await stream.read()).slot < last:
                told += 1
                assert changes.sequence == told
        assert told + 1 < 121, "changes were conflated"
        assert changes.pairs[0].forward[0].amount_out == world.best_out(SOL_MINT)
        assert (await stub.Health(pb.HealthRequest())).subscriptions == before + 1

    async def gone() -> bool:
        return (await stub.Health(pb.HealthRequest())).subscriptions == before

    await eventually(gone, what="the subscription to end", logs=world.stage.logs)


async def test_health_and_reflection(world: World, stub: Any) -> None:
    health = await stub.Health(pb.HealthRequest())
    assert (health.serving, health.slot, health.pools) == (True, world.slot, len(world.pools))

    def describe() -> list[str]:
        with grpc.insecure_channel(world.grpc_address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert "arbitrage.quotes.v1.Quotes" in database.get_services()
            service = DescriptorPool(database).FindServiceByName("arbitrage.quotes.v1.Quotes")
            return [method.name for method in service.methods]

    assert await asyncio.to_thread(describe) == ["GetQuote", "GetPoolState", "StreamBatchQuotes", "Health"]


async def test_a_token_is_asked_for_where_one_is_set(tmp_path: Path) -> None:
    guarded = World(tmp_path, **{"serve.grpc_token": TOKEN})
    try:
        await guarded.open()
        async with connected(guarded) as stub:
            for metadata in ((), (("authorization", "Bearer wrong"),), (("authorization", TOKEN),)):
                code, words = await refused(stub.Health(pb.HealthRequest(), metadata=metadata))
                assert code is grpc.StatusCode.UNAUTHENTICATED
                assert "serve.grpc_token" in words
                request = pb.StreamBatchQuotesRequest(pairs=[asked("SOL/USDC")])
                code, _ = await refused(stub.StreamBatchQuotes(request, metadata=metadata).read())
                assert code is grpc.StatusCode.UNAUTHENTICATED
            right = (("authorization", f"Bearer {TOKEN}"),)
            assert (await stub.Health(pb.HealthRequest(), metadata=right)).serving
            stream = stub.StreamBatchQuotes(pb.StreamBatchQuotesRequest(pairs=[asked("SOL/USDC")]), metadata=right)
            assert (await stream.read()).snapshot
            stream.cancel()
    finally:
        guarded.close()


def test_other_addresses_than_a_loopback_need_a_token() -> None:
    with pytest.raises(ConfigError, match="grpc_token must be set"):
        load_config({"serve.grpc_host": "0.0.0.0"}, environment={})
    with pytest.raises(ConfigError, match="at least 16 characters"):
        load_config({"serve.grpc_token": "short"}, environment={})
    given = {"serve.grpc_host": "0.0.0.0", "serve.grpc_token": TOKEN}
    assert load_config(given, environment={}).serve.grpc_host == "0.0.0.0"
