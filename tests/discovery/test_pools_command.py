"""`pipeline pools` against the simulated chain: as a user meets it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.bus import Bus
from pipeline.ids import deterministic_id
from pipeline.messages import Anomaly
from tests.discovery.conftest import AMOUNTS, Run
from tests.discovery.test_quotes_command import NEAR, fill
from tests.rpc.offline_chain import Chain
from workers.quote_core.tables import Tables

QUICK = ("--set", "rpc.rate_per_s=10000", "--set", "rpc.burst=1000")


@pytest.fixture
async def chain(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Chain]:
    served = Chain()
    await served.start()
    yield served
    await served.served.stop()


async def in_thread(run: Run, *arguments: str):
    """Run a command beside the node that it asks."""
    import asyncio

    return await asyncio.to_thread(run, *arguments)


def test_without_an_endpoint_it_says_what_to_set(run: Run):
    done = run("pools", "discover")
    assert done.code == 2
    assert "PIPELINE_RPC__ENDPOINTS" in done.err


def test_an_endpoint_that_does_not_answer_is_named_by_its_host_alone(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIPELINE_RPC__ENDPOINTS", "http://127.0.0.1:9/secret-key")
    done = run("pools", "discover", "--json", "--set", "rpc.attempts=1", "--set", "rpc.deadline_s=1")
    assert done.code == 3
    assert "127.0.0.1:9" in done.err
    assert "secret" not in done.err


async def test_discover_list_and_show(run: Run, chain: Chain, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIPELINE_RPC__ENDPOINTS", chain.urls[0])
    done = await in_thread(run, "pools", "discover", *QUICK)
    assert done.code == 0, done.err
    count = len(chain.pools())
    assert f"{count} pools at slot" in done.out
    assert f"{count} new, 0 gone" in done.out
    found = json.loads((await in_thread(run, "pools", "discover", "--json", *QUICK)).out)
    assert {pool["address"] for pool in found["pools"]} == set(chain.pools())
    assert (found["added"], found["gone"], found["failed"]) == ([], [], [])
    assert found["file"] == str(home / "data" / "pools.json")

    listed = json.loads((await in_thread(run, "pools", "list", "--json")).out)
    assert {row["address"] for row in listed["pools"]} == set(chain.pools())
    assert {row["state"] for row in listed["pools"]} == {"found"}
    one = listed["pools"][0]["address"]
    shown = json.loads((await in_thread(run, "pools", "show", one, "--json")).out)
    assert (shown["address"], shown["figures"], shown["quotes"]) == (one, {}, [])
    table = await in_thread(run, "pools", "list", "--pair", "usdc/sol")
    assert "SOL/USDC" in table.out
    assert "JitoSOL" not in table.out
    assert "quote core: none has run here" in table.out


async def test_pools_that_are_too_small_are_left_out_and_can_be_listed(
    run: Run, chain: Chain, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIPELINE_RPC__ENDPOINTS", chain.urls[0])
    done = await in_thread(run, "pools", "discover", *QUICK, "--set", "discovery.min_sol=5000000000000")
    assert "too_small" in done.out
    left = json.loads((await in_thread(run, "pools", "list", "--left-out", "--json")).out)
    assert {one["reason"] for one in left["left_out"]} == {"too_small"}
    named = await in_thread(run, "pools", "show", left["left_out"][0]["address"])
    assert named.code == 2
    assert "too_small" in named.err


def test_list_and_show_read_what_the_quote_core_knows(run: Run, tables: Tables):
    fill(tables)
    listed = json.loads(run("pools", "list", "--json").out)
    assert listed["writer"]["alive"]
    assert listed["file"] is None
    row = next(row for row in listed["pools"] if row["address"] == NEAR)
    assert (row["state"], row["protocol"], row["pair"]) == ("quoted", "raydium_cpmm", "SOL/USDC")
    assert row["fee_bps"] == pytest.approx(1)
    assert row["holds"] == "10,000 SOL + 1,500,000 USDC"
    shown = json.loads(run("pools", "show", "SimNear", "--json").out)
    assert shown["figures"]["reserves"] == [10**13, 1_500_000 * 10**6]
    assert len(shown["quotes"]) == 2 * len(AMOUNTS)
    text = run("pools", "show", NEAR)
    assert text.code == 0
    assert "trade_fee_rate_e6" in text.out
    several = run("pools", "show", "Sim")
    assert several.code == 2
    assert "2 pools begin with" in several.err


def test_a_pool_that_is_refused_and_a_writer_that_is_gone_are_said(run: Run, tables: Tables):
    fill(tables)
    tables.forget(NEAR, 11, 6 * 10**9)
    tables.commit(11, 6 * 10**9)
    tables.close()
    listed = json.loads(run("pools", "list", "--json").out)
    assert {row["state"] for row in listed["pools"]} == {"quoted", "refused"}
    assert not listed["writer"]["alive"]
    assert "no longer runs" in run("pools", "list").out


async def test_the_server_tells_why_a_pool_is_refused(run: Run, tables: Tables, bus: Bus, nats_url: str):
    fill(tables)
    tables.forget(NEAR, 11, 6 * 10**9)
    tables.commit(11, 6 * 10**9)
    for slot, reason in ((10, "not_open"), (11, "swap_disabled")):
        await bus.publish(
            Anomaly(
                id=deterministic_id("pool-refused", NEAR, reason, slot),
                producer="quote_core",
                rule="pool_refused",
                detail=f"{NEAR}: {reason}",
            )
        )
    listed = await in_thread(run, "pools", "list", "--json", "--set", f"nats.url={nats_url}")
    rows = {row["address"]: row for row in json.loads(listed.out)["pools"]}
    assert (rows[NEAR]["state"], rows[NEAR]["reason"]) == ("refused", "swap_disabled")
    assert [row["reason"] for row in rows.values() if row["state"] == "quoted"] == [""]


def test_nothing_known_is_said(run: Run, home: Path):
    assert run("pools", "list").code == 3
    assert run("pools", "list", "--left-out").code == 3
    assert run("pools", "show", NEAR).code == 2
    (home / "data").mkdir()
    (home / "data" / "pools.json").write_text("{")
    damaged = run("pools", "list")
    assert damaged.code == 5
    assert "pools discover" in damaged.err


@pytest.mark.parametrize(("option", "value"), [("--pair", "SOL/DOGE"), ("--protocol", "uniswap")])
def test_filters_that_fit_nothing_name_what_there_is(run: Run, tables: Tables, option: str, value: str):
    fill(tables)
    done = run("pools", "list", option, value)
    assert done.code == 2
    assert "SOL/USDC" in done.err or "raydium_cpmm" in done.err


def test_a_venue_that_is_not_known_is_a_bad_configuration(run: Run):
    done = run("pools", "list", "--set", 'discovery.protocols=["uniswap"]')
    assert done.code == 2
    assert "discovery.protocols" in done.err
