"""The quote core's RPC source over simulated nodes: the same quotes as the world has, through every fault."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from markets.pool_states import PoolStates
from markets.solana.watch.watcher import Batch
from pipeline.errors import UsageFailure
from pipeline.health import metrics_page
from pipeline.messages import OraclePrice, PoolState, Protocol, SlotUpdate

from .offline_chain import Chain, Followed, followed
from .stage import eventually


async def settled(chain: Chain, follow: Followed, within_s: float = 40.0) -> None:
    await eventually(
        lambda: follow.grids and not follow.differing(chain) and follow.settled[-1].slot >= chain.world.slot,
        within_s,
        f"the quotes of slot {chain.world.slot}",
    )


async def moved(chain: Chain, follow: Followed, times: int = 1, within_s: float = 40.0) -> None:
    """Move the market some times; each time the quotes follow."""
    for _ in range(times):
        while not chain.step():
            pass
        await settled(chain, follow, within_s)


async def test_every_pool_is_found_and_quoted_as_the_world_has_it(tmp_path: Path):
    async with followed(tmp_path) as (chain, follow):
        await settled(chain, follow)
        assert set(follow.grids) == set(chain.world.pools)
        await moved(chain, follow, 6)
        assert {value.market for value in follow.settled} == {chain.served.chain.genesis}
        for value in follow.grids.values():
            # What another process parses from the message is of the same second.
            assert value.observed_ns // 10**9 <= chain.world.market_ns // 10**9
        figures = follow.source.watcher.figures if follow.source.watcher else None
        assert figures is not None
        assert figures.notified > 0
        assert follow.health.rpc_calls > 0
        assert follow.health.rpc_failures == 0


async def test_times_and_slots_never_go_back(tmp_path: Path):
    async with followed(tmp_path) as (chain, follow):
        await settled(chain, follow)
        await moved(chain, follow, 8)
        told = [(value.slot, value.market_ns) for value in follow.settled]
        assert told == sorted(told)
        assert all(confirmed <= told[-1][1] for confirmed in follow.confirmed.values())


@pytest.mark.parametrize("sockets", [0, 1])
async def test_polling_alone_keeps_up_and_confirms(tmp_path: Path, sockets: int):
    async with followed(tmp_path, **{"rpc.sockets": sockets}) as (chain, follow):
        await settled(chain, follow)
        await moved(chain, follow, 3)
        before = dict(follow.confirmed)
        grids = dict(follow.grids)
        await eventually(
            lambda: sum(follow.confirmed[pool] > before[pool] for pool in before) >= 16, what="polls to confirm"
        )
        assert follow.grids == grids, "a state that was confirmed is not quoted again"


FAULTS: dict[str, dict[str, object]] = {
    "limited": {"limited": 0.3, "retry_after_s": 0},
    "all": {"limited": 0.1, "retry_after_s": 0, "failed": 0.1, "truncated": 0.1, "slow": 0.1, "slow_s": 0.2},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_node_that_fails_now_and_then_does_not_change_a_quote(tmp_path: Path, fault: str):
    async with followed(tmp_path) as (chain, follow):
        await settled(chain, follow)
        chain.nodes[0].faults.apply(FAULTS[fault])
        await moved(chain, follow, 3)
        assert not follow.voids
        assert follow.health.rpc_failures > 0


async def test_what_a_failing_node_did_not_tell_of_is_looked_for_again(tmp_path: Path):
    async with followed(tmp_path, Chain(**{"localnet.fault_failed": 0.2}), **{"rpc.attempts": 1}) as (chain, follow):
        await eventually(lambda: follow.grids)
        chain.nodes[0].faults.apply({"failed": 0.0})
        await settled(chain, follow)


async def test_a_node_that_is_gone_and_comes_back(tmp_path: Path):
    async with followed(tmp_path) as (chain, follow):
        await settled(chain, follow)
        port = int(chain.urls[0].rsplit(":", 1)[1])
        await chain.nodes[0].stop()
        chain.step(5)
        await eventually(lambda: "no RPC endpoint can be used" in follow.health._missing.get("rpc", ""))
        failed = follow.health.rpc_failures
        await eventually(lambda: follow.health.rpc_failures > failed, what="the failures to be counted on")
        await chain.nodes[0].start(port)
        await settled(chain, follow)
        await eventually(lambda: "rpc" not in follow.health._missing)
        await moved(chain, follow, 3)


async def test_a_cut_websocket_is_opened_again_and_what_changed_meanwhile_is_read(tmp_path: Path):
    # So seldom polled that only the websocket tells.
    async with followed(tmp_path, **{"rpc.fast_s": 600.0, "rpc.slow_s": 600.0}) as (chain, follow):
        await settled(chain, follow)
        socket = follow.source.sockets[0]
        await eventually(lambda: socket.figures.subscribed == socket.figures.wanted > 0)
        for _ in range(3):
            chain.nodes[0].cut()
            chain.step(3)
            await settled(chain, follow)
            await eventually(lambda: socket.figures.subscribed == socket.figures.wanted > 0)
        await moved(chain, follow, 3)
        assert socket.figures.connections == 4


async def test_a_websocket_that_says_nothing_is_given_up(tmp_path: Path):
    settings: dict[str, object] = {"rpc.silent_s": 0.3, "rpc.slow_s": 600.0, "rpc.fast_s": 600.0}
    async with followed(tmp_path, **settings) as (chain, follow):
        ticking = asyncio.create_task(tick(chain))
        await eventually(lambda: follow.grids and not follow.differing(chain))
        connections = follow.source.sockets[0].figures.connections
        chain.nodes[0].told = lambda: None
        await eventually(lambda: follow.source.sockets[0].figures.connections > connections)
        assert "told no slot" in follow.source.sockets[0].figures.last_failure
        del chain.nodes[0].told
        ticking.cancel()
        chain.step()
        await settled(chain, follow)


async def tick(chain: Chain) -> None:
    while True:
        chain.step()
        await asyncio.sleep(0.05)


async def test_a_websocket_that_forgets_a_subscription_is_found_out_by_polls(tmp_path: Path):
    async with followed(tmp_path) as (chain, follow):
        await settled(chain, follow)
        socket = follow.source.sockets[0]
        await eventually(lambda: socket.figures.subscribed == socket.figures.wanted > 0)
        for client in chain.nodes[0]._clients:
            client.subscriptions.forget("account")
        ticking = asyncio.create_task(tick(chain))
        await eventually(lambda: socket.figures.connections > 1)
        ticking.cancel()
        assert "did not tell of a change" in socket.figures.last_failure
        await settled(chain, follow)


async def test_a_node_that_lies_on_its_websocket_is_left(tmp_path: Path):
    async with followed(tmp_path, Chain(**{"localnet.rpc_nodes": 2})) as (chain, follow):
        await settled(chain, follow)
        socket = follow.source.sockets[0]
        bad = next(node for node, url in zip(chain.nodes, chain.urls, strict=True) if socket.figures.host in url)
        for client in bad._clients:
            client._put({"jsonrpc": "2.0", "method": "slotNotification", "params": {"result": 7, "subscription": 1}})
        await eventually(
            lambda: socket.figures.host and socket.figures.host not in str(bad._runner and bad._runner.addresses)
        )
        await moved(chain, follow, 2)


async def test_a_node_that_is_behind_is_not_read_from(tmp_path: Path):
    async with followed(tmp_path, Chain(**{"localnet.rpc_nodes": 2}), **{"rpc.max_lag_slots": 10}) as (chain, follow):
        chain.step(60)
        chain.nodes[0].faults.behind_slots = 40
        await settled(chain, follow)
        await moved(chain, follow, 5)
        assert follow.source.rpc is not None
        assert "lagging" in follow.source.rpc.states().values()
        # When it goes back further still, no older state comes through.
        chain.nodes[0].faults.behind_slots = 200
        await moved(chain, follow, 3)


async def test_another_chain_behind_the_same_address_replaces_all_pools(tmp_path: Path):
    async with followed(tmp_path) as (chain, follow):
        await settled(chain, follow)
        port = int(chain.urls[0].rsplit(":", 1)[1])
        await chain.served.stop()
        other = Chain(seed=2)
        await other.nodes[0].start(port)
        try:
            await eventually(lambda: follow.settled[-1].market == other.served.chain.genesis, 10.0)
            await eventually(lambda: not follow.differing(other), 10.0)
        finally:
            await other.served.stop()


async def test_what_is_published_is_what_was_read(tmp_path: Path):
    async with followed(tmp_path, **{"rpc.keyframe_s": 0.3}) as (chain, follow):
        await settled(chain, follow)
        await moved(chain, follow, 12)
        states = PoolStates()
        counted: dict[int, int] = {}
        for message in follow.bus.published:
            if isinstance(message, PoolState):
                states.apply(message)
                counted[message.slot] = counted.get(message.slot, 0) + 1
            elif isinstance(message, SlotUpdate):
                assert message.pools_changed <= counted.get(message.slot, 0)
                counted.pop(message.slot, None)
        assert not states.broken()
        for address, value in follow.grids.items():
            pool = states.get(address)
            assert pool is not None
            assert pool.snapshot() == value.pool.snapshot()
        messages = [message for message in follow.bus.published if isinstance(message, PoolState)]
        assert any(not message.complete for message in messages)
        # One id, one content: what is told again is recognised as such.
        contents = {(one.id, one.slot, one.write_version, tuple(one.accounts)) for one in messages}
        assert len({one.id for one in messages}) == len(contents) < len(messages)


async def test_a_bus_that_is_behind_is_not_filled_and_a_new_one_is_told_everything(tmp_path: Path):
    async with followed(tmp_path) as (chain, follow):
        await settled(chain, follow)
        follow.bus.pending_publishes = 10_000
        follow.bus.published.clear()
        await moved(chain, follow, 3)
        assert not [one for one in follow.bus.published if isinstance(one, PoolState)]
        follow.bus.pending_publishes = 0
        await moved(chain, follow, 3)
        assert [one for one in follow.bus.published if isinstance(one, PoolState)]
        # What was lost on its way is told whole the next time: nothing is built on it.
        follow.bus.loses = True
        follow.bus.published.clear()
        await moved(chain, follow, 3)
        await asyncio.sleep(0)
        lost = {one.pool for one in follow.bus.published if isinstance(one, PoolState)}
        follow.bus.loses = False
        follow.bus.published.clear()
        await moved(chain, follow, 5)
        first: dict[str, bool] = {}
        for one in follow.bus.published:
            if isinstance(one, PoolState):
                first.setdefault(one.pool, one.complete)
        assert lost & first.keys()
        assert all(first[pool] for pool in lost & first.keys())
        # After a new connection the server may be another one: everything is told whole.
        follow.bus.published.clear()
        follow.bus.counters.reconnects += 1
        await eventually(
            lambda: len({one.pool for one in follow.bus.published if isinstance(one, PoolState) and one.complete}) >= 16
        )


async def test_a_pool_that_cannot_be_read_is_void_and_told_to_nobody_until_it_can(tmp_path: Path):
    async with followed(tmp_path) as (chain, follow):
        await settled(chain, follow)
        held = next(one for one in chain.world.pools.values() if one.pool.protocol == Protocol.RAYDIUM_CPMM)
        pool, view = held.pool.address, chain.served.chain.newest
        good = view.accounts[pool]
        follow.bus.published.clear()
        # No rate of a configuration is that high; and then the pool is closed for good.
        bad = dataclasses.replace(good, data=good.data[:329] + b"\xff" + good.data[330:])
        for account, reason in ((bad, "swap_disabled"), (None, "account_closed")):
            chain.served.chain.advance(chain.served.chain.newest.slot + 1, view.unix_time, [(pool, account)])
            chain.nodes[0].told()
            await eventually(lambda reason=reason: pool in follow.voids and reason in follow.voids[pool].reason)
        assert pool not in {one.pool for one in follow.bus.published if isinstance(one, PoolState)}
        chain.served.chain.advance(chain.served.chain.newest.slot + 1, view.unix_time, [(pool, good)])
        chain.nodes[0].told()
        await eventually(lambda: pool in follow.grids)
        told = [one for one in follow.bus.published if isinstance(one, PoolState) and one.pool == pool]
        assert told[0].complete


async def test_a_request_reads_a_pool_before_it_is_due(tmp_path: Path):
    async with followed(tmp_path, **{"rpc.fast_s": 600.0, "rpc.slow_s": 600.0}) as (chain, follow):
        await settled(chain, follow)
        await asyncio.sleep(0.3)
        pool = next(iter(follow.grids))
        before = dict(follow.confirmed)
        assert follow.source.request(pool)
        await eventually(lambda: follow.confirmed[pool] > before[pool])
        assert not follow.source.request("nobody")


async def test_what_others_ask_of_it(tmp_path: Path):
    async with followed(tmp_path) as (chain, follow):
        await settled(chain, follow)
        follow.grids.clear()
        follow.source.replay()
        assert set(follow.grids) == set(chain.world.pools)
        assert follow.settled[-1].pools == len(chain.world.pools)
        # Accounts, for the oracle.
        pool = next(iter(chain.world.pools))
        found, missing = await follow.source.read_accounts([pool, "11111111111111111111111111111112"])
        assert missing is None
        assert found is not None
        assert found[0] == chain.served.chain.newest.accounts[pool].owner
        # Prices that others tell; our own come to the aggregator without the bus.
        for producer in ("market", "quote_core"):
            follow.bus.watched["market_data.oracle.>"](OraclePrice(producer=producer), None)
        assert [price.producer for price in follow.prices] == ["market"]
        # What comes while the endpoints turn to another chain is of neither.
        assert follow.source.rpc is not None
        told = len(follow.settled)
        chain_before, follow.source.rpc.chain = follow.source.rpc.chain, "another"
        follow.source._on_batch(Batch(10**6, None))
        follow.source.rpc.chain = chain_before
        assert len(follow.settled) == told
        # The page of metrics; endpoints are named by their hosts.
        await asyncio.sleep(0.5)
        page = metrics_page(follow.health)[0].decode()
        host = chain.urls[0].removeprefix("http://")
        assert f'pipeline_rpc_endpoint_state{{endpoint="{host}",state="ready"}} 1.0' in page
        assert "pipeline_pool_refresh_seconds_bucket" in page
        assert f"pipeline_pools_followed {len(chain.world.pools)}.0" in page
        assert "pipeline_rpc_socket_subscribed" in page
    assert not follow.bus.watched
    assert "pipeline_rpc_endpoint_state" not in metrics_page(follow.health)[0].decode()


async def test_without_an_endpoint_the_part_says_what_is_missing(tmp_path: Path):
    with pytest.raises(UsageFailure, match="no Solana RPC endpoint"):
        await Followed(Chain(), tmp_path).source.run()
