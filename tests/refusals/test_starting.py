"""What keeps the pipeline from starting: each is said in one message with its remedy and a stable exit code."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_process import Ran, ran
from trading_stage import MAIN, Stage
from whole import environment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


# What the refusal of one worker stops with it.
FEW = {"supervisor.workers": "system_manager,auditor"}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, **{"nats.url": "embedded", "nats.embedded_port": 0})
    yield stage
    stage.close()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def refused(stage: Stage, code: int, *words: str, command: tuple[str, ...] = ("up",), **settings: object) -> None:
    """Run a command as a process and hold its refusal to the code and the words."""
    ended = subprocess.run(
        [sys.executable, "-c", MAIN, *command],
        env=environment(stage, **settings),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    hold(Ran(ended.returncode, ended.stdout, ended.stderr), code, *words)


def refused_at_once(stage: Stage, code: int, *words: str, command: tuple[str, ...], **settings: object) -> None:
    """The same of what is refused before any process starts, within this one."""
    hold(ran(command, environment(stage, **settings)), code, *words)


def hold(ended: Ran, code: int, *words: str) -> None:
    told = ended.stdout + ended.stderr
    assert ended.returncode == code, told
    assert "Traceback" not in told
    assert "internal error" not in told
    for word in words:
        assert word in told, told


@pytest.mark.parametrize("command", [("up",), ("worker", "planner"), ("status",)])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"market.sed": 1}, ("market.sed", "unknown", "market.seed")),
        ({"market.seed": "many"}, ("market.seed", "many")),
        ({"nats.url": "http://example.org"}, ("nats.url", "http://example.org")),
    ],
    ids=["unknown key", "wrong type", "bad address"],
)
def test_a_bad_configuration(
    stage: Stage, command: tuple[str, ...], settings: dict[str, object], words: tuple[str, ...]
) -> None:
    refused_at_once(stage, 2, *words, command=command, **settings)


def test_a_user_file_that_is_no_toml(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[market\nseed = 1\n")
    refused_at_once(stage, 2, str(file), "line 1", command=("--config", str(file), "up"))


def test_the_servers_port_is_taken(stage: Stage, taken: int) -> None:
    refused(stage, 2, f"port {taken} is in use", "nats.embedded_port", **{"nats.embedded_port": taken})


def test_a_health_port_is_taken(stage: Stage, taken: int) -> None:
    refused(stage, 2, str(taken), "in use", "telemetry.http_port_base", **{"telemetry.http_port_base": taken}, **FEW)


def test_no_server(stage: Stage) -> None:
    refused(stage, 3, "nats://127.0.0.1:1", "PIPELINE_NATS__URL", **{"nats.url": "nats://127.0.0.1:1"})


def test_a_store_without_room_or_access(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(stage, 1, "file/store", "name another", **{"nats.embedded_store": tmp_path / "file" / "store"})


@pytest.mark.parametrize("content", [b"no snapshot", b"\x1f\x8b garbage after a gzip magic"])
def test_a_wrong_file_as_pool_data(stage: Stage, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pools.csv.gz"
    file.write_bytes(content)
    refused_at_once(stage, 5, str(file), command=("demo", "--seconds", "1", "--recorded", str(file)))


def test_a_folder_as_pool_data(stage: Stage, tmp_path: Path) -> None:
    refused_at_once(stage, 5, str(tmp_path), command=("demo", "--recorded", str(tmp_path)))
    refused_at_once(stage, 5, "nowhere", command=("demo", "--recorded", str(tmp_path / "nowhere")))


def test_a_database_that_cannot_be_opened(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "books"
    file.write_bytes(b"somebody's letters" * 100)
    books = {"auditor.database_url": f"sqlite:///{file}"}
    refused(stage, 5, "auditor.database_url holds no books", "another", **books, **FEW)
    assert file.read_bytes() == b"somebody's letters" * 100
