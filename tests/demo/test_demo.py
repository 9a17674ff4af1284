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

    def __init__(self, tmp_path: Path, *arguments: str, **settings: str) -> None:
        self.tmp_path = tmp_path
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "demo", "--json", *arguments],
            env={
                **os.environ,
                "TMPDIR": str(tmp_path),
                **{f"PIPELINE_{key}": value for key, value in settings.items()},
            },
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

    def wait_until_trading(self, timeout_s: float = 60) -> dict[str, int]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = self.descendants()
            if {*WORKERS, SERVER} <= found.keys() and self.ready_pid("market"):  # it starts last
                time.sleep(1.0)
                return self.descendants()
            time.sleep(0.1)
        raise AssertionError(f"only {sorted(self.descendants())} came up")

    def kill(self, victim: str, pid: int) -> None:
        """Kill a process and wait until another works in its place."""
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(0.2)
            new = self.descendants().get(victim, pid)
            if new != pid and (victim == SERVER or self.ready_pid(victim) == new):
                return
        raise AssertionError(f"{victim} was not started again")

    def ready_pid(self, worker: str) -> int:
        """The process id that a worker gave when it was ready; 0 while it is not."""
        files = self.tmp_path.glob(f"pipeline-demo-*/run/{worker}.json")
        said = next((json.loads(file.read_text()) for file in files), {})
        return int(said["pid"]) if said.get("ready") else 0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    demos: list[Demo] = []

    def begin(*arguments: str, **settings: str) -> Demo:
        demos.append(Demo(tmp_path, *arguments, **settings))
        return demos[-1]

    yield begin
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.communicate()


def assert_held(document: dict[str, Any]) -> None:
    assert [check for check in document["checks"] if not check["held"]] == []
    assert document["exit_code"] == 0


def assert_traded(document: dict[str, Any]) -> None:
    assert_held(document)
    assert document["mode"] == "localnet"
    assert document["opportunities"] > 0
    assert document["executions_by_status"]["FILLED"] > 0
    assert document["restarts"] == {}
    assert document["reconciliation"][SOL]["traded"] > 0


def test_a_seeded_demo_repeats_to_the_last_unit_whatever_the_providers_say(start: Any, tmp_path: Path) -> None:
    """Once with providers that fail every other time, once without any: the same trades and the same P&L."""
    first = start("--seconds", "5", "--seed", "7", EXTERNAL__SIMULATED__FAULT_RATIO="0.5").finish()
    second = start("--seconds", "5", "--seed", "7", EXTERNAL__ENABLED="false").finish()
    assert_traded(first)
    assert_traded(second)
    for told in ("fingerprint", "net_profit", "reconciliation", "executions_by_status"):
        assert first[told] == second[told]
    assert list(tmp_path.iterdir()) == [], "the demo leaves nothing behind"


@pytest.mark.thorough
def test_the_same_seed_gives_the_same_demo_and_another_seed_another(start: Any) -> None:
    documents = [start("--seconds", "5", "--seed", seed).finish() for seed in ("7", "7", "8")]
    for document in documents:
        assert_traded(document)
    first, second, other = documents
    assert first["fingerprint"] == second["fingerprint"]
    assert first["net_profit"] == second["net_profit"]
    assert first["reconciliation"] == second["reconciliation"]
    assert first["fingerprint"] != other["fingerprint"]


# The offline chain lives in the market's memory and dies with it; the paper market's messages outlive it.
ON_PAPER = ("providers", "scanner", "system_manager", "market")
ON_CHAIN = ("executor", "auditor", "quote_core", "planner", SERVER)


@pytest.mark.parametrize(("mode", "victims"), [("paper", ON_PAPER), ("localnet", ON_CHAIN)])
def test_kill_9_of_one_process_after_another_is_survived_and_ctrl_c_stops_cleanly(
    start: Any, tmp_path: Path, mode: str, victims: tuple[str, ...]
) -> None:
    demo = start("--seconds", "120", "--seed", "7", "--mode", mode)
    pids = demo.wait_until_trading()
    for victim in victims:
        demo.kill(victim, pids[victim])
    time.sleep(1.0)  # trading goes on
    pids = demo.descendants()
    demo.process.send_signal(signal.SIGINT)
    document = demo.finish()
    assert_held(document)
    assert document["interrupted"]
    assert document["restarts"].keys() >= set(victims)
    assert document["executions"] > 0
    assert not [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
@pytest.mark.parametrize("victim", [*ON_PAPER, *ON_CHAIN])
def test_kill_9_of_any_one_process_is_survived(start: Any, victim: str) -> None:
    demo = start("--seconds", "5", "--seed", "7", "--mode", "paper" if victim in ON_PAPER else "localnet")
    demo.kill(victim, demo.wait_until_trading()[victim])
    document = demo.finish()
    assert_held(document)
    assert document["restarts"].get(victim, 0) >= 1
    assert document["executions"] > 0


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
