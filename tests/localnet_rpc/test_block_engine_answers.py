"""The block engine's answers, in the shapes of the documented ones."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import base58
import pytest
from solders.transaction import VersionedTransaction

from localnet.chain.bundles import Auction
from markets.solana.transactions.tips import TIP_ACCOUNTS

from .nodekit import SOL, Stage, address, node_chain, pay, payment, signed, stage, text

PATH = "/api/v1/bundles"
B64 = {"encoding": "base64"}


async def send(on: Stage, *transactions: VersionedTransaction) -> str:
    bundle: str = await on.ask("sendBundle", [text(one) for one in transactions], B64, path=PATH)
    return bundle


async def inflight(on: Stage, *ids: str) -> list[tuple[str, int | None]]:
    told = await on.ask("getInflightBundleStatuses", list(ids), path=PATH)
    assert [one["bundle_id"] for one in told["value"]] == list(ids)
    return [(one["status"], one["landed_slot"]) for one in told["value"]]


async def test_a_bundle_lands():
    async with stage() as on:
        first, second = payment(on.chain, SOL), payment(on.chain, 2 * SOL, tip=50_000)
        id_ = await send(on, first, second)
        signatures = [str(one.signatures[0]) for one in (first, second)]
        assert id_ == hashlib.sha256(",".join(signatures).encode()).hexdigest()
        assert await inflight(on, id_) == [("Pending", None)]
        assert (await on.ask("getBundleStatuses", [id_], path=PATH))["value"] == []
        on.step()
        assert await inflight(on, id_, "0" * 64) == [("Landed", on.chain.slot), ("Invalid", None)]
        told = await on.ask("getBundleStatuses", [id_, "0" * 64], path=PATH)
        assert told == {
            "context": {"slot": on.chain.slot},
            "value": [
                {
                    "bundle_id": id_,
                    "confirmation_status": "processed",
                    "err": {"Ok": None},
                    "slot": on.chain.slot,
                    "transactions": signatures,
                }
            ],
        }
        for slots, status in ((1, "confirmed"), (31, "finalized")):
            on.step(slots)
            told = await on.ask("getBundleStatuses", [id_], path="/api/v1/getBundleStatuses")
            assert told["value"][0]["confirmation_status"] == status
        assert (await on.ask("getBalance", address("b")))["value"] == 13 * SOL


async def test_a_bundle_in_base58_is_the_same():
    async with stage() as on:
        sent = payment(on.chain, SOL, tip=2_000)
        raw = base58.b58encode(bytes(sent)).decode()
        id_ = await on.ask("sendBundle", [raw], path=PATH)
        assert await on.ask("sendBundle", [raw], {"encoding": "base58"}, path=PATH) == id_ == await send(on, sent)
        on.step()
        assert (await inflight(on, id_))[0][0] == "Landed"


async def test_a_bundle_that_fails_or_is_outbid_leaves_nothing():
    async with stage(node_chain(auction=Auction(bundles_per_block=1))) as on:
        low = await send(on, payment(on.chain, 1, tip=2_000))
        failing = await send(on, payment(on.chain, 2), payment(on.chain, 99 * SOL, tip=3_000))
        on.step()
        assert await inflight(on, failing, low) == [("Failed", None), ("Failed", None)]
        assert on.chain.views.newest.accounts[address("b")].lamports == 10 * SOL


async def test_tips():
    async with stage() as on:
        assert sorted(await on.ask("getTipAccounts", path=PATH)) == sorted(TIP_ACCOUNTS)
        async with on.session.get(on.url + PATH + "/tip_floor") as response:
            (nothing,) = await response.json()
        assert nothing["landed_tips_50th_percentile"] == 0
        tips = (10_000, 20_000, 30_000, 40_000, 100_000)
        for tip in tips:
            await send(on, payment(on.chain, tip, tip=tip))
        on.step()
        async with on.session.get(on.url + PATH + "/tip_floor") as response:
            (told,) = await response.json()
        assert told["landed_tips_25th_percentile"] == pytest.approx(20_000 / SOL)
        assert told["landed_tips_50th_percentile"] == pytest.approx(30_000 / SOL)
        assert told["landed_tips_75th_percentile"] == pytest.approx(40_000 / SOL)
        assert told["landed_tips_95th_percentile"] == pytest.approx(88_000 / SOL)
        assert told["landed_tips_99th_percentile"] == pytest.approx(97_600 / SOL)
        assert told["ema_landed_tips_50th_percentile"] == pytest.approx(30_000 / SOL)
        await send(on, *(payment(on.chain, tip, tip=230_000) for tip in (1, 2)))
        on.step()
        async with on.session.get(on.url + PATH + "/tip_floor") as response:
            (told,) = await response.json()
        # The median of six tips is 35,000; a tenth of the way from 30,000.
        assert told["ema_landed_tips_50th_percentile"] == pytest.approx(30_500 / SOL)


REFUSED: list[tuple[str, list[Any], str]] = [
    ("sendBundle", [], "argument"),
    ("sendBundle", [[]], "at least one"),
    ("sendBundle", ["x"], "at least one"),
    ("sendBundle", [["x"] * 6, B64], "at most 5"),
    ("sendBundle", [["!!"], B64], "transaction #0 could not be decoded"),
    ("sendBundle", [["0OIl"]], "transaction #0 could not be decoded"),
    ("sendBundle", [[7], B64], "transaction #0 could not be decoded"),
    ("sendBundle", [["QUJD"], B64], "deserialize"),
    ("sendBundle", [["NO TIP"], B64], "tip account"),
    ("sendBundle", [["TIP", "TIP"], B64], "twice"),
    ("sendBundle", [["STALE"], B64], "expired blockhash"),
    ("sendBundle", [["DONE"], B64], "already processed"),
    ("sendBundle", [["UNSIGNED"], B64], "signature"),
    ("getBundleStatuses", [["x"] * 6], "at most 5"),
    ("getBundleStatuses", ["x"], "array"),
    ("getInflightBundleStatuses", [[7]], "array"),
]


@pytest.mark.parametrize(("method", "params", "why"), REFUSED)
async def test_refusals(method: str, params: list[Any], why: str):
    async with stage() as on:
        stale = payment(on.chain, 1, tip=2_000)
        on.step(151)
        done = payment(on.chain, 2, tip=2_000)
        await send(on, done)
        on.step()
        good = payment(on.chain, 3, tip=2_000)
        unsigned = VersionedTransaction.populate(good.message, stale.signatures)
        names = {
            "NO TIP": text(payment(on.chain, 4)),
            "TIP": text(good),
            "STALE": text(stale),
            "DONE": text(done),
            "UNSIGNED": text(unsigned),
        }
        given = [[names.get(one, one) for one in part] if isinstance(part, list) else part for part in params]
        body = {"jsonrpc": "2.0", "id": 9, "method": method, "params": given}
        async with on.session.post(on.url + PATH, json=body) as response:
            assert response.status == 400
            answer = await response.json()
        assert answer["id"] == 9
        assert answer["error"]["code"] == -32602
        assert why in answer["error"]["message"]


async def test_who_asks_too_often_is_told_so_as_the_real_one_does():
    async with stage() as on:
        await on.fault(limited=1.0)
        async with on.session.post(on.url + PATH, json={}) as response:
            assert response.status == 429
            assert (await response.json())["error"]["code"] == -32097
        async with on.session.get(on.url + PATH + "/tip_floor") as response:
            assert response.status == 429


async def test_a_transaction_can_be_sent_past_the_auction():
    async with stage() as on:
        sent = signed(on.chain, pay("a", address("b"), 5))
        assert await on.ask("sendTransaction", text(sent), B64, path="/api/v1/transactions") == str(sent.signatures[0])
        assert (await on.refused("getFortune", path=PATH))["code"] == -32601
        on.step()
        assert base64.b64decode(text(sent)) == bytes(sent)
        assert on.chain.views.newest.accounts[address("b")].lamports == 10 * SOL + 5


@pytest.mark.recorded
async def test_the_shapes_are_those_of_the_documentation(recorded_data: Path):
    folder = recorded_data / "api" / "jito"
    documented = json.loads((folder / "getBundleStatuses_doc.json").read_text())["result"]
    waiting = json.loads((folder / "getInflightBundleStatuses_quicknode_doc.json").read_text())["result"]
    (floor,) = json.loads((folder / "tip_floor_20250111_partial.json").read_text())
    async with stage() as on:
        id_ = await send(on, payment(on.chain, SOL, tip=2_000))
        on.step()
        told = await on.ask("getBundleStatuses", [id_], path=PATH)
        assert set(told) == set(documented)
        assert set(told["value"][0]) == set(documented["value"][0])
        told = await on.ask("getInflightBundleStatuses", [id_], path=PATH)
        assert set(told["value"][0]) == set(waiting["value"][0])
        async with on.session.get(on.url + PATH + "/tip_floor") as response:
            (found,) = await response.json()
        assert set(floor) <= set(found)
        assert len(found["time"]) == len(floor["time"])
