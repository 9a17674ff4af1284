"""The contract as the code generators see it, and what the codec does not know, refused."""

from __future__ import annotations

import keyword
from dataclasses import dataclass

from schemas import reflection as r

MAX_FIELDS = 128  # the writer keeps one bit per field in a u128

SCALARS = {
    r.BOOL: ("bool", "bool", 1),
    r.BYTE: ("i8", "int", 1),
    r.UBYTE: ("u8", "int", 1),
    r.SHORT: ("i16", "int", 2),
    r.USHORT: ("u16", "int", 2),
    r.INT: ("i32", "int", 4),
    r.UINT: ("u32", "int", 4),
    r.LONG: ("i64", "int", 8),
    r.ULONG: ("u64", "int", 8),
    r.FLOAT: ("f32", "float", 4),
    r.DOUBLE: ("f64", "float", 8),
}
RUST_WORDS = {
    "type",
    "match",
    "move",
    "ref",
    "mut",
    "use",
    "mod",
    "fn",
    "impl",
    "trait",
    "struct",
    "enum",
    "pub",
    "let",
    "loop",
    "self",
    "super",
    "crate",
    "static",
    "const",
    "where",
    "unsafe",
    "extern",
    "box",
    "dyn",
    "abstract",
    "final",
    "override",
    "priv",
    "virtual",
}
METHODS = {"encode", "decode", "to_dict", "replace", "py"}


class Unsupported(Exception):
    """The schema uses something the codec does not know."""


@dataclass(frozen=True)
class Member:
    """One field as the generated code sees it."""

    name: str
    kind: str  # the Rust type that reads, checks and writes it
    size: int  # inline bytes, and alignment
    slot: int
    default: str  # as Rust
    given: str  # type a constructor takes
    got: str  # type an attribute has
    stub_default: str
    doc: tuple[str, ...]

    @property
    def shown_default(self) -> str:
        """Return the default as `help()` shows it: enumerations by number, no double quotes."""
        return self.default if self.kind.startswith("Member<") else self.stub_default.replace('"', "'")


@dataclass(frozen=True)
class Message:
    """One table as the generated code sees it; `identifier` is empty for tables that only stand inside others."""

    name: str
    identifier: str
    doc: tuple[str, ...]
    members: tuple[Member, ...]

    def layout(self) -> tuple[dict[str, int], int]:
        """Return each field's offset in the table and the table's inline size: larger fields first, no padding."""
        offsets: dict[str, int] = {}
        end = 4
        for member in sorted(self.members, key=lambda item: -item.size):
            offsets[member.name] = end
            end += member.size
        return offsets, end


@dataclass(frozen=True)
class Contract:
    """Every table and enumeration of every schema file, by name."""

    messages: tuple[Message, ...]
    enums: tuple[r.Enumeration, ...]

    @property
    def roots(self) -> list[Message]:
        """Return the tables that travel on their own."""
        return [message for message in self.messages if message.identifier]


def merge(schemas: list[r.Schema]) -> Contract:
    """Merge the files into one contract, refusing what the codec does not know."""
    enums: dict[str, r.Enumeration] = {}
    messages: dict[str, Message] = {}
    for schema in schemas:
        for enum in schema.enums:
            if enum.is_union or enum.base != r.UBYTE:
                raise Unsupported(f"{enum.name}: enumerations are `: ubyte`, unions are not known")
            enums[enum.name] = enum
        for table in schema.objects:
            messages[table.name] = _message(schema, table)
    identifiers = [message.identifier for message in messages.values() if message.identifier]
    if len(set(identifiers)) != len(identifiers):
        raise Unsupported(f"two tables share one identifier: {sorted(identifiers)}")
    return Contract(tuple(messages[name] for name in sorted(messages)), tuple(enums[name] for name in sorted(enums)))


def _message(schema: r.Schema, table: r.Object) -> Message:
    identifier = table.attributes.get("identifier", "")
    if table.is_struct:
        raise Unsupported(f"{table.name}: structs can not grow, use a table")
    if identifier and len(identifier.encode()) != 4:
        raise Unsupported(f"{table.name}: the identifier {identifier!r} is not four bytes long")
    if len(table.fields) > MAX_FIELDS:
        raise Unsupported(f"{table.name}: more than {MAX_FIELDS} fields")
    members = tuple(_member(schema, table, field) for field in table.fields if not field.deprecated)
    if not members:
        raise Unsupported(f"{table.name}: a table needs a field")
    return Message(table.name, identifier, table.doc, members)


def _member(schema: r.Schema, table: r.Object, field: r.Field) -> Member:
    place = f"{table.name}.{field.name}"
    if field.required:
        raise Unsupported(f"{place}: a required field can never be retired")
    if keyword.iskeyword(field.name) or field.name in RUST_WORDS or field.name in METHODS:
        raise Unsupported(f"{place}: the name is taken")
    kind, element = field.type.base, field.type.element

    def member(rust: str, size: int, *, default: str, given: str, got: str, stub_default: str) -> Member:
        return Member(field.name, rust, size, field.slot, default, given, got, stub_default, field.doc)

    if kind == r.STRING:
        return member("Text", 4, default="()", given="str", got="str", stub_default='""')
    if kind == r.VECTOR and element == r.UBYTE and field.type.index < 0:
        return member("Blob", 4, default="()", given="bytes", got="bytes", stub_default='b""')
    if kind == r.VECTOR and element == r.OBJ:
        name = schema.objects[field.type.index].name
        given, got = f"Sequence[{name}]", f"tuple[{name}, ...]"
        return member(f"Tables<{name}>", 4, default="()", given=given, got=got, stub_default="()")
    if kind == r.UBYTE and field.type.index >= 0:
        enum = schema.enums[field.type.index]
        names = {number: name for name, number, _ in enum.values}
        stub = f"{enum.name}.{names[field.default_integer]}"
        typed = f"{enum.name} | int"
        default = str(field.default_integer)
        return member(f"Member<{enum.name}>", 1, default=default, given=typed, got=typed, stub_default=stub)
    if kind in SCALARS and not field.optional:
        rust, python, size = SCALARS[kind]
        if kind == r.BOOL:
            default, stub = ("true", "True") if field.default_integer else ("false", "False")
        elif python == "float":
            default = stub = repr(field.default_real)
        else:
            number = field.default_integer
            default = stub = str(number + 2**64 if kind == r.ULONG and number < 0 else number)
        return member(f"Scalar<{rust}>", size, default=default, given=python, got=python, stub_default=stub)
    raise Unsupported(f"{place}: type {kind} (element {element}) is not known to the codec")
