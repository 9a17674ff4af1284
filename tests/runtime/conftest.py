"""Fixtures of the lifecycle and supervisor tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_process import Process

from pipeline.config import Config, load_config


@pytest.fixture
def runtime_config(tmp_path: Path) -> Config:
    """A configuration whose files all stand in the test's own directory, with free ports."""
    return load_config(
        {
            "shm.directory": str(tmp_path / "shm"),
            "worker.run_dir": str(tmp_path / "run"),
            "worker.data_dir": str(tmp_path / "data"),
            "worker.drain_s": 1.0,
            "worker.health_s": 0.2,
            "telemetry.http_port_base": 0,
            "nats.embedded_port": 0,
            "supervisor.restart_wait_s": 0.1,
            "supervisor.restart_wait_max_s": 0.2,
            "supervisor.stop_timeout_s": 4.0,
        },
        environment={},
    )


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start fake workers that do not outlive the test."""
    started: list[Process] = []

    def start(config: Config, name: str = "planner", mode: str = "ok", **environment: str) -> Process:
        process = Process(config, tmp_path, name, mode, environment)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait()
