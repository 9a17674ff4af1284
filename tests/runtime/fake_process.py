"""Fake workers as real processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.config import Config, to_toml

FAKE = Path(__file__).parent / "fake_worker.py"
CommandOf = Callable[[str], list[str]]


def fake_command(name: str) -> list[str]:
    return [sys.executable, str(FAKE), name, str(os.getpid())]


class Process:
    """One fake worker and what it has logged."""

    def __init__(self, config: Config, directory: Path, name: str, mode: str, environment: dict[str, str]) -> None:
        self.config = config
        path = directory / f"{name}.toml"
        path.write_text(to_toml(config))
        self.output = directory / f"{name}.out"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PIPELINE_")}
        with open(self.output, "wb") as out:
            self.popen = subprocess.Popen(
                fake_command(name),
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**kept, "PIPELINE_CONFIG": str(path), "FAKE_MODE": mode, **environment},
            )

    def log(self) -> list[dict[str, Any]]:
        found = []
        for line in self.output.read_text().splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def events(self) -> list[str]:
        return [str(entry["event"]) for entry in self.log()]

    def wait_for(self, event: str, timeout_s: float = 20.0) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for entry in self.log():
                if entry["event"] == event:
                    return entry
            if self.popen.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {event!r} in:\n{self.output.read_text()}")
