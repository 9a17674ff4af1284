"""What goes wrong at a node, and on the chain behind it: switched while it runs, drawn from a seed, counted."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from localnet.chain.faults import ChainFaults
from localnet.rpc_node import Faults

from .nodekit import SOL, address, line, node_chain, payment, stage, text

B64 = {"encoding": "base64"}
CALL = '{"jsonrpc": "2.0", "id": 1, "method": "getSlot"}'


@pytest.mark.parametrize(
    ("fault", "status", "shows"),
    [("limited", 429, "Too many requests"), ("failed", 503, "Unavailable"), ("garbage", 200, "<html>")],
)
async def test_answers_that_are_none(fault: str, status: int, shows: str):
    async with stage() as on:
        assert (await on.raw(CALL))[0] == 200
        await on.fault(**{fault: 1.0})
        for path in ("/", "/api/v1/bundles"):
            told = await on.raw(CALL, path)
            assert told[0] == status
            assert shows in told[1] or path != "/"
        assert (await on.happened())[fault] == 2
        await on.fault(**{fault: 0.0})
        assert (await on.raw(CALL))[0] == 200


async def test_who_is_limited_is_told_how_long():
    async with (
        stage(None, Faults(limited=1.0, retry_after_s=2.5)) as on,
        on.session.post(on.url, data=CALL) as response,
    ):
        assert response.headers["Retry-After"] == "2.5"


async def test_half_an_answer():
    async with stage() as on:
        whole = (await on.raw(CALL))[1]
        await on.fault(truncated=1.0)
        assert (await on.raw(CALL))[1] == whole[: len(whole) // 2]


async def test_slow_and_silent():
    async with stage() as on:
        await on.fault(slow=1.0, slow_s=0.05)
        begun = asyncio.get_running_loop().time()
        await on.raw(CALL)
        assert asyncio.get_running_loop().time() - begun >= 0.05
        await on.fault(slow=0.0, silent=True)
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.1):
                await on.raw(CALL)
        async with line(on) as socket:
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.1):
                    await socket.call("slotSubscribe")
        happened = await on.happened()
        assert happened["slow"] == 1
        assert happened["silent"] == 1


async def test_a_stale_node_tells_of_the_past_and_the_other_one_does_not():
    async with stage(None, Faults(), Faults(behind_slots=5)) as on:
        on.step(10)
        signature = await on.send(payment(on.chain, SOL))
        now = {"commitment": "processed"}
        for steps in range(6):
            on.step()
            fresh = await on.ask("getSignatureStatuses", [signature])
            stale = await on.ask("getSignatureStatuses", [signature], node=1)
            assert fresh["value"][0]["confirmations"] == steps
            assert fresh["context"]["slot"] - stale["context"]["slot"] == 5
            if steps < 5:
                assert stale["value"] == [None]
                assert (await on.ask("getBalance", address("b"), now, node=1))["value"] == 10 * SOL
        assert stale["value"][0]["confirmationStatus"] == "processed"
        assert stale["value"][0]["confirmations"] == 0
        assert (await on.ask("getBalance", address("b"), now, node=1))["value"] == 11 * SOL
        confirmed = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
        assert await on.ask("getTransaction", signature, confirmed) is not None
        assert await on.ask("getTransaction", signature, confirmed, node=1) is None
        assert await on.ask("getSignaturesForAddress", address("b"), {"commitment": "confirmed"}, node=1) == []
        # It knows no blockhash that is newer than itself.
        refusal = await on.refused("sendTransaction", text(payment(on.chain, 7)), B64, node=1)
        assert refusal["data"]["err"] == "BlockhashNotFound"
        newest = on.chain.latest_blockhash("processed")[0]
        assert (await on.ask("isBlockhashValid", newest))["value"] is True
        assert (await on.ask("isBlockhashValid", newest, node=1))["value"] is False
        old = (await on.ask("getLatestBlockhash", now, node=1))["value"]["blockhash"]
        assert await on.ask("sendTransaction", text(payment(on.chain, 8, blockhash=old)), B64, node=1)
        assert (await on.happened(1))["behind_slots"] > 5
        assert "behind_slots" not in await on.happened(0)


async def test_a_node_far_behind_takes_no_transaction():
    async with stage() as on:
        on.step(200)
        await on.fault(behind_slots=129)
        error = await on.refused("sendTransaction", text(payment(on.chain)), B64)
        assert error == {"code": -32005, "message": "Node is behind by 129 slots", "data": {"numSlotsBehind": 129}}
        assert (await on.refused("getHealth"))["code"] == -32005


async def test_websockets_are_cut():
    async with stage() as on:
        async with on.session.ws_connect(on.url) as one, on.session.ws_connect(on.url) as two:
            await on.fault(cut=True)
            for socket in (one, two):
                assert (await socket.receive(timeout=5)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        async with on.session.ws_connect(on.url) as one:
            await on.fault(cut_chance=1.0)
            on.step()
            assert (await one.receive(timeout=5)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        assert await on.happened() == {"cut": 2}


@pytest.mark.parametrize("slots", [5, 200])
async def test_a_blockhash_that_has_run_out_is_taken_by_nobody(slots: int):
    async with stage() as on:
        on.step(slots)
        await on.fault(expired_blockhash=1.0)
        told = (await on.ask("getLatestBlockhash"))["value"]["blockhash"]
        assert (await on.ask("isBlockhashValid", told))["value"] is False
        refusal = await on.refused("sendTransaction", text(payment(on.chain, 5, blockhash=told)), B64)
        assert refusal["data"]["err"] == "BlockhashNotFound"
        assert (await on.happened())["expired_blockhash"] == 1
        await on.fault(expired_blockhash=0.0)
        told = (await on.ask("getLatestBlockhash"))["value"]["blockhash"]
        assert (await on.ask("isBlockhashValid", told))["value"] is True


async def test_faults_of_the_chain_are_switched_at_its_nodes():
    async with stage(node_chain(faults=ChainFaults(seed=3))) as on:
        await on.fault(dropped=1.0)
        lost = await on.send(payment(on.chain, 1))
        on.step()
        assert (await on.ask("getSignatureStatuses", [lost]))["value"] == [None]
        await on.fault(dropped=0.0, late=1.0, late_slots=3)
        late = await on.send(payment(on.chain, 2))
        landed = []
        for _ in range(5):
            on.step()
            landed.append((await on.ask("getSignatureStatuses", [late]))["value"][0] is not None)
        assert landed == [False, False, False, True, True]
        await on.fault(late=0.0, bundle_lost=1.0)
        bundle = [text(payment(on.chain, 3, tip=5_000))]
        id_ = await on.ask("sendBundle", bundle, B64, path="/api/v1/bundles")
        on.step()
        (told,) = (await on.ask("getInflightBundleStatuses", [id_], path="/api/v1/bundles"))["value"]
        assert told["status"] == "Invalid"
        await on.fault(bundle_lost=0.0)
        gone = await on.send(payment(on.chain, 4))
        on.step(2)
        assert (await on.ask("getSignatureStatuses", [gone]))["value"][0]["confirmationStatus"] == "confirmed"
        await on.fault(fork_chance=1.0, fork_slots=2)
        on.step()
        assert (await on.ask("getSignatureStatuses", [gone], {"searchTransactionHistory": True}))["value"] == [None]
        happened = await on.happened()
        assert {"dropped", "late", "bundle_lost", "fork"} <= set(happened)


@pytest.mark.parametrize(
    "changes",
    [
        {"sad": 1},
        {"failed": True},
        {"failed": 1.5},
        {"failed": -0.1},
        {"dropped": 2},
        {"late_slots": 1.5},
        {"late_slots": "x"},
        {"fork_slots": -1},
        {"silent": 1},
        {"happened": {}},
        {"failed": 0.5, "dropped": 7},
        [1],
        "{",
    ],
)
async def test_nonsense_changes_nothing(changes: Any):
    async with stage() as on:
        async with on.session.get(on.url + "/faults") as response:
            before = await response.json()
        given = {"data": changes} if isinstance(changes, str) else {"json": changes}
        async with on.session.put(on.url + "/faults", **given) as response:
            assert response.status == 400
        async with on.session.get(on.url + "/faults") as response:
            assert await response.json() == before
        assert {"limited", "cut_chance", "dropped", "fork_slots", "behind_slots"} <= set(before["faults"])


async def test_the_same_seed_gives_the_same_faults():
    async def outcomes() -> list[int]:
        async with stage(None, Faults(failed=0.3, limited=0.3)) as on:
            return [(await on.raw(CALL))[0] for _ in range(30)]

    first = await outcomes()
    assert first == await outcomes()
    assert set(first) == {200, 429, 503}
