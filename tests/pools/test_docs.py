"""The page about pools names every reason for which a pool is refused."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_refusal_is_on_the_page() -> None:
    sources = [path for path in (ROOT / "core/src/pools").rglob("*.rs") if "fuzz" not in path.name]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    reasons = set(re.findall(r'refuse\(\s*"([a-z_0-9]+)"', text)) | set(re.findall(r'reason: "([a-z_0-9]+)"', text))
    page = (ROOT / "docs/pools.md").read_text(encoding="utf-8")
    named = page.split("## What is refused")[1].split("## Snapshots")[0]
    assert reasons >= {"missing_account", "wrong_owner", "unknown_protocol", "no_accounts"}
    assert {reason for reason in reasons if f"`{reason}`" not in named} == set()
