"""Open a database so that what was committed is there after a power cut."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from pipeline.errors import ExitCode, Failure

BUSY_TIMEOUT_S = 10.0
_ADDRESSES = "write sqlite:///path/to/books.sqlite3 or postgresql://user@host/name"


class LedgerError(Failure):
    """The books cannot be opened, read or written."""


class NoBooks(LedgerError):
    """What stands there are no books of ours: trying again will not make them so."""

    exit_code = ExitCode.BAD_DATA


def open_engine(url: str, *, read_only: bool = False) -> Engine:
    """Open SQLite (`sqlite:///path`) or PostgreSQL (`postgresql://...`).

    SQLite runs in WAL mode with synchronous=FULL: a commit is on the disk when it returns. Read-only refuses a missing
    file instead of making an empty one.
    """
    address = _address(url)
    if address.get_backend_name() == "sqlite":
        return _sqlite(address, read_only=read_only)
    # A report reads several tables of one moment; a booking locks the rows it goes by.
    level: Literal["REPEATABLE READ", "READ COMMITTED"] = "REPEATABLE READ" if read_only else "READ COMMITTED"
    return create_engine(address, pool_pre_ping=True, isolation_level=level)


def _address(url: str) -> URL:
    try:
        address = make_url(url)
        backend = address.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise LedgerError("auditor.database_url is not a database address", _ADDRESSES) from None
    if backend not in ("sqlite", "postgresql"):
        raise LedgerError(f"auditor.database_url names {backend}", _ADDRESSES)
    if backend == "sqlite":
        return address.set(drivername="sqlite")
    if backend == "postgresql":
        if find_spec("psycopg") is None:
            raise LedgerError("PostgreSQL needs a driver", "pip install 'arbitrage-pipeline[postgres]'")
        address = address.set(drivername="postgresql+psycopg")
    return address


def _sqlite(address: URL, *, read_only: bool) -> Engine:
    path = address.database
    if path and path != ":memory:":
        if read_only and not Path(path).exists():
            raise LedgerError(f"no books at {path}", "the auditor makes them when it first runs")
        if not read_only:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(address, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        # The driver would begin its transactions too late for a read followed by a write; ours begin below.
        connection.isolation_level = None
        cursor = connection.cursor()
        if read_only:
            cursor.execute("PRAGMA query_only=ON")
        else:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def first_line(error: DBAPIError) -> str:
    """Return the database's own words, without the statement."""
    return (str(error.orig).splitlines() or [type(error).__name__])[0]
