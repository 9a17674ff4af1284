"""Read a compiled schema (`.bfbs`): the part of FlatBuffers' reflection layout that the generator needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flatbuffers import number_types
from flatbuffers.table import Table as RawTable

# reflection.BaseType
NONE, UTYPE, BOOL, BYTE, UBYTE, SHORT, USHORT, INT, UINT, LONG, ULONG, FLOAT, DOUBLE, STRING, VECTOR, OBJ = range(16)


@dataclass(frozen=True)
class Type:
    """The type of a field: its base type, its element's where it is a vector, the object or enumeration it names."""

    base: int
    element: int
    index: int


@dataclass(frozen=True)
class Field:
    """One field of a table. `slot` is its place in the vtable."""

    name: str
    type: Type
    slot: int
    default_integer: int
    default_real: float
    deprecated: bool
    required: bool
    optional: bool
    doc: tuple[str, ...]


@dataclass(frozen=True)
class Object:
    """One table (or struct) with its fields in the order of their slots."""

    name: str
    is_struct: bool
    file: str
    doc: tuple[str, ...]
    attributes: dict[str, str] = field(hash=False)
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Enumeration:
    """One enumeration with its values in the order of their numbers."""

    name: str
    is_union: bool
    base: int
    file: str
    doc: tuple[str, ...]
    values: tuple[tuple[str, int, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Schema:
    """One compiled schema file with everything it includes."""

    objects: tuple[Object, ...]
    enums: tuple[Enumeration, ...]


class _Reader:
    """A table of the reflection schema, its fields addressed by slot."""

    def __init__(self, raw: RawTable) -> None:
        self.raw = raw

    def _at(self, slot: int) -> int:
        offset = self.raw.Offset(4 + 2 * slot)
        return self.raw.Pos + offset if offset else 0

    def scalar(self, slot: int, flags: Any, default: Any) -> Any:
        at = self._at(slot)
        return self.raw.Get(flags, at) if at else default

    def string(self, slot: int) -> str:
        at = self._at(slot)
        return self.raw.String(at).decode() if at else ""

    def table(self, slot: int) -> _Reader:
        return _Reader(RawTable(self.raw.Bytes, self.raw.Indirect(self._at(slot))))

    def tables(self, slot: int) -> list[_Reader]:
        return [_Reader(RawTable(self.raw.Bytes, self.raw.Indirect(at))) for at in self._elements(slot)]

    def strings(self, slot: int) -> tuple[str, ...]:
        return tuple(self.raw.String(at).decode().strip() for at in self._elements(slot))

    def _elements(self, slot: int) -> list[int]:
        offset = self.raw.Offset(4 + 2 * slot)
        if not offset:
            return []
        start = self.raw.Vector(offset)
        return [start + 4 * index for index in range(self.raw.VectorLen(offset))]


def _field(raw: _Reader) -> Field:
    kind = raw.table(1)
    return Field(
        name=raw.string(0),
        type=Type(
            base=kind.scalar(0, number_types.Int8Flags, NONE),
            element=kind.scalar(1, number_types.Int8Flags, NONE),
            index=kind.scalar(2, number_types.Int32Flags, -1),
        ),
        slot=raw.scalar(2, number_types.Uint16Flags, 0),
        default_integer=raw.scalar(4, number_types.Int64Flags, 0),
        default_real=raw.scalar(5, number_types.Float64Flags, 0.0),
        deprecated=bool(raw.scalar(6, number_types.BoolFlags, False)),
        required=bool(raw.scalar(7, number_types.BoolFlags, False)),
        optional=bool(raw.scalar(11, number_types.BoolFlags, False)),
        doc=raw.strings(10),
    )


def read(data: bytes) -> Schema:
    """Read a `.bfbs` file."""
    if data[4:8] != b"BFBS":
        raise ValueError("not a compiled FlatBuffers schema (file identifier BFBS is missing)")
    root = _Reader(RawTable(data, int.from_bytes(data[:4], "little")))
    objects = tuple(
        Object(
            name=raw.string(0).rpartition(".")[2],
            is_struct=bool(raw.scalar(2, number_types.BoolFlags, False)),
            file=raw.string(7).rpartition("/")[2],
            doc=raw.strings(6),
            attributes={pair.string(0): pair.string(1) for pair in raw.tables(5)},
            fields=tuple(sorted((_field(item) for item in raw.tables(1)), key=lambda item: item.slot)),
        )
        for raw in root.tables(0)
    )
    enums = tuple(
        Enumeration(
            name=raw.string(0).rpartition(".")[2],
            is_union=bool(raw.scalar(2, number_types.BoolFlags, False)),
            base=raw.table(3).scalar(0, number_types.Int8Flags, NONE),
            file=raw.string(6).rpartition("/")[2],
            doc=raw.strings(5),
            values=tuple(
                (value.string(0), value.scalar(1, number_types.Int64Flags, 0), value.strings(4))
                for value in raw.tables(1)
            ),
        )
        for raw in root.tables(1)
    )
    return Schema(objects, enums)
