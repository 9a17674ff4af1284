"""The wire is plain FlatBuffers: ours read by the official runtime, theirs read by ours, for every message."""

import base64
import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flatbuffers import number_types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generated import Opportunity as accessors
from pipeline import messages

from .support import (
    IDENTIFIERS,
    ROOTS,
    TABLES,
    a_message,
    build,
    complete,
    official_read,
    official_write,
    plain,
    same,
    table_values,
)

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.parametrize("table", ROOTS)
@quick
@given(data=st.data())
def test_official_reads_ours_ours_reads_official_and_there_and_back(table: str, data: st.DataObject) -> None:
    values = data.draw(table_values(table))
    message = build(table, values)
    wire = message.encode()
    assert same(official_read(table, wire), complete(table, values))
    found = messages.decode(official_write(table, values))
    assert type(found).__name__ == table
    assert same(plain(found), complete(table, values))
    again = type(message).decode(wire)
    assert again == message
    assert hash(again) == hash(message)
    assert again.encode() == wire
    assert messages.decode(bytearray(wire)) == messages.decode(memoryview(wire)) == message


@pytest.mark.parametrize("table", ROOTS)
def test_empty_message_is_all_defaults(table: str) -> None:
    message: Any = getattr(messages, table)()
    assert same(plain(message), complete(table, {}))
    assert same(official_read(table, message.encode()), complete(table, {}))
    assert messages.decode(official_write(table, {})) == message


def test_every_table_has_its_class() -> None:
    assert {cls.__name__ for cls in messages.MESSAGES} == set(ROOTS)
    for name, fields in TABLES.items():
        cls = getattr(messages, name)
        assert tuple(field["name"] for field in fields if not field["deprecated"]) == cls.FIELDS
        assert getattr(cls, "IDENTIFIER", "") == IDENTIFIERS[name]


def test_file_identifier_stands_in_every_buffer() -> None:
    for cls in messages.MESSAGES:
        assert cls().encode()[4:8] == cls.IDENTIFIER.encode()


def test_neighbours_share_one_vtable() -> None:
    wire = messages.Opportunity(legs=[messages.Leg(pool="a"), messages.Leg(pool="b"), messages.Leg()]).encode()
    found = accessors.Opportunity.GetRootAs(wire)
    tables = [found.Legs(index)._tab for index in range(3)]
    assert len({table.Pos - table.Get(number_types.SOffsetTFlags, table.Pos) for table in tables}) == 1


@pytest.mark.parametrize("table", ROOTS)
def test_flatc_reads_ours(flatc: str, tmp_path: Path, table: str) -> None:
    message = build(table, a_message(table, random.Random(table)))
    (tmp_path / "it.bin").write_bytes(message.encode())
    schema = next(path for path in SCHEMAS.glob("*.fbs") if f"table {table} " in path.read_text())
    options = ["--json", "--strict-json", "--defaults-json", "--raw-binary", "--root-type", f"generated.{table}"]
    subprocess.run([flatc, *options, "-o", str(tmp_path), str(schema), "--", str(tmp_path / "it.bin")], check=True)
    assert json.loads((tmp_path / "it.json").read_text(), object_hook=bytes_as_base64) == message.to_dict()


def bytes_as_base64(found: dict[str, Any]) -> dict[str, Any]:
    """Write byte vectors, lists of numbers in flatc's JSON, as ours does."""
    return {
        name: base64.b64encode(bytes(value)).decode()
        if name in ("data", "snapshot") and isinstance(value, list)
        else value
        for name, value in found.items()
    }
