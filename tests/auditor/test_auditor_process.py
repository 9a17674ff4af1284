"""The auditor as a process, on SQLite and PostgreSQL: killed, resumed, rebuilt, told nonsense; and its command line."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from trading_stage import Stage, eventually, everything

from pipeline.bus import Bus
from pipeline.cli.pnl import COLUMNS
from pipeline.clock import wall_ns
from pipeline.ledger import open_report
from pipeline.messages import Anomaly, DeadLetter, ExecutionResult, ExecutionStatus, PnlSnapshot

from .results import SOL_MINT, USDC_MINT, a_plan, a_result

pytestmark = pytest.mark.integration
PATIENCE_S = 60.0
"""For a process to start and do its work while many others run; nothing waits so long where it is there sooner."""


@pytest.fixture
async def stage(tmp_path: Path, url: str) -> AsyncIterator[Stage]:
    """A server, and books of each kind."""
    stage = Stage(tmp_path, **{"auditor.database_url": url, "auditor.plan_grace_s": 1.0})
    await stage.open()
    yield stage
    stage.close()


@pytest.fixture
async def bus(stage: Stage) -> AsyncIterator[Bus]:
    bus = await stage.bus()
    yield bus
    await bus.close()


def some_results(count: int) -> list[ExecutionResult]:
    chance = random.Random(3)
    return [
        a_result(number, gross=chance.randint(5_500, 9_000), status=chance.choice(list(ExecutionStatus)[1:]))
        for number in range(count)
    ]


async def booked(stage: Stage, url: str, count: int, *, plans: int = 0) -> Any:
    """Wait until so many executions, and PLANNED up to there, stand in the books; return the report."""

    def look() -> Any:
        try:
            reader = open_report(url)
        except Exception:
            return None
        try:
            report = reader.report()
        finally:
            reader.close()
        executions = sum(row["executions"] for row in report.tokens)
        return report if executions >= count and report.positions.get("PLANNED", 0) >= plans else None

    return await eventually(look, within_s=PATIENCE_S, what=f"{count} bookings", logs=stage.logs)


async def test_killed_while_booking_it_goes_on_where_it_stopped(stage: Stage, bus: Bus, url: str) -> None:
    results = some_results(120)
    for number in range(120):
        bus.publish_soon(a_plan(number))
    for result in results[:40]:
        await bus.publish(result)
    for step in ("booking", "booked", "booking:2"):
        doomed = stage.start("auditor", {"PIPELINE_CRASH_AT": step}, **{"auditor.batch": 7})
        assert await stage.ended(doomed, PATIENCE_S) == -9
    for result in results[40:]:
        await bus.publish(result)
    live = stage.start("auditor", **{"auditor.batch": 7})
    report = await booked(stage, url, 120, plans=120)
    [total] = report.tokens
    assert (total["executions"], total["net_profit"]) == (120, sum(result.net_profit for result in results))
    assert total["fees_lamports"] == sum(result.base_fee + result.priority_fee for result in results)
    assert total["tips_lamports"] == sum(result.tip for result in results)
    assert report.books["net_lamports"] == total["net_profit"]
    assert report.positions["EXECUTED"] == 120
    equity, peak, drawdown = 0, 0, 0
    for result in results:
        equity += result.net_profit
        peak = max(peak, equity)
        drawdown = max(drawdown, peak - equity)
    assert report.books["max_drawdown_lamports"] == drawdown

    async def last() -> PnlSnapshot | None:
        found = [message for _, message in await bus.last(f"metrics.pnl.{SOL_MINT}")]
        right = found and isinstance(found[-1], PnlSnapshot) and found[-1].executions == 120
        return found[-1] if right else None

    snapshot = await eventually(last, within_s=PATIENCE_S, what="the last snapshot", logs=stage.logs)
    assert (snapshot.net_profit, snapshot.stream_sequence) == (total["net_profit"], 120)
    assert (snapshot.max_drawdown_lamports, snapshot.drawdown_lamports) == (drawdown, peak - equity)
    assert await stage.stop(live) == 0
    # Nothing was without its plan, nothing was wrong.
    assert not await everything(bus, "METRICS", "metrics.anomaly.>")


async def test_server_and_database_go_away_and_come_back(stage: Stage, bus: Bus, url: str) -> None:
    live = stage.start("auditor")
    await bus.publish(a_plan(1))
    await bus.publish(a_result(1, gross=6_000))
    await booked(stage, url, 1)
    if url.startswith("postgresql"):
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
            connection.execute(text(end + "current_database()"))
        engine.dispose()
    else:
        await stage.restart_server()
    await bus.publish(a_plan(2))
    await bus.publish(a_result(2, gross=6_000))
    report = await booked(stage, url, 2)
    assert report.tokens[0]["executions"] == 2
    assert live.poll() is None
    assert await stage.stop(live) == 0


async def test_rebuilding_from_the_stream_gives_the_same(stage: Stage, bus: Bus, url: str) -> None:
    for number, result in enumerate(some_results(60)):
        await bus.publish(a_plan(number))
        await bus.publish(result)
        if number % 9 == 0:
            await bus.publish(result.replace(id=result.id))
    live = stage.start("auditor")
    before = await booked(stage, url, 60, plans=60)
    # While the auditor runs, and again without it.
    for _ in range(2):
        again = await stage.cli("pnl", "--rebuild", "--json")
        assert again.returncode == 0, again.stderr
        after = await booked(stage, url, 60, plans=60)
        assert (after.books, after.tokens, after.pairs, after.statuses) == (
            before.books,
            before.tokens,
            before.pairs,
            before.statuses,
        )
        if live.poll() is None:
            await bus.publish(a_result(1_000))
            before = await booked(stage, url, 61, plans=60)
            assert await stage.stop(live) == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_rebuilding_is_refused_where_it_would_lose(stage: Stage, bus: Bus, url: str) -> None:
    for number in range(5):
        await bus.publish(a_result(number))
    live = stage.start("auditor")
    await booked(stage, url, 5)
    assert await stage.stop(live) == 0
    await bus.js.purge_stream("EXECUTED", seq=4)
    refused = await stage.cli("pnl", "--rebuild")
    assert refused.returncode == 4
    assert "3 booked results are older" in refused.stderr
    assert (await stage.cli("pnl", "--discard-older")).returncode == 2
    assert (await stage.cli("pnl", "--rebuild", "--discard-older")).returncode == 0
    report = await booked(stage, url, 2)
    assert report.tokens[0]["executions"] == 2


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_what_is_wrong_is_said(stage: Stage, bus: Bus, url: str) -> None:
    live = stage.start("auditor")
    await bus.publish(a_plan(1))
    await bus.publish(a_result(1))
    await bus.publish(a_result(2, created_ns=wall_ns()))  # no plan
    await bus.publish(a_plan(3))
    await bus.publish(a_result(3, gross=-10_000))  # a fill that lost more than its costs
    await bus.publish(a_plan(4))
    await bus.publish(a_result(4).replace(net_profit=1))  # does not add up
    await bus.publish(a_result(1).replace(id="another", attempt=2))  # plan 1 again
    await bus.publish(a_result(5).replace(amount_out=2**64 - 1))  # no column holds it
    await bus.client.jetstream().publish("executed.result", b"nonsense", headers={"Nats-Msg-Id": "n1"})
    await bus.client.jetstream().publish("executed.result", a_plan(9).encode(), headers={"Nats-Msg-Id": "n2"})
    await bus.publish(a_result(6, token=USDC_MINT))

    async def anomalies() -> set[str] | None:
        found = [m for m in await everything(bus, "METRICS", "metrics.anomaly.>") if isinstance(m, Anomaly)]
        rules = {message.rule for message in found}
        return rules if {"result_without_plan", "plan_executed_twice"} <= rules else None

    assert await eventually(anomalies, within_s=PATIENCE_S, what="anomalies", logs=stage.logs) == {
        "result_without_plan",
        "loss_beyond_fees",
        "inconsistent_result",
        "loss_on_a_fill",
        "plan_executed_twice",
    }
    assert re.search(r'"anomaly plan_executed_twice: plan \S+ has 2 results .*"level": "error"', stage.logs())
    report = await booked(stage, url, 6)
    letters = [m for m in await everything(bus, "METRICS", "metrics.dead_letter") if isinstance(m, DeadLetter)]
    assert sorted((letter.reason, letter.stream) for letter in letters) == [
        ("handler_error", "EXECUTED"),
        ("invalid_message", "EXECUTED"),
        ("wrong_type", "EXECUTED"),
    ]
    # What is computed is booked, not what is claimed.
    assert report.tokens[1]["symbol"] == "SOL"
    assert report.tokens[1]["net_profit"] == report.tokens[1]["gross_profit"] - report.tokens[1]["cost"]
    assert await stage.stop(live) == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_the_command_line(stage: Stage, bus: Bus, url: str) -> None:
    empty = await stage.cli("pnl")
    assert empty.returncode == 1
    assert "books" in empty.stderr
    for number, result in enumerate(
        [a_result(1), a_result(2, status=ExecutionStatus.REVERTED), a_result(3, price=0)], 1
    ):
        await bus.publish(a_plan(number))
        await bus.publish(result)
    live = stage.start("auditor")
    await booked(stage, url, 3, plans=3)
    assert await stage.stop(live) == 0
    shown = await stage.cli("pnl")
    assert shown.returncode == 0, shown.stderr
    for words in ("net profit, SOL", "SOL/JitoSOL", "REVERTED", "largest drawdown", "-0.000006100"):
        assert words in shown.stdout
    report = json.loads((await stage.cli("pnl", "--json")).stdout)
    assert report["totals"]["net_lamports"] == -6_100
    assert report["totals"]["unvalued"] == 1
    assert report["statuses"] == {"FILLED": 2, "REVERTED": 1}
    assert report["tokens"][0]["win_ratio"] == 0.0
    out = stage.directory / "trades.csv"
    assert (await stage.cli("trades", "export", "--csv", "--out", str(out))).returncode == 0
    rows = list(csv.DictReader(out.open()))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["status"] for row in rows] == ["FILLED", "REVERTED", "FILLED"]
    assert [row["net_profit"] for row in rows] == ["-0.000000500", "-0.000005100", "-0.000000500"]
    assert [row["equity_sol"] for row in rows] == ["-0.000000500", "-0.000005600", "-0.000006100"]
    assert (rows[0]["net_usd"], rows[2]["net_usd"], rows[2]["sol_price_usd"]) == ("-0.000075", "", "")
    assert rows[0]["finished"] == "2026-09-21T14:13:20.000000001Z"
    assert rows[0]["pools"].count(" ") == 1
    piped = await stage.cli("trades", "export", "--csv")
    assert piped.stdout == out.read_text()
    lines = [json.loads(line) for line in (await stage.cli("trades", "export", "--json")).stdout.splitlines()]
    assert lines == rows
    assert [
        row["result_id"] for row in json.loads((await stage.cli("trades", "list", "--limit", "1", "--json")).stdout)
    ] == [rows[2]["result_id"]]
    assert "SOL/JitoSOL" in (await stage.cli("trades", "list")).stdout
    assert (await stage.cli("trades", "export")).returncode == 2
    assert (await stage.cli("trades", "export", "--csv", "--out", "/nowhere/x.csv")).returncode == 2
