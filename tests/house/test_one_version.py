"""One version: the changelog's newest heading, the package, the crate, and the crate's lock file."""

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def toml(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text())


def test_there_is_one_version() -> None:
    headings = re.findall(r"^## (\S+)( \(unreleased\))?$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert len(headings) >= 3
    assert not any(unreleased for _, unreleased in headings[1:]), "only the newest can be unreleased"
    project = toml("pyproject.toml")["project"]
    assert project["dynamic"] == ["version"], "the package's version is the crate's: maturin reads it there"
    assert "version" not in project
    assert toml("core/Cargo.toml")["package"]["version"] == headings[0][0]
    locked = {package["name"]: package["version"] for package in toml("core/Cargo.lock")["package"]}
    assert locked["pipeline-core"] == headings[0][0]
