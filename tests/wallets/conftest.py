"""A chain of its own for the tests that need one, and what they ask it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """`pipeline localnet` with short slots and without traders: where it is, as it says itself."""
    home = tmp_path_factory.mktemp("chain")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PIPELINE_", "XDG_"))}
    command = [sys.executable, "-m", "pipeline", "localnet", "--port", "0", "--slot-ms", "40", "--no-traders", "--json"]
    process = subprocess.Popen(
        [*command, "--set", f"worker.run_dir={home}", "--set", f"worker.data_dir={home}"],
        stdout=subprocess.PIPE,
        env={**environment, "HOME": str(home)},
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def node(chain: dict[str, object]) -> str:
    """The address of that chain's node."""
    return str(chain["rpc"])
