"""`pipeline providers`, and the metrics that it reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from stage import PATIENCE, SOL_USDC, stage

from localnet.provider_faults import Fault
from markets.providers.schedule import Pace, Schedule
from pipeline import run_files
from pipeline.cli import main, providers
from pipeline.clock import wall_ns
from pipeline.config import load_config
from pipeline.errors import BadData
from workers.quote_core.external_metrics import ExternalMetrics

PACE = Pace(10.0, 2.0, 10.0, 1.0, 30.0)


async def page() -> str:
    async with stage(["jupiter_lite", "raydium"], patience=PATIENCE) as there:
        schedule = Schedule({SOL_USDC: True}, PACE, lambda: 5)
        assert (await there.ask()).whole
        schedule.begin(SOL_USDC)
        schedule.got(SOL_USDC, 5)
        there.fail("jupiter_lite", Fault.ZERO)
        for _ in range(4):
            await there.ask()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(ExternalMetrics(there.desk, schedule, {SOL_USDC: "SOL/USDC"}))
        return generate_latest(registry).decode()


async def test_the_page_says_how_providers_do() -> None:
    text = await page()
    assert 'pipeline_external_pair_age_seconds{amount="1000000000",pair="SOL/USDC"} 0.0' in text
    rows, totals = providers.read_page(text)
    lite, raydium = rows
    assert (lite.provider, raydium.provider) == ("jupiter_lite", "raydium")
    assert lite.requests + raydium.requests == 10
    assert lite.good + raydium.good + lite.bad.get("zero", 0) == 10
    assert raydium.state == "closed"
    assert raydium.reliability == 1.0
    assert totals.pairs["asked"] == 5
    assert totals.cache["route"] >= 2
    assert lite.latency_p50_ms > 0


async def test_the_command_shows_a_table_and_says_when_a_provider_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = await page()
    monkeypatch.setenv("PIPELINE_WORKER__RUN_DIR", str(tmp_path))
    config = load_config({"worker.run_dir": str(tmp_path)}, environment={})
    (tmp_path / "metrics").write_text(text)
    run_files.write(config, run_files.RunFile("quote_core", 1, wall_ns(), tmp_path.as_uri(), ready=True))
    with pytest.raises(SystemExit) as ended:
        main(["providers"])
    shown = capsys.readouterr().out
    assert "jupiter_lite" in shown
    assert "whole of 5 asked" in shown
    assert "open (1x)" in shown
    assert ended.value.code == 1
    with pytest.raises(SystemExit):
        main(["providers", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert [row["provider"] for row in document["providers"]] == ["jupiter_lite", "raydium"]


def test_what_is_no_page_is_refused() -> None:
    with pytest.raises(BadData):
        providers.read_page("{not a page")
    assert providers.read_page("") == ([], providers.Totals())


def test_without_a_quote_core_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIPELINE_WORKER__RUN_DIR", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["providers"])
    assert ended.value.code == 3
    assert "pipeline up" in capsys.readouterr().err
