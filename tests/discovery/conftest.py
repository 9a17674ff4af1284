"""A user's empty home, a command line that runs in this process, and tables as a quote core leaves them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from markets.tokens import load_registry
from pipeline.cli import main
from workers.quote_core.tables import Tables

AMOUNTS = (10**8, 10**9, 10**10)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("PIPELINE_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIPELINE_WORKER__RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PIPELINE_WORKER__DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIPELINE_SHM__DIRECTORY", str(tmp_path / "shm"))
    monkeypatch.setenv("PIPELINE_NATS__URL", "nats://127.0.0.1:9")
    monkeypatch.setenv("PIPELINE_NATS__CONNECT_TIMEOUT_S", "0.2")
    return tmp_path


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> Done:
        code = 0
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Done(code, said.out, said.err)

    return run


@pytest.fixture
def tables(home: Path) -> Iterator[Tables]:
    """The writer of the tables that the commands read; it lives until the test closes it."""
    opened = Tables(home / "shm", load_registry(), AMOUNTS, capacity=256, ring=64)
    yield opened
    opened.close()
