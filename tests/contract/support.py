"""The contract as data, and the official runtime as the other side: what the tests of this folder share.

Everything is derived from `schemas/baseline.json`, which another test holds against the compiled schemas.
"""

from __future__ import annotations

import importlib
import math
import random
from typing import Any

import flatbuffers
from flatbuffers.util import BufferHasIdentifier as has_identifier
from hypothesis import strategies as st

from pipeline import messages
from schemas import evolution

DESCRIPTION = evolution.load()
TABLES: dict[str, list[dict[str, Any]]] = {name: table["fields"] for name, table in DESCRIPTION["tables"].items()}
IDENTIFIERS: dict[str, str] = {name: table["identifier"] for name, table in DESCRIPTION["tables"].items()}
ENUMS: dict[str, dict[str, int]] = {name: enum["values"] for name, enum in DESCRIPTION["enums"].items()}
ROOTS = [name for name in TABLES if IDENTIFIERS[name]]

INTEGERS = {
    "byte": (-(2**7), 2**7 - 1),
    "ubyte": (0, 2**8 - 1),
    "short": (-(2**15), 2**15 - 1),
    "ushort": (0, 2**16 - 1),
    "int": (-(2**31), 2**31 - 1),
    "uint": (0, 2**32 - 1),
    "long": (-(2**63), 2**63 - 1),
    "ulong": (0, 2**64 - 1),
}

Values = dict[str, Any]


def field_values(kind: str) -> st.SearchStrategy[Any]:
    """Values of one field, as plain Python: tables as dictionaries, enumerations as numbers."""
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        return st.integers(low, high) | st.sampled_from([low, high, 0])
    if kind in ENUMS:
        return st.sampled_from(sorted(ENUMS[kind].values())) | st.integers(0, 255)
    if kind == "[ubyte]":
        return st.binary(max_size=70)
    if kind.startswith("["):
        return st.lists(table_values(kind[1:-1]), max_size=4)
    simple: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "double": st.floats(),
        "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    }
    return simple[kind]


def table_values(table: str) -> st.SearchStrategy[Values]:
    """Values of some or all fields of a table."""
    return st.fixed_dictionaries({}, optional={field["name"]: field_values(field["type"]) for field in TABLES[table]})


def a_message(table: str, draw: random.Random) -> dict[str, Any]:
    """Values for every field of a table, from a seed and without hypothesis."""
    values: dict[str, Any] = {}
    for field in TABLES[table]:
        kind, name = field["type"], field["name"]
        if kind == "string":
            values[name] = "".join(draw.choices("abcé€😀", k=draw.randrange(12)))
        elif kind == "[ubyte]":
            values[name] = draw.randbytes(draw.randrange(40))
        elif kind.startswith("["):
            values[name] = [a_message(kind[1:-1], draw) for _ in range(draw.randrange(4))]
        elif kind == "bool":
            values[name] = draw.random() < 0.5
        else:
            values[name] = draw.randrange(100)
    return values


def default(field: Values) -> Any:
    """The value of a field that is absent."""
    kind = field["type"]
    if kind == "string":
        return ""
    if kind == "[ubyte]":
        return b""
    if kind.startswith("["):
        return []
    return bool(field["default"]) if kind == "bool" else field["default"]


def complete(table: str, values: Values) -> Values:
    """Add the defaults of what is left out, in vectors of tables too."""
    whole = {}
    for field in TABLES[table]:
        value = values.get(field["name"], default(field))
        if field["type"].startswith("[") and field["type"] != "[ubyte]":
            value = [complete(field["type"][1:-1], item) for item in value]
        whole[field["name"]] = value
    return whole


def build(table: str, values: Values) -> Any:
    """Our object."""
    kinds = {field["name"]: field["type"] for field in TABLES[table]}
    given = {
        name: [build(kinds[name][1:-1], item) for item in value] if isinstance(value, list) else value
        for name, value in values.items()
    }
    return getattr(messages, table)(**given)


def plain(message: Any) -> Values:
    """All fields of our object as plain Python."""
    values = {name: getattr(message, name) for name in type(message).FIELDS}
    return {
        name: [plain(item) for item in value] if isinstance(value, tuple) else value for name, value in values.items()
    }


def same(one: Any, other: Any) -> bool:
    """Equality in which NaN equals NaN."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return bool(one == other)


def camel(name: str) -> str:
    """A field's name as flatc writes it."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def official_write(table: str, values: Values, package: str = "generated", tables: Values = TABLES) -> bytes:
    """The same values through flatc's functions and the official Builder."""
    builder = flatbuffers.Builder(256)
    root = _official_table(builder, table, values, package, tables)
    builder.Finish(root, file_identifier=IDENTIFIERS[table].encode())
    return bytes(builder.Output())


def _official_table(builder: Any, table: str, values: Values, package: str, tables: Values) -> int:
    module = importlib.import_module(f"{package}.{table}")
    kinds = {field["name"]: field["type"] for field in tables[table]}
    ready = {}
    for name, value in values.items():
        kind = kinds[name]
        if kind == "string":
            ready[name] = builder.CreateString(value)
        elif kind == "[ubyte]":
            ready[name] = builder.CreateByteVector(value)
        elif kind.startswith("["):
            items = [_official_table(builder, kind[1:-1], item, package, tables) for item in value]
            getattr(module, f"Start{camel(name)}Vector")(builder, len(items))
            for item in reversed(items):
                builder.PrependUOffsetTRelative(item)
            ready[name] = builder.EndVector()
        else:
            ready[name] = value
    module.Start(builder)
    for name, value in ready.items():
        getattr(module, f"Add{camel(name)}")(builder, value)
    return int(module.End(builder))


def official_read(table: str, data: bytes, package: str = "generated", tables: Values = TABLES) -> Values:
    """Every field through flatc's accessors."""
    module = importlib.import_module(f"{package}.{table}")
    cls = getattr(module, table)
    assert has_identifier(data, 0, IDENTIFIERS[table].encode())
    return _official_fields(cls.GetRootAs(data, 0), table, tables)


def _official_fields(found: Any, table: str, tables: Values) -> Values:
    values = {}
    for field in tables[table]:
        name, kind = camel(field["name"]), field["type"]
        get = getattr(found, name)
        if kind == "string":
            values[field["name"]] = (get() or b"").decode()
        elif kind == "[ubyte]":
            values[field["name"]] = bytes(get(index) for index in range(getattr(found, f"{name}Length")()))
        elif kind.startswith("["):
            count = getattr(found, f"{name}Length")()
            values[field["name"]] = [_official_fields(get(index), kind[1:-1], tables) for index in range(count)]
        else:
            values[field["name"]] = get()
    return values
