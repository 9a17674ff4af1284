"""Every command as a user meets it: help, JSON, exit codes, messages without tracebacks."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from pipeline.bus import Bus
from pipeline.cli import COMMANDS, _LazyCommand, main, output, settings
from pipeline.cli.output import describe_failure, print_table, report_failure
from pipeline.config import load_config
from pipeline.errors import BadData, ExitCode, Failure, Refused, UsageFailure
from pipeline.messages import Anomaly, Severity
from pipeline.nats_server import EmbeddedNats
from pipeline.streams import TABLE

UNREACHABLE = "nats://127.0.0.1:9"


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's empty home, and nothing configured but what keeps files inside it."""
    for key in list(os.environ):
        if key.startswith(("PIPELINE_", "XDG_")):
            monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIPELINE_WORKER__RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PIPELINE_SHM__DIRECTORY", str(tmp_path / "shm"))
    monkeypatch.setenv("PIPELINE_NATS__CONNECT_TIMEOUT_S", "0.2")
    return tmp_path


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process: the modules are loaded once, which is most of the time a command takes."""

    def run(*arguments: str, **environment: str) -> Done:
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        code = 0
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
        for key in environment:
            monkeypatch.delenv(key)
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err, said.out + said.err
        return Done(code, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats(name="command-line") as running:
        yield running


def commands() -> dict[str, Any]:
    """Every command with its parsed form, those of groups too."""
    found: dict[str, Any] = {}
    for name, entry in COMMANDS.items():
        loaded = _LazyCommand(name, entry).load()
        inner = getattr(loaded, "commands", None)
        found |= {f"{name} {sub}": command for sub, command in inner.items()} if inner else {name: loaded}
    return found


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_and_json(name: str) -> None:
    command = commands()[name]
    assert command.help
    options = {option for parameter in command.params for option in parameter.opts}
    # decode's output is JSON already.
    assert "--json" in options or name == "decode", f"{name} has no --json"
    assert all(
        getattr(parameter, "help", "") for parameter in command.params if not getattr(parameter, "hidden", False)
    )


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items()])
def test_the_line_in_the_overview_is_the_commands_own(name: str) -> None:
    module, attribute = COMMANDS[name].target.split(":")
    loaded = getattr(import_module(f"pipeline.cli.{module}"), attribute)
    text = loaded.info.help if isinstance(loaded, typer.Typer) else loaded.__doc__
    assert (text or "").splitlines()[0] == COMMANDS[name].help


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_of_every_command(run: Run, name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: pipeline {name}")


def test_help_imports_no_command(run: Run) -> None:
    assert all(name in run("--help").stdout for name in COMMANDS)
    probe = "import sys\nfrom pipeline.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    probe += "print([m for m in sys.modules if m.split('.')[0] in ('pydantic','nats','rich','aiohttp','sqlalchemy')])"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert found.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["init-streams", "--check"],
        ["init-streams"],
        ["tap", "METRICS"],
        ["dead-letters", "list"],
        ["doctor"],
    ],
)
def test_without_a_server(run: Run, arguments: list[str]) -> None:
    for json_ in ([], ["--json"]):
        done = run(*arguments, *json_, "--set", f"nats.url={UNREACHABLE}")
        assert done.returncode == (ExitCode.CHECK_FAILED if arguments == ["doctor"] else ExitCode.UNREACHABLE)
        assert "127.0.0.1:9" in done.stdout + done.stderr
        if json_ and arguments != ["doctor"]:
            error = json.loads(done.stderr.splitlines()[-1])["error"]
            assert error["exit"] == "UNREACHABLE"
            assert error["fix"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], ["No such command 'nope'"]),
        (["staus"], ["Did you mean 'status'"]),
        (["worker"], ["Missing argument"]),
        (["worker", "nobody"], ["no worker 'nobody'", "executor"]),
        (["worker", "../etc"], ["no worker"]),
        (["bench", "nothing"], ["no benchmark 'nothing'", "startup"]),
        (["up", "--only", "nobody"], ["nobody", "executor"]),
        (["status", "--set", "nats.urll=x"], ["nats.urll", "command line", "did you mean nats.url"]),
        (["status", "--set", "nats.url"], ["not KEY=VALUE"]),
        (["config", "show", "--config", "/nowhere.toml"], ["/nowhere.toml", "No such file"]),
        (["config", "show", "nats.urll"], ["no key begins with 'nats.urll'", "config show"]),
    ],
)
def test_usage(run: Run, arguments: list[str], words: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == ExitCode.USAGE
    assert all(word in done.stderr for word in words), done.stderr


TABLE_ROWS = [
    ("executor", "1,234,567", "98,765", "127.0.0.1:41017", "nothing is known of this worker since a while"),
    ("system_manager", "1", "2", "127.0.0.1:37509", ""),
]


def test_a_narrow_terminal_breaks_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "console", lambda: Console(width=44, force_terminal=True, color_system=None))
    columns = ("worker", "handled", "p99 us", "http", "detail")
    print_table("A title that is longer than the table is", columns, TABLE_ROWS, right=("handled", "p99 us"))
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "A title that is longer than the table is",
        "worker            handled  p99 us",
        "executor        1,234,567  98,765",
        "system_manager          1       2",
        "",
        "worker          http",
        "executor        127.0.0.1:41017",
        "system_manager  127.0.0.1:37509",
        "",
        "worker          detail",
        "executor        nothing is known of this",
        "                worker since a while",
        "system_manager",
    ]


def test_without_a_terminal_every_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(*row[:4], row[4] * 10, "") for row in TABLE_ROWS]
    print_table("", ("worker", "handled", "p99 us", "http", "detail", "empty"), rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].endswith(TABLE_ROWS[0][4] * 10)
    assert "empty" not in lines[0]


def test_a_bad_variable_is_named(run: Run) -> None:
    done = run("config", "show", "--json", PIPELINE_MARKET__SEED="minus one")
    assert done.returncode == ExitCode.USAGE
    assert "PIPELINE_MARKET__SEED" in json.loads(done.stderr)["error"]["what"]


def test_config_show(run: Run) -> None:
    shown = json.loads(run("config", "show", "--json", PIPELINE_NATS__TOKEN="hunter22").stdout)
    assert shown["nats.token"] == {"value": "********", "source": "environment PIPELINE_NATS__TOKEN"}
    assert shown["market.seed"] == {"value": "1", "source": "default"}
    some = json.loads(run("config", "show", "permit", "--json").stdout)
    assert set(some) == {key for key in shown if key.startswith("permit.")}
    changed = json.loads(run("--set", "market.seed=5", "config", "show", "--changed", "--json").stdout)
    assert changed["market.seed"] == {"value": "5", "source": "command line"}
    assert all(row["source"] != "default" for row in changed.values())
    table = run("config", "show", "market").stdout
    assert "market.seed" in table
    assert "key" in table.splitlines()[0]


def test_a_groups_help_cuts_no_line_short(run: Run) -> None:
    found = " ".join(run("wallet", "--help").stdout.split())
    assert "prepare Give the wallets what they need before they can trade; without --yes, show what they lack." in found
    assert "..." not in found.split("Commands:")[1]


def test_version(run: Run) -> None:
    assert "arbitrage-pipeline" in json.loads(run("version", "--json").stdout)
    assert run("--version").stdout == run("version").stdout


def test_up_starts_nothing_where_a_worker_is_not_known(run: Run, home: Path) -> None:
    done = run("up", "--set", "supervisor.workers=auditor,nope")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith("error: there is no worker 'nope'")
    assert done.stdout == ""


def test_bench_lists_what_there_is(run: Run) -> None:
    assert {"startup", "codec"} <= set(json.loads(run("bench", "--json").stdout))
    assert run("bench", "--record").returncode == ExitCode.USAGE


def test_decode_refuses_what_is_no_message(home: Path) -> None:
    """As a process of its own, as the nats command line runs it."""
    command = [sys.executable, "-m", "pipeline", "decode"]
    done = subprocess.run(command, input=b"not a flatbuffer", capture_output=True, check=False)
    assert done.returncode == ExitCode.BAD_DATA
    assert done.stderr
    assert b"Traceback" not in done.stderr


async def raise_anomalies(url: str) -> None:
    bus = await Bus.connect(load_config({"nats.url": url}, environment={}).nats, name="tests")
    for number in range(7):
        severity, rule = (Severity.CRITICAL, "unexplained_transaction") if number == 6 else (Severity.WARNING, "other")
        await bus.publish(
            Anomaly(
                id=f"a{number}",
                created_ns=(1_700_000_000 + number) * 10**9,
                producer="auditor",
                severity=severity,
                rule=rule,
                detail=f"d{number}",
            )
        )
    await bus.close()


def reaching(server: EmbeddedNats) -> dict[str, str]:
    """The environment in which a server is there; a busy machine may take longer than the home waits."""
    return {"PIPELINE_NATS__URL": server.url, "PIPELINE_NATS__CONNECT_TIMEOUT_S": "5"}


@pytest.mark.integration
def test_streams_come_and_status_sees_them(run: Run, server: EmbeddedNats) -> None:
    at = reaching(server)
    assert run("init-streams", "--check", **at).returncode == ExitCode.CHECK_FAILED
    missing = json.loads(run("status", "--json", **at).stdout)
    assert missing["ok"] is False
    assert all(not row["ok"] for row in missing["streams"])
    assert run("init-streams", **at).returncode == 0
    assert run("init-streams", "--check", **at).returncode == 0

    done = run("status", "--json", **at)
    found = json.loads(done.stdout)
    assert {row["stream"] for row in found["streams"]} == {spec.name for spec in TABLE}
    assert all(row["ok"] for row in found["streams"])
    assert done.returncode == ExitCode.CHECK_FAILED, "no worker runs"
    assert {row["state"] for row in found["workers"]} == {"NOT RUNNING"}
    assert found["permit"]["state"] == "HALTED"
    said = run("status", **at).stdout
    assert "NOT RUNNING" in said
    assert said.count("no health message in METRICS") == 1
    assert found["anomalies"] == {"total": 0, "by_severity": {}, "recent": []}
    asyncio.run(raise_anomalies(server.url))
    anomalies = json.loads(run("status", "--json", **at).stdout)["anomalies"]
    assert (anomalies["total"], anomalies["by_severity"]) == (7, {"CRITICAL": 1, "WARNING": 6})
    assert [row["detail"] for row in anomalies["recent"]] == ["d6", "d5", "d4", "d3", "d2"]
    assert anomalies["recent"][0] == {
        "at_ns": 1_700_000_006_000_000_000,
        "severity": "CRITICAL",
        "rule": "unexplained_transaction",
        "producer": "auditor",
        "detail": "d6",
    }
    told = run("status", **at).stdout
    assert "anomalies  1 CRITICAL, 6 WARNING in the last 24 h" in told
    assert "2023-11-14 22:13:26 UTC  CRITICAL  unexplained_transaction, said by auditor\n  d6\n" in told

    checked = json.loads(run("doctor", "--json", PIPELINE_TELEMETRY__HTTP_PORT_BASE="0", **at).stdout)
    # Whether its ports are free is not up to the test: another pipeline may run on this machine.
    assert [row for row in checked["findings"] if row["level"] == "bad" and row["check"] != "ports"] == []
    assert {"server", "streams", "clock", "ports", "shared memory"} <= {row["check"] for row in checked["findings"]}


@pytest.mark.integration
def test_doctor_says_how_to_mend_it(run: Run, server: EmbeddedNats, home: Path) -> None:
    (home / "shm").mkdir()
    (home / "shm" / "permit").write_bytes(b"of another version" * 64)
    port = server.url.rsplit(":", 1)[1]
    done = run("doctor", "--json", PIPELINE_SYSTEM_MANAGER__PORT=port, **reaching(server))
    assert done.returncode == ExitCode.CHECK_FAILED
    bad = {row["check"]: row for row in json.loads(done.stdout)["findings"] if row["level"] == "bad"}
    assert {"ports", "shared memory: permit"} <= set(bad)
    assert all(row["fix"] for row in bad.values())
    assert port in bad["ports"]["found"]


@pytest.mark.integration
def test_up_ends_on_ctrl_c(run: Run) -> None:
    environment = {
        **os.environ,
        "PIPELINE_TELEMETRY__HTTP_PORT_BASE": "0",
        "PIPELINE_SYSTEM_MANAGER__PORT": "0",
        "PIPELINE_NATS__EMBEDDED_PORT": "0",
        "PIPELINE_NATS__CONNECT_TIMEOUT_S": "5",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "up", "--json", "--only", "system_manager", "--only", "auditor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    ready: set[str] = set()
    while not {"nats-server", "system_manager", "auditor"} <= ready:
        line = process.stdout.readline()
        assert line, process.communicate()
        event = json.loads(line)
        if event["state"] == "ready":
            ready.add(event["name"])
    found = run("status", "--json", "--set", 'supervisor.workers=["system_manager", "auditor"]')
    assert found.returncode == 0, found.stdout
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    stopped = [json.loads(line)["name"] for line in out.splitlines() if json.loads(line)["state"] == "stopped"]
    assert stopped == ["auditor", "system_manager"]
    assert not err


# Failures


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failure("it broke"), 1),
        (UsageFailure("no"), 2),
        (ConnectionRefusedError(111, "Connection refused"), 3),
        (Refused("halted"), 4),
        (BadData("not a message"), 5),
        (ValueError("surprise"), 70),
    ],
)
def test_exit_codes_are_stable(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert describe_failure(error)[2] == code
    assert report_failure(error, as_json=True) == code
    assert json.loads(capsys.readouterr().err)["error"]["exit_code"] == code
    assert report_failure(error, as_json=False) == code
    assert "error:" in capsys.readouterr().err


def test_failures_show_no_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    report_failure(Failure("cannot reach nats://me:hunter22@host"), as_json=False)
    report_failure(RuntimeError("postgresql://me:hunter22@host"), as_json=True)
    assert "hunter22" not in capsys.readouterr().err


def test_root_options_may_stand_anywhere() -> None:
    assert settings.hoist(["status", "--json", "--set", "a=1", "--debug"]) == [
        "--set",
        "a=1",
        "--debug",
        "status",
        "--json",
    ]
    assert settings.hoist(["x", "--set=a=1", "--", "--set", "b"]) == ["--set=a=1", "x", "--", "--set", "b"]
    assert settings.hoist(["x", "--set"]) == ["--set", "x"]
