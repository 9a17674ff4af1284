"""Files of a running pipeline, so that other commands find it: the embedded server's and each worker's address.

They stand in `config.run_directory`, readable by the owner alone. A file of a process that is gone is ignored.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.clock import wall_ns
from pipeline.config import Config

OFFLINE_CHAIN = "localnet"
"""Run file of the offline chain's services."""
# A wall clock may have been set since.
_CLOCK_SLACK_NS = 60_000_000_000


@dataclass(frozen=True, slots=True)
class RunFile:
    """What a process says about itself."""

    name: str
    pid: int
    started_ns: int
    url: str = ""
    ready: bool = False


def run_directory(config: Config) -> Path:
    """Return the run directory, made for this user alone."""
    directory = config.run_directory
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


def write(config: Config, entry: RunFile) -> Path:
    """Write a run file whole or not at all."""
    path = run_directory(config) / f"{entry.name}.json"
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(entry), file)
    partial.replace(path)
    return path


def read(config: Config, name: str) -> RunFile | None:
    """Return the entry of a process that is alive, or None."""
    try:
        raw = json.loads((config.run_directory / f"{name}.json").read_text(encoding="utf-8"))
        entry = RunFile(
            str(raw["name"]), int(raw["pid"]), int(raw["started_ns"]), str(raw.get("url", "")), bool(raw.get("ready"))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry if _alive(entry.pid, entry.started_ns) else None


def remove(config: Config, name: str) -> None:
    """Remove the entry of this process; another's is left alone."""
    path = config.run_directory / f"{name}.json"
    try:
        if int(json.loads(path.read_text(encoding="utf-8"))["pid"]) == os.getpid():
            path.unlink()
    except (OSError, ValueError, KeyError, TypeError):
        return


def with_server_address(config: Config) -> Config:
    """Return the configuration with `nats.url = "embedded"` replaced by the address of the embedded server."""
    if not config.nats.embedded:
        return config
    entry = read(config, "nats-server")
    url = entry.url if entry else f"nats://127.0.0.1:{config.nats.embedded_port or 4222}"
    return with_url(config, url)


def with_url(config: Config, url: str) -> Config:
    """Return the configuration with another server address."""
    return config.model_copy(update={"nats": config.nats.model_copy(update={"url": url})})


def _alive(pid: int, started_ns: int) -> bool:
    """Tell whether the process lives; another one that has got its number since does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    try:
        # Field 22, counted from behind the name, which may hold anything: start in clock ticks since boot.
        ticks = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return pid > 0
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return wall_ns() - age_s * 1e9 <= started_ns + _CLOCK_SLACK_NS


def last_error(log_path: Path) -> str:
    """Return the last error or warning in a worker's log, in words; empty where there is none."""
    try:
        with open(log_path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            if line.startswith(("error:", "Traceback")) or "Error" in line:
                return line.strip().removeprefix("error: ")
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "warning"):
            what = str(entry.get("error") or entry.get("event", ""))
            fix = f" ({entry['fix']})" if entry.get("fix") else ""
            trace = str(entry.get("exception", "")).strip().splitlines()
            return what + fix + (f": {trace[-1]}" if trace else "")
    return ""
