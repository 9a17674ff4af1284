"""Old readers and new messages, new readers and old messages: schemas of three generations, each compiled by flatc.

The older generation lacks the last two fields of every table; the newer one has four fields more, and every enumeration
a value more. Written and read by the official runtime on the one side, by ours on the other.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import messages
from schemas import evolution
from schemas import reflection as r

from .support import ROOTS, TABLES, build, complete, official_read, official_write, plain, same, table_values

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
ADDED = """
  later_text:string;
  later_number:ulong = 7;
  later_bytes:[ubyte];
  later_parts:[AccountPart];
"""
LATER_VALUES = {
    "later_text": "new",
    "later_number": 2**63,
    "later_bytes": b"\x00\xff",
    "later_parts": [{"name": "a"}, {"name": "b"}],
}
LATER_PART = {
    "AccountPart": [{"slot": 0, "name": "name", "type": "string", "default": 0}],
}
quick = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def newer(text: str) -> str:
    """Append fields to every table and a value to every enumeration."""
    text = re.sub(r"(\ntable [^{]*\{[^}]*)\}", lambda found: found[1] + ADDED + "}", text)
    return re.sub(r"(\nenum [^{]*\{[^}]*?),?\s*\}", lambda found: found[1] + ", LATER = 200 }", text)


def older(text: str) -> str:
    """Take the last two fields from every table."""

    def cut(found: re.Match[str]) -> str:
        fields = list(re.finditer(r"\n  \w+:[^;]+;", found[2]))
        kept = fields[max(len(fields) - 3, 0)].end()
        return found[1] + found[2][:kept] + "\n}"

    return re.sub(r"(\ntable [^{]*\{)([^}]*)\}", cut, text)


def compile_generation(flatc: str, out: Path, package: str, rewrite: Any) -> evolution.Description:
    """Compile rewritten schemas into a package of their own and return their description."""
    files = []
    for path in SCHEMAS.glob("*.fbs"):
        text = rewrite(path.read_text()).replace("namespace generated;", f"namespace {package};")
        if path.name == "common.fbs" and package == "newer":
            text += "\ntable AccountPart { name:string; }\n"
        (out / path.name).write_text(text)
        files.append(out / path.name)
    subprocess.run([flatc, "--python", "-o", str(out), *map(str, files)], check=True)
    subprocess.run([flatc, "-b", "--schema", "-o", str(out), *map(str, files)], check=True)
    return evolution.describe([r.read(path.with_suffix(".bfbs").read_bytes()) for path in files])


@pytest.fixture(scope="module")
def generations(flatc: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The tables of the newer and of the older generation, importable as packages of these names."""
    found, paths = {}, []
    for package, rewrite in (("newer", newer), ("older", older)):
        out = tmp_path_factory.mktemp(package)
        description = compile_generation(flatc, out, package, rewrite)
        found[package] = {name: table["fields"] for name, table in description["tables"].items()}
        paths.append(str(out))
    sys.path[:0] = paths
    yield found
    for path in paths:
        sys.path.remove(path)


def test_the_generations_follow_the_rule(generations: dict[str, Any]) -> None:
    for name, fields in TABLES.items():
        assert len(generations["newer"][name]) == len(fields) + 4
        assert len(generations["older"][name]) == len(fields) - 2
        assert [field["name"] for field in generations["newer"][name]][: len(fields)] == [f["name"] for f in fields]


@pytest.mark.parametrize("table", ROOTS)
@quick
@given(data=st.data())
def test_readers_and_messages_of_all_generations(generations: dict[str, Any], table: str, data: st.DataObject) -> None:
    values = data.draw(table_values(table))
    ours, whole = build(table, values).encode(), complete(table, values)
    # An old reader and a new message.
    wire = official_write(table, values | LATER_VALUES, "newer", generations["newer"])
    assert same(plain(messages.decode(wire)), whole)
    # A new reader and an old message.
    found = official_read(table, ours, "newer", generations["newer"])
    assert found["later_text"] == ""
    assert found["later_number"] == 7
    assert found["later_bytes"] == b""
    assert found["later_parts"] == []
    assert same(without_later(found), whole)
    # Our reader and an older message.
    known = only_known(table, values, generations["older"])
    wire = official_write(table, known, "older", generations["older"])
    assert same(plain(messages.decode(wire)), complete(table, known))
    # An older reader and our message.
    found = official_read(table, build(table, whole).encode(), "older", generations["older"])
    assert same(found, only_known(table, whole, generations["older"]))


def test_a_new_enumeration_value_keeps_its_number(generations: dict[str, Any]) -> None:
    wire = official_write("ExecutionPlan", {"mode": 200}, "newer", generations["newer"])
    plan = messages.ExecutionPlan.decode(wire)
    assert plan.mode == 200
    assert type(plan.mode) is int
    assert plan.to_dict()["mode"] == 200
    assert official_read("ExecutionPlan", plan.encode(), "newer", generations["newer"])["mode"] == 200


def without_later(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_later(item) for key, item in value.items() if not key.startswith("later_")}
    return [without_later(item) for item in value] if isinstance(value, list) else value


def only_known(table: str, values: dict[str, Any], tables: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a generation does not know."""
    kinds = {field["name"]: field["type"] for field in tables[table]}
    return {
        name: [only_known(kinds[name][1:-1], item, tables) for item in value] if isinstance(value, list) else value
        for name, value in values.items()
        if name in kinds
    }
