"""The execution's benchmark does its work and asserts it; its figures mean something on a quiet machine only."""

from __future__ import annotations

import base64
import json

import aiohttp
import pytest
from aiohttp import web
from solders.hash import Hash
from solders.transaction import VersionedTransaction

from bench.execute_build import Bench, measure
from bench.execute_recorder import Recorder
from markets.solana.transactions.cycle import build_cycle


def test_building_ours_and_naively_gives_the_same_and_fits() -> None:
    rows = {row["name"]: row for row in measure(rounds=4)}
    name = "two-leg cycle with tip and lookup tables, median"
    assert rows[name]["goal"] == "<= 300 us"
    assert rows[name]["ours"] > 0
    assert rows["size of the transaction, largest"]["met"] is True


async def test_the_recorder_notes_bundles_and_hands_everything_on() -> None:
    seen: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(await request.read())
        return web.json_response({"jsonrpc": "2.0", "id": 1, "result": "an id"})

    app = web.Application()
    app.router.add_route("*", "/api/v1/bundles", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    recorder = Recorder()
    recorder.forward_to = runner.addresses[0][1]
    port = await recorder.start()
    bench = Bench.prepared()
    order = next(bench.orders(1))
    message = build_cycle(order, bench.accounts, bench.tables, str(Hash.default()))
    signed = VersionedTransaction(message, [bench.wallet])
    params = [[base64.b64encode(bytes(signed)).decode()], {"encoding": "base64"}]
    try:
        async with aiohttp.ClientSession() as session:
            for method, given in (("getTipAccounts", []), ("sendBundle", params)):
                request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": given}
                async with session.post(f"http://127.0.0.1:{port}/api/v1/bundles", json=request) as response:
                    assert (await response.json())["result"] == "an id"
    finally:
        recorder.stop()
        await runner.cleanup()
    assert [json.loads(body)["method"] for body in seen] == ["getTipAccounts", "sendBundle"]
    (arrival,) = recorder.arrivals
    assert arrival.signatures == (str(signed.signatures[0]),)


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.thorough
def test_plans_reach_the_block_engine_and_land() -> None:
    # The streams, the recorder and the chain are held against each other by the run itself.
    from bench.execute import run

    report = run(slots=40, slots_whole=30)
    names = [row["name"] for row in report["rows"]]
    for way in ("without simulation", "with simulation", "with simulation, whole pipeline"):
        assert f"{way}, p50" in names
        assert f"{way}, p99" in names
    assert sum("FILLED" in note for note in report["notes"]) == 4
