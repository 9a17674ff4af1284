"""What the tests of the execution share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import workers.executor.execution as module


@pytest.fixture(scope="module")
def no_pauses() -> Iterator[None]:
    """Ask a server again at once."""
    pause_s, module._AGAIN_S = module._AGAIN_S, 0.0
    yield
    module._AGAIN_S = pause_s
