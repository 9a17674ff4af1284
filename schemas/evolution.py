"""The evolution rule, checked: what is written down in `baseline.json` may grow, and nothing in it may change.

`make schemas` refuses a schema that breaks the rule, and adds to the baseline what is new. So a breaking change can not
be made without an edit of the baseline that every reader of the change sees.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas import reflection as r

BASELINE = Path(__file__).with_name("baseline.json")
SCALAR_NAMES = ["none", "utype", "bool", "byte", "ubyte", "short", "ushort", "int", "uint", "long", "ulong", "float"]
BASE_NAMES = [*SCALAR_NAMES, "double", "string", "vector", "table", "union", "array"]

Description = dict[str, dict[str, Any]]


def describe(schemas: list[r.Schema]) -> Description:
    """Return what must not change: each table's fields by slot, each enumeration's values."""
    tables: dict[str, Any] = {}
    enums: dict[str, Any] = {}
    for schema in schemas:
        for enum in schema.enums:
            enums[enum.name] = {
                "type": BASE_NAMES[enum.base],
                "values": {name: number for name, number, _ in enum.values},
            }
        for table in schema.objects:
            tables[table.name] = {
                "identifier": table.attributes.get("identifier", ""),
                "fields": [_field(schema, field) for field in table.fields],
            }
    return {"tables": dict(sorted(tables.items())), "enums": dict(sorted(enums.items()))}


def _field(schema: r.Schema, field: r.Field) -> dict[str, Any]:
    kind = field.type
    name = BASE_NAMES[kind.base]
    if kind.base == r.VECTOR:
        element = schema.objects[kind.index].name if kind.element == r.OBJ else BASE_NAMES[kind.element]
        name = f"[{element}]"
    elif kind.index >= 0:
        name = (schema.objects if kind.base == r.OBJ else schema.enums)[kind.index].name
    default = field.default_real if kind.base in {r.FLOAT, r.DOUBLE} else field.default_integer
    return {"slot": field.slot, "name": field.name, "type": name, "default": default, "deprecated": field.deprecated}


def violations(before: Description, now: Description) -> list[str]:
    """Return each way in which `now` breaks the evolution rule."""
    found: list[str] = []
    for name, table in before["tables"].items():
        present = now["tables"].get(name)
        if present is None:
            found.append(f"{name}: the table was removed")
            continue
        if present["identifier"] != table["identifier"]:
            found.append(f"{name}: the identifier changed from {table['identifier']!r} to {present['identifier']!r}")
        fields = {field["slot"]: field for field in present["fields"]}
        for old in table["fields"]:
            found += _field_violations(f"{name}.{old['name']}", old, fields.get(old["slot"]))
    for name, enum in before["enums"].items():
        present = now["enums"].get(name)
        if present is None:
            found.append(f"{name}: the enumeration was removed")
            continue
        if present["type"] != enum["type"]:
            found.append(f"{name}: the type changed from {enum['type']} to {present['type']}")
        for member, number in enum["values"].items():
            if present["values"].get(member) != number:
                found.append(f"{name}.{member}: the value {number} was removed or renumbered")
        last = max(enum["values"].values(), default=-1)
        for member in present["values"].keys() - enum["values"].keys():
            if present["values"][member] <= last:
                found.append(f"{name}.{member}: a new value must come after the last one")
    return found


def _field_violations(place: str, old: dict[str, Any], new: dict[str, Any] | None) -> list[str]:
    if new is None:
        return [f"{place}: the field was removed; mark it (deprecated) instead"]
    if new["name"] != old["name"]:
        return [f"{place}: slot {old['slot']} belongs to {new['name']!r} now; a field is never moved or renamed"]
    found = []
    if new["type"] != old["type"]:
        found.append(f"{place}: the type changed from {old['type']} to {new['type']}")
    if new["default"] != old["default"]:
        found.append(f"{place}: the default changed from {old['default']} to {new['default']}")
    if old["deprecated"] and not new["deprecated"]:
        found.append(f"{place}: a retired field came back")
    return found


def load(path: Path = BASELINE) -> Description:
    """Return the baseline."""
    found: Description = json.loads(path.read_text())
    return found


def dump(description: Description) -> str:
    """Return a description as the baseline file holds it: one line per field."""
    lines = ["{", ' "tables": {']
    tables = description["tables"]
    for index, (name, table) in enumerate(tables.items()):
        lines.append(f'  "{name}": {{"identifier": {json.dumps(table["identifier"])}, "fields": [')
        lines.append(",\n".join(f"   {json.dumps(field)}" for field in table["fields"]))
        lines.append("  ]}" + ("," if index < len(tables) - 1 else ""))
    lines += [" },", ' "enums": {']
    lines.append(",\n".join(f'  "{name}": {json.dumps(enum)}' for name, enum in description["enums"].items()))
    lines += [" }", "}", ""]
    return "\n".join(lines)
