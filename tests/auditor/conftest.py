"""Databases to book in: SQLite always, PostgreSQL where its server is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pipeline.ledger import Ledger

from .chain_stage import ChainStage, chain_stage

CAPITAL = 100_000_000_000


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of our own, on a free port of the loopback."""
    if given := os.environ.get("PIPELINE_TEST_POSTGRES_URL"):
        yield given
        return
    initdb, pg_ctl = shutil.which("initdb"), shutil.which("pg_ctl")
    if not initdb or not pg_ctl:
        pytest.skip("PostgreSQL is not installed: no initdb and pg_ctl on PATH")
    as_user: list[str] = []
    home = Path(tempfile.mkdtemp(prefix="pipeline-postgres-"))
    if os.geteuid() == 0:  # the server refuses to run as root
        if not shutil.which("runuser"):
            pytest.skip("PostgreSQL refuses to run as root, and there is no runuser")
        as_user = ["runuser", "-u", "nobody", "--"]
        shutil.chown(home, "nobody")
    data = home / "data"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run = [*as_user, initdb, "-D", str(data), "-A", "trust", "-U", "pipeline", "--no-sync"]
    made = subprocess.run(run, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    started = subprocess.run(
        [*as_user, pg_ctl, "-D", str(data), "-o", options, "-l", str(home / "log"), "-w", "-t", "30", "start"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert started.returncode == 0, (home / "log").read_text()
    try:
        yield f"postgresql://pipeline@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*as_user, pg_ctl, "-D", str(data), "-m", "immediate", "stop"], capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/books.sqlite3"
    from sqlalchemy import create_engine, text

    server = request.getfixturevalue("postgres_url")
    name = f"books_{os.getpid()}_{time.monotonic_ns()}"
    engine = create_engine(server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{server.rsplit('/', 1)[0]}/{name}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """Empty books."""
    found = Ledger(url, starting_capital_lamports=CAPITAL)
    yield found
    found.close()


@pytest.fixture
async def stage(tmp_path: Path, ledger: Ledger) -> AsyncIterator[ChainStage]:
    """A chain with wallets, and an auditor that books in each kind of database."""
    async with chain_stage(tmp_path, ledger) as found:
        yield found
