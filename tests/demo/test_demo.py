"""The whole pipeline, as a user runs it: `pipeline demo` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(180)]

SERVER = "nats-server"
SOL = "So11111111111111111111111111111111111111112"
WORKERS = ["market", "providers", "quote_core", "scanner", "planner", "executor", "auditor", "system_manager"]


class Demo:
    """One `pipeline demo --json` under way."""

    def __init__(self, tmp_path: Path, *arguments: str) -> None:
        self.tmp_path = tmp_path
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "demo", "--json", *arguments],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=150)
        assert out, err
        document: dict[str, Any] = json.loads(out)
        document["exit_code"] = self.process.returncode
        return document

    def descendants(self) -> dict[str, int]:
        """Names and process ids of what runs below the demo now."""
        found: dict[str, int] = {}
        children: dict[int, list[int]] = {}
        lines: dict[int, list[str]] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                lines[int(entry.name)] = (entry / "cmdline").read_text().split("\0")
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
        todo = [self.process.pid]
        while todo:
            for pid in children.get(todo.pop(), []):
                todo.append(pid)
                line = lines.get(pid, [])
                if "worker" in line:
                    found[line[line.index("worker") + 1]] = pid
                elif line and line[0].endswith(SERVER):
                    found[SERVER] = pid
        return found

    def market_is_ready(self) -> bool:
        """The market starts last, and its chain takes a while to make."""
        files = self.tmp_path.glob("pipeline-demo-*/run/market.json")
        return any(json.loads(file.read_text()).get("ready") for file in files)

    def wait_until_trading(self, timeout_s: float = 60) -> dict[str, int]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = self.descendants()
            if {*WORKERS, SERVER} <= found.keys() and self.market_is_ready():
                time.sleep(1.5)
                return self.descendants()
            time.sleep(0.05)
        raise AssertionError(f"only {sorted(self.descendants())} came up")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    demos: list[Demo] = []

    def begin(*arguments: str) -> Demo:
        demos.append(Demo(tmp_path, *arguments))
        return demos[-1]

    yield begin
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.communicate()


def assert_held(document: dict[str, Any]) -> None:
    assert [check for check in document["checks"] if not check["held"]] == []
    assert document["exit_code"] == 0


def test_a_seeded_demo_repeats_to_the_last_unit(start: Any, tmp_path: Path) -> None:
    first = start("--seconds", "5", "--seed", "7").finish()
    second = start("--seconds", "5", "--seed", "7").finish()
    other = start("--seconds", "5", "--seed", "8").finish()
    for document in (first, second, other):
        assert_held(document)
        assert document["mode"] == "localnet"
        assert document["opportunities"] > 0
        assert document["executions_by_status"]["FILLED"] > 0
        assert document["restarts"] == {}
        assert document["reconciliation"][SOL]["traded"] > 0
    assert first["fingerprint"] == second["fingerprint"]
    assert first["net_profit"] == second["net_profit"]
    assert first["reconciliation"] == second["reconciliation"]
    assert first["fingerprint"] != other["fingerprint"]
    assert list(tmp_path.iterdir()) == [], "the demo leaves nothing behind"


# The offline chain lives in the market's memory and dies with it; the paper market's messages outlive it.
ON_PAPER = ("market", "providers", "scanner", "system_manager")


KILLED = ("market", "executor", "auditor", SERVER)


@pytest.mark.parametrize(
    "victim",
    [pytest.param(name, marks=[] if name in KILLED else [pytest.mark.thorough]) for name in (*WORKERS, SERVER)],
)
def test_kill_9_of_any_one_process_is_survived(start: Any, victim: str) -> None:
    demo = start("--seconds", "5", "--seed", "7", "--mode", "paper" if victim in ON_PAPER else "localnet")
    os.kill(demo.wait_until_trading()[victim], signal.SIGKILL)
    document = demo.finish()
    assert_held(document)
    assert document["restarts"].get(victim, 0) >= 1
    assert document["executions"] > 0


def test_ctrl_c_stops_cleanly_with_a_summary(start: Any, tmp_path: Path) -> None:
    demo = start("--seconds", "120", "--seed", "7")
    pids = demo.wait_until_trading()
    demo.process.send_signal(signal.SIGINT)
    document = demo.finish()
    assert_held(document)
    assert document["interrupted"]
    assert not [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.recorded
def test_a_recorded_day_runs_on_real_pools(start: Any, recorded_data: Path) -> None:
    snapshot = next((recorded_data / "solana" / "whirlpool_snapshots").glob("*.csv.gz"))
    document = start("--seconds", "5", "--recorded", str(snapshot)).finish()
    assert_held(document)
    assert document["source"] == "recorded"
    assert document["opportunities"] > 0


def test_a_recorded_snapshot_has_no_chain(tmp_path: Path) -> None:
    given = tmp_path / "snapshot.csv.gz"
    given.touch()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "demo", "--mode", "localnet", "--recorded", str(given)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "no chain" in done.stderr


def test_a_file_that_is_no_snapshot_is_refused_in_one_message(tmp_path: Path) -> None:
    wrong = tmp_path / "not-a-snapshot.csv.gz"
    wrong.write_bytes(b"this is not gzip")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "demo", "--seconds", "2", "--recorded", str(wrong)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode not in (0, 1)
    assert "Traceback" not in done.stderr
    assert "not-a-snapshot" in done.stderr
