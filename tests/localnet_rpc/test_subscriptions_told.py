"""Subscriptions over the raw websocket: commitments, encodings, one-shots, forks, and what is not told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .nodekit import MINT, PURSE_B, SOL, TOKENS, address, line, move_tokens, pay, payment, signed, stage

B = address("b")


async def test_an_account_is_told_when_its_change_is_so_far():
    async with stage() as on, line(on) as socket:
        on.step(40)
        ids = {
            await socket.call("accountSubscribe", B, {"commitment": one, "encoding": "base64"}): depth
            for one, depth in (("processed", 0), ("confirmed", 1), ("finalized", 32))
        }
        changed = on.chain.slot + 1
        await on.send(payment(on.chain, SOL))
        told = {}
        for step in range(34):
            on.step()
            while not await socket.quiet():
                message = await socket.next()
                assert message["method"] == "accountNotification"
                result = message["params"]["result"]
                assert result["context"]["slot"] == changed
                assert result["value"]["lamports"] == 11 * SOL
                told[ids[message["params"]["subscription"]]] = step
        assert told == {0: 0, 1: 1, 32: 32}


async def test_encodings():
    async with stage() as on, line(on) as socket:
        now = {"commitment": "processed"}
        await socket.call("accountSubscribe", PURSE_B, now | {"encoding": "jsonParsed"})
        await socket.call(
            "accountSubscribe", PURSE_B, now | {"encoding": "base64", "dataSlice": {"offset": 64, "length": 8}}
        )
        await on.send(signed(on.chain, move_tokens(258)))
        on.step()
        parsed, cut = [(await socket.next())["params"]["result"]["value"] for _ in range(2)]
        assert parsed["data"]["parsed"]["info"]["tokenAmount"]["amount"] == "258"
        assert cut["data"] == ["AgEAAAAAAAA=", "base64"]


async def test_a_closed_account_is_told_as_nothing():
    async with stage() as on, line(on) as socket:
        await socket.call("accountSubscribe", B, {"commitment": "processed", "encoding": "base64"})
        await on.send(signed(on.chain, pay("b", address("a"), 10 * SOL - 5_000), payer="b"))
        on.step()
        value = (await socket.next())["params"]["result"]["value"]
        assert value["lamports"] == 0
        assert value["data"] == ["", "base64"]


async def test_programs_logs_and_roots():
    async with stage() as on, line(on) as socket:
        now = {"commitment": "processed", "encoding": "base64"}
        program = await socket.call("programSubscribe", TOKENS, now | {"filters": [{"dataSize": 165}]})
        mentions = await socket.call("logsSubscribe", {"mentions": [PURSE_B]}, {"commitment": "processed"})
        everything = await socket.call("logsSubscribe", "all", {"commitment": "confirmed"})
        failing = signed(on.chain, move_tokens(10**15))
        await on.send(failing, skipPreflight=True)
        await on.send(payment(on.chain))
        on.step()
        told = await socket.next()
        assert told["params"]["subscription"] == mentions
        assert told["params"]["result"]["value"]["err"] == {"InstructionError": [0, {"Custom": 1}]}
        assert told["params"]["result"]["value"]["signature"] == str(failing.signatures[0])
        assert await socket.quiet()
        await on.send(signed(on.chain, move_tokens(1)))
        on.step()
        seen = [(await socket.next())["params"] for _ in range(5)]
        assert [one["subscription"] for one in seen] == [program, program, mentions, everything, everything]
        assert await socket.quiet()
        assert await socket.call("programUnsubscribe", program) is True
        refusal = await socket.call("logsUnsubscribe", program)
        assert refusal["code"] == -32602


async def test_a_signature_is_told_once_whenever_one_asks():
    async with stage() as on, line(on) as socket:
        sent = payment(on.chain)
        signature = str(sent.signatures[0])
        options = {"commitment": "confirmed", "enableReceivedNotification": True}
        id_ = await socket.call("signatureSubscribe", signature, options)
        await on.send(sent)
        assert (await socket.next())["params"]["result"]["value"] == "receivedSignature"
        on.step()
        assert await socket.quiet()
        on.step()
        told = await socket.next()
        assert told["params"]["subscription"] == id_
        assert told["params"]["result"]["value"] == {"err": None}
        assert told["params"]["result"]["context"]["slot"] == on.chain.slot - 1
        assert on.node.subscriptions == 0
        assert (await socket.call("signatureUnsubscribe", id_))["code"] == -32602
        on.step(3)
        late = await socket.call("signatureSubscribe", signature, {"commitment": "processed"})
        assert (await socket.next())["params"]["subscription"] == late
        final = await socket.call("signatureSubscribe", signature)
        on.step(40)
        assert (await socket.next())["params"]["subscription"] == final
        assert await socket.quiet()


async def test_a_fork_tells_the_accounts_that_went_back():
    async with stage() as on, line(on) as socket:
        on.step(3)
        for commitment in ("processed", "confirmed"):
            await socket.call("accountSubscribe", B, {"commitment": commitment, "encoding": "base64"})
        await socket.call("logsSubscribe", "all", {"commitment": "processed"})
        await on.send(payment(on.chain, SOL))
        on.step(2)
        seen = [(await socket.next())["params"]["result"] for _ in range(3)]
        assert [one["value"].get("lamports") for one in seen] == [11 * SOL, None, 11 * SOL]
        await on.fault(fork_chance=1.0, fork_slots=2)
        on.step()
        assert (await socket.next())["params"]["result"]["value"]["lamports"] == 10 * SOL
        await on.fault(fork_chance=0.0)
        on.step()
        back = (await socket.next())["params"]["result"]
        assert back["value"]["lamports"] == 10 * SOL
        assert back["context"]["slot"] == on.chain.slot - 1
        assert await socket.quiet()
        assert len(on.node.state.blocks) == 5


async def test_a_stale_node_tells_late():
    async with stage() as on, line(on) as socket:
        on.step(10)
        await on.fault(behind_slots=3)
        await socket.call("slotSubscribe")
        await socket.call("accountSubscribe", B, {"commitment": "processed", "encoding": "base64"})
        on.step(3)
        assert await socket.quiet()
        await on.send(payment(on.chain), skipPreflight=True)
        on.step(4)
        slots = []
        while not await socket.quiet():
            message = await socket.next()
            if message["method"] == "slotNotification":
                slots.append(message["params"]["result"]["slot"])
        assert slots == [12, 13, 14, 15]


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("accountSubscribe", [], -32602),
        ("accountSubscribe", ["x"], -32602),
        ("accountSubscribe", [B, {"encoding": "morse"}], -32602),
        ("accountSubscribe", [B, {"commitment": "soon"}], -32602),
        ("programSubscribe", [TOKENS, {"filters": [7]}], -32602),
        ("logsSubscribe", [], -32602),
        ("logsSubscribe", ["some"], -32602),
        ("logsSubscribe", [{"mentions": [B, MINT]}], -32602),
        ("logsSubscribe", [{"mentions": [7]}], -32602),
        ("signatureSubscribe", [B], -32602),
        ("signatureSubscribe", ["1" * 64, {"enableReceivedNotification": 1}], -32602),
        ("accountUnsubscribe", [7], -32602),
        ("accountUnsubscribe", [True], -32602),
        ("slotUnsubscribe", [{}], -32602),
        ("slotUnsubscribe", [], -32602),
        ("blockSubscribe", ["all"], -32601),
        ("voteSubscribe", [], -32601),
        ("getSlot", [], -32601),
        ("Unsubscribe", [], -32601),
        ("Subscribe", [], -32601),
    ],
)
async def test_refusals(method: str, params: list[Any], code: int):
    async with stage() as on, line(on) as socket:
        assert (await socket.call(method, *params))["code"] == code
        assert on.node.subscriptions == 0


async def test_two_clients_do_not_share_subscriptions():
    async with stage() as on, line(on) as one, line(on) as two:
        first, second = await one.call("slotSubscribe"), await two.call("slotSubscribe")
        assert first != second
        assert (await two.call("slotUnsubscribe", first))["code"] == -32602
        on.step()
        assert (await one.next())["params"]["subscription"] == first
        assert (await two.next())["params"]["subscription"] == second


async def test_a_client_that_goes_is_forgotten():
    async with stage() as on:
        async with on.session.ws_connect(on.url) as socket:
            await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "slotSubscribe"})
            await socket.receive()
            assert on.node.subscriptions == 1
        for _ in range(1000):
            if not on.node.subscriptions:
                break
            await asyncio.sleep(0.005)
        assert on.node.subscriptions == 0
        on.step()
