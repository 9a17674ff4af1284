"""Calls over several endpoints: failover, hedging, rate limits, slot lag, and what a lying node can do: nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localnet.rpc_node import Faults
from markets.solana.rpc.accounts import packed
from markets.solana.rpc.endpoint import Endpoint, EndpointSettings
from markets.solana.rpc.errors import RateLimited, Refused, Unanswered, Unreachable
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import PoolSettings, Priority
from markets.solana.rpc.slots import MAX_AHEAD, SlotBoard

from .clock import FakeClock
from .stage import PROGRAM, QUICK, A, B, C, endpoint, eventually, nodes, result, rpc, saying, server, small_chain, write

GOOD = Faults


async def test_accounts_come_with_their_slot_and_what_does_not_exist_is_none():
    async with nodes(small_chain(), GOOD()) as (_, urls), rpc(urls) as pool:
        found = await pool.get_accounts([A, C, B])
        assert found.slot == 100
        assert found.accounts[C] is None
        account = found.accounts[B]
        assert account is not None
        assert (account.owner, account.data) == (PROGRAM, b"b" * 20)
        assert account.lamports > 0
        assert await pool.get_slot() == 100


def test_equal_causes_are_told_once():
    gone, busy = Unreachable("a.example", "cannot be reached (ConnectError)"), RateLimited("b.example", 2.0)
    told = "a.example cannot be reached (ConnectError)"
    assert str(Unanswered("getSlot", [gone], {})) == f"getSlot has no answer: {told}"
    assert str(Unanswered("getSlot", [gone] * 3, {})) == f"getSlot has no answer: 3 attempts: {told}"
    mixed = Unanswered("getSlot", [gone, busy, gone], {})
    assert str(mixed) == f"getSlot has no answer: b.example limits the rate for 2 s; 2 attempts: {told}"
    many = Unanswered("getSlot", [Unreachable(f"{name}.example", "is gone") for name in "abcd"], {})
    assert str(many) == "getSlot has no answer: b.example is gone; c.example is gone; d.example is gone"


async def test_program_accounts_pass_filters_and_are_sliced():
    async with nodes(small_chain(), GOOD()) as (_, urls), rpc(urls) as pool:
        filters = [{"dataSize": 20}, {"memcmp": {"offset": 0, "bytes": "YmI=", "encoding": "base64"}}]
        found = await pool.get_program_accounts(PROGRAM, filters, data_slice=(0, 3))
        assert {address: one.data for address, one in found.accounts.items() if one} == {B: b"bbb"}
        assert not (await pool.get_program_accounts(PROGRAM, [{"dataSize": 21}])).accounts


@pytest.mark.parametrize(
    "faults",
    [Faults(failed=1), Faults(limited=1), Faults(truncated=1), Faults(garbage=1), Faults(silent=True)],
    ids=["503", "429", "truncated", "garbage", "silent"],
)
async def test_a_bad_node_costs_only_itself(faults: Faults):
    async with nodes(small_chain(), faults, GOOD()) as (_, urls), rpc(urls) as pool:
        for _ in range(8):
            assert (await pool.get_accounts([B])).slot == 100
        bad, good = pool.endpoint_figures()
        assert good.failures == 0
        assert bad.success_ratio < 1 or bad.latency_ms > good.latency_ms
        # Once it is known to be bad it is asked seldom: when the breaker or the server lets it, or not at all.
        assert bad.calls <= 4


async def test_when_all_nodes_are_bad_the_error_names_each_of_them_and_every_call_counts():
    counted: list[bool] = []
    async with (
        nodes(small_chain(), Faults(failed=1), Faults(truncated=1)) as (_, urls),
        rpc(urls, counted=counted.append) as pool,
    ):
        with pytest.raises(Unanswered, match=r"HTTP 503.*not JSON|not JSON.*HTTP 503"):
            await pool.get_slot()
        assert counted == [True] * QUICK.attempts
        # With every breaker open nothing is asked, and that is a failure too: a rule must hear of it.
        counted.clear()
        for one in pool.endpoints:
            for _ in range(3):
                one.breaker.failure()
        pool.settings = PoolSettings(timeout_s=0.05, deadline_s=0.05)
        with pytest.raises(Unanswered, match="open"):
            await pool.get_slot()
        assert counted == [True]


async def test_a_pool_without_endpoints_says_so():
    async with rpc([]) as pool:
        with pytest.raises(Unanswered, match="no endpoint is configured"):
            await pool.get_slot()


async def test_a_slow_node_is_hedged():
    async with nodes(small_chain(), Faults(slow=1, slow_s=0.3), GOOD()) as (_, urls), rpc(urls) as pool:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await pool.get_slot() == 100
        assert loop.time() - began < 0.25
        assert (pool.figures.hedged, pool.figures.hedges_won) == (1, 1)
        slow = pool.endpoint_figures()[0]
        assert slow.failures == 0, "a call that was called off is no failure"
        assert await pool.get_slot() == 100
        assert pool.endpoint_figures()[0].calls == 1, "the slow one is asked last now"


async def test_hedging_does_not_repeat_what_is_answered_in_time():
    async with nodes(small_chain(), GOOD(), GOOD()) as (running, urls), rpc(urls) as pool:
        for _ in range(20):
            await pool.get_slot()
        assert sum(node.calls["getSlot"] for node in running if node.calls) == 20 + pool.figures.hedged


async def test_a_rate_limited_node_is_left_alone_for_as_long_as_it_asks():
    faults = Faults(limited=1, retry_after_s=30)
    async with nodes(small_chain(), faults, GOOD()) as (_, urls), rpc(urls) as pool:
        for _ in range(5):
            await pool.get_slot()
        limited = pool.endpoint_figures()[0]
        assert (limited.calls, limited.rate_limited, limited.state) == (1, 1, "limited")
        assert pool.endpoints[0].bucket.wait_s() > 20


async def test_the_bucket_limits_the_rate_and_the_urgent_go_first():
    async with (
        nodes(small_chain(), GOOD()) as (_, urls),
        RpcPool([endpoint(urls[0], rate_per_s=20.0, burst=1)], QUICK) as pool,
    ):
        await pool.get_slot()
        order: list[int] = []

        async def ask(priority: Priority) -> None:
            await pool.get_slot(priority=priority)
            order.append(priority)

        loop = asyncio.get_running_loop()
        began = loop.time()
        background = [asyncio.create_task(ask(Priority.BACKGROUND)) for _ in range(2)]
        await asyncio.sleep(0)
        urgent = [asyncio.create_task(ask(Priority.URGENT)) for _ in range(2)]
        await asyncio.gather(*background, *urgent)
        assert order == [Priority.URGENT, Priority.URGENT, Priority.BACKGROUND, Priority.BACKGROUND]
        assert loop.time() - began >= 3 / 20


async def test_a_caller_that_gives_up_in_the_line_does_not_hold_it():
    async with (
        nodes(small_chain(), GOOD()) as (_, urls),
        RpcPool([endpoint(urls[0], rate_per_s=10.0, burst=1)], QUICK) as pool,
    ):
        await pool.get_slot()
        waiting = asyncio.create_task(pool.get_slot(priority=Priority.URGENT))
        await asyncio.sleep(0.01)
        waiting.cancel()
        assert await pool.get_slot() == 100


async def test_a_node_that_lags_is_not_read_from_until_it_has_caught_up():
    chain = small_chain()
    for number in range(60):
        write(chain, bytes([number]))
    # The one that is behind is the faster one.
    slow = Faults(slow=1, slow_s=0.02)
    async with nodes(chain, Faults(behind_slots=30), slow) as (running, urls), rpc(urls) as pool:
        keeping = asyncio.create_task(pool.keep(0.02))
        await eventually(lambda: pool.states() == {pool.endpoints[0].host: "lagging", pool.endpoints[1].host: "ready"})
        for _ in range(5):
            assert (await pool.get_accounts([B])).slot == chain.newest.slot
        assert pool.endpoint_figures()[0].lag == 30
        assert "getMultipleAccounts" not in running[0].calls
        running[0].faults.behind_slots = 3
        await eventually(lambda: set(pool.states().values()) == {"ready"})
        keeping.cancel()


async def test_a_read_that_must_not_be_older_goes_to_a_node_that_is_there():
    chain = small_chain()
    for number in range(10):
        write(chain, bytes([number]))
    async with nodes(chain, Faults(behind_slots=5), GOOD()) as (_, urls), rpc(urls) as pool:
        found = await pool.get_accounts([B], min_slot=chain.newest.slot)
        assert found.slot == chain.newest.slot
        behind = pool.endpoint_figures()[0]
        assert (behind.calls, behind.failures) == (1, 0), "it is behind, not broken"


async def test_a_node_that_ignores_the_minimum_slot_is_not_believed():
    old = result({"context": {"slot": 50}, "value": [None]})
    async with server(saying(old)) as url, nodes(small_chain(), GOOD()) as (_, urls), rpc([url, *urls]) as pool:
        assert (await pool.get_accounts([C], min_slot=90)).slot == 100


async def test_a_node_of_another_chain_is_left_out():
    from localnet.chain_view import ChainView

    other = ChainView("other", {})
    other.advance(5, 1, [])
    async with (
        nodes(small_chain(), GOOD(), GOOD()) as (_, urls),
        nodes(other, GOOD()) as (_, [foreign]),
        rpc([foreign, *urls]) as pool,
    ):
        keeping = asyncio.create_task(pool.keep(10))
        await asyncio.sleep(0.2)
        keeping.cancel()
        assert [one.state for one in pool.endpoint_figures()] == ["other_chain", "ready", "ready"]
        assert pool.chain == small_chain().genesis
        assert await pool.get_slot() == 100


async def test_looking_goes_on_after_an_answer_that_nobody_thought_of(monkeypatch, caplog):
    odd = [ValueError("an answer that nobody thought of")]
    read = RpcPool._look

    async def look(pool: RpcPool, one: Endpoint) -> None:
        if odd:
            raise odd.pop()
        await read(pool, one)

    monkeypatch.setattr(RpcPool, "_look", look)
    async with nodes(small_chain(), GOOD()) as (_, urls), rpc(urls) as pool:
        keeping = asyncio.create_task(pool.keep(0.02))
        await asyncio.sleep(0.2)
        assert pool.chain == small_chain().genesis
        assert "nobody thought of" in caplog.text
        keeping.cancel()


def test_an_endpoint_alone_is_held_against_its_own_last_word():
    clock = FakeClock()
    board = SlotBoard(max_lag=5, fresh_s=10, clock=clock)
    assert board.note("a", 1_000)
    assert not board.note("a", 9_000_000)
    assert (board.best(), board.note("a", 1_001)) == (1_000, True)
    clock.forward(3_600)  # an hour without a word
    assert board.note("a", 1_001 + 9_000)
    # The clock may have stood still, as where a machine was suspended: whoever insists is believed.
    assert [board.note("a", 90_000 + more) for more in range(6)] == [False] * 4 + [True] * 2
    assert board.note("a", 5)


def test_the_chain_that_is_meant_is_not_outvoted():
    pool = RpcPool([endpoint("http://one:1"), endpoint("http://two:2")], PoolSettings(chain="meant"))
    pool.endpoints[0].chain = "another"
    pool._agree_on_chain()
    assert (pool.chain, [one.other_chain for one in pool.endpoints]) == ("meant", [True, False])
    pool.endpoints[1].chain = "meant"
    pool._agree_on_chain()
    assert (pool.chain, [one.other_chain for one in pool.endpoints]) == ("meant", [True, False])


async def test_a_slot_from_the_future_is_not_believed():
    lie = result({"context": {"slot": 10**9}, "value": [None]})
    async with server(saying(lie)) as url, nodes(small_chain(), GOOD()) as (_, urls), rpc([*urls, url]) as pool:
        assert await pool.get_slot() == 100
        pool.slots.note(pool.endpoints[0].host, 100)
        for _ in range(3):
            assert (await pool.get_accounts([C])).slot == 100


async def test_what_the_node_refuses_is_not_asked_of_the_others():
    async with nodes(small_chain(), GOOD(), GOOD()) as (running, urls), rpc(urls) as pool:
        with pytest.raises(Refused, match="max 100") as refused:
            await pool.get_accounts([A] * 101)
        assert refused.value.code == -32602
        assert sum(sum(node.calls.values()) for node in running) == 1
        assert all(one.failures == 0 for one in pool.endpoint_figures())


async def test_a_method_that_a_node_does_not_serve_is_asked_of_the_others_from_then_on():
    lacks = json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "Method not found"}})
    async with server(saying(lacks)) as url, nodes(small_chain(), GOOD()) as (_, urls), rpc([url, *urls]) as pool:
        for _ in range(3):
            await pool.get_program_accounts(PROGRAM, [])
        assert pool.endpoints[0].calls == 1
        assert pool.endpoints[0].serves("getSlot")


SECRET = "s3cr3t-key"


@pytest.mark.parametrize("path", [f"/?api-key={SECRET}", f"/{SECRET}/", f"/v2/{SECRET}?a=b"])
async def test_a_key_in_a_url_is_shown_nowhere(path: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with server(saying("no", 404)) as found, server(saying(f"see https://x/?k={SECRET}", 403)) as denied:
        dead = "http://127.0.0.1:1"
        settings = [endpoint(base + path) for base in (found, denied, dead)]
        settings.append(endpoint(f"http://user:{SECRET}@127.0.0.1:1/"))
        async with RpcPool(settings, QUICK) as pool:
            with pytest.raises(Unanswered) as failed:
                await pool.get_slot()
            texts = [
                "".join(traceback.format_exception(failed.value)),
                repr(failed.value),
                *(repr(cause) + "".join(traceback.format_exception(cause)) for cause in failed.value.causes),
                repr(pool.endpoints),
                repr(settings),
                repr(pool.endpoint_figures()),
                repr(pool.states()),
                caplog.text,
            ]
    assert len(failed.value.causes) == QUICK.attempts
    assert not [text for text in texts if SECRET in text]


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://host/", "http://", f"http://host:99999/{SECRET}", "file:///etc"]
)
def test_a_url_that_is_none_is_refused_without_being_repeated(url: str):
    with pytest.raises(ValueError, match="an endpoint's URL") as refused:
        EndpointSettings(url)
    assert SECRET not in str(refused.value)


def test_endpoints_of_one_host_are_told_apart():
    pool = RpcPool([endpoint("http://one/a"), endpoint("http://one/b"), endpoint("http://two:8899/")])
    assert [one.host for one in pool.endpoints] == ["one#1", "one#2", "two:8899"]
    assert pool.endpoints[2].settings.socket_url == "ws://two:8899/"
    assert endpoint("https://h/").socket_url == "wss://h/"


@given(st.lists(st.lists(st.integers(0, 150), min_size=1, max_size=30, unique=True), max_size=30))
def test_groups_are_packed_whole_and_in_order(groups: list[list[int]]):
    named = [[str(number) for number in group] for group in groups]
    calls = packed(named, 40)
    assert [group for call in calls for group in call] == named
    for call in calls:
        assert len({name for group in call for name in group}) <= 40
    # No two neighbours would have fitted into one.
    for first, second in itertools.pairwise(calls):
        assert len({name for group in [*first, second[0]] for name in group}) > 40


def test_a_group_that_fits_no_call_is_refused():
    with pytest.raises(ValueError, match="cannot be read in one call"):
        packed([[str(number) for number in range(101)]])


def test_slots_are_compared_when_they_are_told():
    clock = FakeClock()
    board = SlotBoard(max_lag=5, fresh_s=10, clock=clock)
    assert board.note("a", 100)
    assert board.note("b", 94)
    assert (board.best(), board.lag("b"), board.lagging("b")) == (100, 6, True)
    clock.forward(3)
    # That a has come further since is no news about b.
    assert board.note("b", 99)
    assert not board.lagging("b")
    assert board.note("a", 200)
    assert not board.lagging("b")
    assert not board.note("c", 200 + MAX_AHEAD + 1)
    assert board.slot("c") == 0
    clock.forward(11)
    assert board.best() == 0
    assert board.note("c", 10**9), "nobody else says anything"


def test_the_figures_of_an_endpoint():
    clock = FakeClock()
    pool = RpcPool([endpoint("http://h/")], clock=clock)
    one: Endpoint = pool.endpoints[0]
    for ms in range(1, 101):
        one.succeeded(ms * 1_000_000)
    figures = one.figures(7, 0, lagging=False)
    assert (figures.latency_p50_ms, figures.latency_p99_ms, figures.calls) == (51, 100, 100)
    assert 90 < figures.latency_ms < 100
    assert (figures.state, figures.slot) == ("ready", 7)
