"""A short run with every fault, kills and halts: `pipeline chaos` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]


def test_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "chaos", "--seed", "3", "--minutes", "0.5", "--json"],
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert [check for check in document["checks"] if not check["held"]] == []
    assert done.returncode == 0
    assert document["executions_by_status"]["FILLED"] > 0
    assert set(document["kills"]) == {"executor", "auditor"}
    assert document["halts"] > 0
    assert all(found["difference"] == 0 for found in document["reconciliation"].values())
    assert list(tmp_path.iterdir()) == []
