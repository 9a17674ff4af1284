"""Every hostile answer over real sockets: it is refused for its reason, and costs its provider alone."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
from dataclasses import replace

import pytest
from stage import PATIENCE, SLOT, SOL_USDC, TERMS, stage

from localnet.provider_faults import LIES, Fault, Faults
from markets.limits import BreakerState
from markets.providers.answer import Ask, BadAnswer, Known, Reason
from markets.providers.fetch import Fetcher

EXPECTED = {
    Fault.WRONG_MINT: Reason.WRONG_MINT,
    Fault.WRONG_AMOUNT: Reason.WRONG_AMOUNT,
    Fault.ZERO: Reason.ZERO,
    Fault.ABSURD_PRICE: Reason.PRICE,
    Fault.BAD_SPLITS: Reason.SPLITS,
    Fault.NO_STEPS: Reason.ROUTE,
    Fault.DISCONNECTED: Reason.ROUTE,
    Fault.LOW_MINIMUM: Reason.SLIPPAGE,
    Fault.HUGE_NUMBER: Reason.HUGE,
    Fault.FLOAT_AMOUNT: Reason.SHAPE,
    Fault.MISSING_FIELD: Reason.SHAPE,
    Fault.STALE: Reason.STALE,
    Fault.FUTURE: Reason.STALE,
    Fault.TRUNCATED: Reason.MALFORMED,
    Fault.DEEP: Reason.MALFORMED,
    Fault.ERROR_BODY: Reason.ERROR_BODY,
    Fault.CONTENT_TYPE: Reason.CONTENT_TYPE,
    Fault.TOO_LARGE: Reason.TOO_LARGE,
    Fault.GZIP_BOMB: Reason.TOO_LARGE,
    Fault.BAD_GZIP: Reason.ENCODING,
    Fault.SERVER_ERROR: Reason.STATUS,
    Fault.REDIRECT: Reason.REDIRECT,
    Fault.RATE_LIMITED: Reason.RATE_LIMITED,
    Fault.SILENT: Reason.TIMEOUT,
    Fault.DRIP: Reason.TIMEOUT,
    Fault.LOST: Reason.LOST,
    Fault.CUT: Reason.LOST,
}
# Raydium's shape names no slot, so it cannot lie about one.
CANNOT = {("raydium", Fault.STALE), ("raydium", Fault.FUTURE)}
NAMES = ("jupiter_lite", "jupiter_pro", "dflow", "raydium")
LOCAL_OUT = 150_000_000
HASTY = replace(TERMS, timeout_s=0.4)


def test_every_fault_has_an_expectation() -> None:
    assert set(EXPECTED) | {Fault.SLOW} == set(Fault)


def local_prices(ask: Ask) -> Known:
    return Known((LOCAL_OUT if ask is SOL_USDC.forward else 6_660_000_000,), SLOT)


@pytest.mark.parametrize("name", NAMES)
async def test_each_is_refused_for_its_reason(name: str) -> None:
    for fault, reason in EXPECTED.items():
        if (name, fault) in CANNOT:
            continue
        async with stage([name], terms=HASTY) as there:
            there.fail(name, fault)
            began = time.monotonic()
            said = await there.ask(known=local_prices)
            took_s = time.monotonic() - began
            assert said is not None
            assert not said.whole
            assert said.forward.bad is not None, fault
            assert (fault, said.forward.bad.reason) == (fault, reason)
            assert took_s < HASTY.timeout_s + 1.5, fault
            assert there.desk.states[0].bad[reason] == 2
            assert there.desk.states[0].good == 0


@pytest.mark.parametrize("name", NAMES)
async def test_a_right_answer_is_believed_also_when_it_is_slow(name: str) -> None:
    async with stage([name]) as there:
        there.fail(name, Fault.SLOW)
        said = await there.ask()
        assert said is not None
        assert said.whole
        forward, reverse = said.forward.answer, said.reverse.answer
        assert forward is not None
        assert reverse is not None
        assert forward.amount_out == pytest.approx(LOCAL_OUT, rel=0.01)
        assert forward.amount_in == reverse.amount_in == 1_000_000_000
        assert forward.route
        assert there.desk.states[0].good == 2


async def test_a_liar_costs_itself_alone() -> None:
    """One provider fails in every way while another answers: every pair is whole, and no lie is ever told on."""
    for fault in EXPECTED:
        async with stage(["jupiter_lite", "raydium"], terms=replace(HASTY, retries=1)) as there:
            there.fail("jupiter_lite", fault)
            said = await there.ask(known=local_prices)
            assert said is not None
            assert said.whole, (fault, said.forward.bad, said.reverse.bad)
            assert {said.forward.provider, said.reverse.provider} == {"raydium"}
            liar, honest = there.desk.states
            assert liar.bad.total() == 2, "it was asked first"
            assert (liar.good, honest.good, honest.bad.total()) == (0, 2, 0)


async def test_a_liar_is_left_alone_and_comes_back() -> None:
    async with stage(["jupiter_lite"]) as there:
        lite = there.desk.states[0]
        assert (await there.ask()).whole
        there.fail("jupiter_lite", Fault.TRUNCATED)
        while lite.breaker.state is BreakerState.CLOSED:
            assert await there.ask() is not None
        asked = lite.asked
        assert await there.ask() is None, "nothing is asked while the breaker is open"
        assert lite.asked == asked
        there.fail("jupiter_lite", None)
        await asyncio.sleep(PATIENCE.breaker_open_s + 0.05)
        assert lite.breaker.state is BreakerState.HALF_OPEN
        said = await there.ask()
        assert said is not None
        assert said.whole
        assert lite.breaker.state is BreakerState.CLOSED
        assert 0 < lite.uptime < 1


async def test_too_many_requests_waits_as_long_as_the_server_says() -> None:
    async with stage(["jupiter_lite"]) as there:
        there.fail("jupiter_lite", Fault.RATE_LIMITED)
        assert await there.ask() is not None
        lite = there.desk.states[0]
        assert lite.breaker.state is BreakerState.CLOSED, "asked too often is not its fault"
        assert lite.tokens == 0
        assert 1.5 < lite.bucket.wait_s(1) <= 2.0
        assert lite.reliability == 0
        assert not lite.known


async def test_seeded_faults_repeat() -> None:
    def drawn(seed: int) -> list[Fault | None]:
        faults = Faults(seed, ratio=0.3)
        return [faults.next(name) for _ in range(200) for name in NAMES]

    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)
    share = sum(fault is not None for fault in drawn(5)) / 800
    assert 0.2 < share < 0.6
    assert set(drawn(5)) - {None} > set(LIES[:3])


async def test_a_provider_that_is_not_there() -> None:
    async with stage(["jupiter_lite"]) as there:
        await there.server.stop()
        said = await there.ask()
        assert said is not None
        assert said.forward.bad is not None
        assert said.forward.bad.reason is Reason.UNREACHABLE
        assert "127.0.0.1" not in str(said.forward.bad)


async def test_a_key_goes_out_as_a_header_and_is_never_shown() -> None:
    async with stage(["jupiter_pro"]) as there:
        assert (await there.ask()).whole
        provider = there.desk.states[0].provider
        request = provider.request(SOL_USDC.forward)
        assert request.headers == {"x-api-key": "a-secret-key"}
        assert "a-secret-key" not in f"{request!r} {provider!r} {request.url} {request.params}"


async def test_redirects_are_not_followed() -> None:
    async with stage(["jupiter_lite"]) as there:
        there.fail("jupiter_lite", Fault.REDIRECT)
        await there.ask()
        assert len(there.server.requests) == 2


async def test_a_server_that_drips_is_left_when_its_time_is_over() -> None:
    """Bytes keep coming, and still the time of the whole exchange ends it."""
    async with stage(["jupiter_lite"]) as there:
        there.fail("jupiter_lite", Fault.DRIP)
        began = time.monotonic()
        said = await there.ask()
        assert TERMS.timeout_s <= time.monotonic() - began < TERMS.timeout_s + 1.5
        assert said is not None
        assert said.forward.bad is not None
        assert there.desk.states[0].bytes_received > 0


def test_a_small_bomb_is_not_unpacked() -> None:
    packed = gzip.compress(b"A" * (50 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(BadAnswer) as refused:
            Fetcher()._unpacked(packed, "gzip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.reason is Reason.TOO_LARGE
    assert peak < 2 << 20
