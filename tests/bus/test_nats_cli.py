"""What the real `nats` command line tells about a running pipeline, the decoding translator included."""

import asyncio
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.messages import ExecutionPlan, Opportunity
from pipeline.nats_server import CONFIG_PATH, find_nats_server
from pipeline.streams import STREAMS, TABLE
from tests.bus.test_consume import eventually
from tests.conftest import Connect


def nats_binary() -> str:
    """Find the nats CLI on PATH or where `go install` puts it."""
    for candidate in (shutil.which("nats"), Path.home() / "go" / "bin" / "nats"):
        if candidate and os.access(candidate, os.X_OK):
            return str(candidate)
    go = shutil.which("go")
    pytest.skip(
        "no nats CLI: `bash .ci/nats-cli.sh` installs it" if go else "no nats CLI, and no Go here to install it with"
    )


@pytest.fixture(scope="module")
def nats() -> str:
    return nats_binary()


pytestmark = pytest.mark.integration


def environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where `pipeline` is
    return {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "PATH": path}


async def run(nats: str, url: str, *arguments: str, home: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *(nats, "--server", url, *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(home),
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    text = out.decode()
    assert process.returncode == 0, text
    return text


def view(nats: str, url: str, stream: str, home: Path) -> str:
    """Run `nats stream view` on a terminal, which it insists on; answer its paging with Ctrl-C at the end."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [nats, "--server", url, "stream", "view", stream, "--translate", "pipeline decode"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**environment(home), "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(terminal)
    shown = b""
    deadline = time.monotonic() + 20
    try:
        while time.monotonic() < deadline and b"Next Page" not in shown and b"Last message" not in shown:
            if not select.select([main], [], [], 0.2)[0]:
                if process.poll() is not None:
                    break
                continue
            try:
                shown += os.read(main, 65_536)
            except OSError:  # the terminal closed with the process
                break
    finally:
        process.kill()
        process.wait()
        os.close(main)
    return shown.decode("utf-8", "replace")


async def test_streams_and_consumers_tell_the_story(connect: Connect, nats: str, nats_url: str, tmp_path: Path) -> None:
    bus = await connect("planner")
    await bus.consume(
        "OPPORTUNITIES",
        "opportunity.found",
        durable="planner",
        description="planner: decides on each opportunity",
        handler=lambda message, delivery: None,
    )
    listed = await run(nats, nats_url, "stream", "ls", home=tmp_path)
    for spec in STREAMS:
        assert spec.name in listed
        assert spec.description[:30] in listed
    info = await run(nats, nats_url, "stream", "info", "EXECUTED", home=tmp_path)
    for words in ("executed.>", "7d0h0m0s", "File", "2.0 GiB", "written-by: executor"):
        assert words in info, info
    consumers = await run(nats, nats_url, "consumer", "ls", "OPPORTUNITIES", home=tmp_path)
    assert "planner" in consumers
    assert "planner: decides on each opportunity" in consumers
    details = await run(nats, nats_url, "consumer", "info", "OPPORTUNITIES", "planner", home=tmp_path)
    for words in ("deliver.OPPORTUNITIES.planner", "opportunity.found", "Explicit", "worker: planner"):
        assert words in details, details
    buckets = await run(nats, nats_url, "kv", "ls", home=tmp_path)
    for spec in TABLE:
        if spec.bucket:
            assert spec.bucket in buckets


async def test_stream_view_translates_with_pipeline_decode(
    connect: Connect, nats: str, nats_url: str, tmp_path: Path
) -> None:
    bus = await connect("scanner")
    await bus.publish(Opportunity(id="first", token="So111", amount_in=1_000_000_000))
    await bus.publish(ExecutionPlan(id="plan", token="So111"))
    for stream, words in (
        ("OPPORTUNITIES", ('"type": "Opportunity"', '"id": "first"', '"amount_in": 1000000000')),
        ("PLANNED", ('"type": "ExecutionPlan"', '"mode": "PAPER"')),
    ):
        viewed = await asyncio.to_thread(view, nats, nats_url, stream, tmp_path)
        for word in words:
            assert word in viewed, viewed


async def test_connections_are_named_after_their_workers(nats: str, tmp_path: Path) -> None:
    """`nats server report connections` needs the system account, which the shipped file leaves closed."""
    from pipeline.bus import Bus
    from pipeline.config import load_config

    shutil.copy(CONFIG_PATH, tmp_path / "shipped.conf")
    config = tmp_path / "nats.conf"
    config.write_text(
        """
        include shipped.conf
        accounts {
          SYS { users: [{user: sys, password: sys}] }
          APP { jetstream: enabled, users: [{user: app, password: app}] }
        }
        system_account: SYS
        """
    )
    process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs meanwhile
        [
            *(str(find_nats_server()), "-c", str(config), "-a", "127.0.0.1", "-p", "-1", "-m", "-1"),
            *("-sd", str(tmp_path / "store"), "--ports_file_dir", str(tmp_path)),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        ports = tmp_path / f"nats-server_{process.pid}.ports"
        await eventually(lambda: ports.exists() or process.poll() is not None)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        url = json.loads(ports.read_text())["nats"][0]
        host = url.removeprefix("nats://")
        buses = [
            await Bus.connect(
                load_config({"nats.url": url, "nats.user": "app", "nats.password": "app"}, environment={}).nats,
                name=name,
            )
            for name in ("planner", "executor")
        ]
        report = await run(nats, f"nats://sys:sys@{host}", "server", "report", "connections", home=tmp_path)
        for name in ("planner", "executor"):
            assert f"pipeline/{name}@" in report, report
        for bus in buses:
            await bus.close()
    finally:
        process.terminate()
        process.wait()
