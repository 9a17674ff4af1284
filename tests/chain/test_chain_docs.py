"""The page about the chain does what it says."""

from __future__ import annotations

import re
from pathlib import Path


def test_the_example_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "chain.md").read_text()
    snippet = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert snippet is not None
    names: dict[str, object] = {}
    exec(snippet.group(1), names)
    assert names["signature"]
