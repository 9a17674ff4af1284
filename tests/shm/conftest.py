"""Shared-memory files in memory where the machine has a place for them, and processes that read and write them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from shm_processes import Processes


@pytest.fixture
def folder() -> Iterator[Path]:
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = Path(tempfile.mkdtemp(prefix="pipeline-test-", dir=place))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.stop()
