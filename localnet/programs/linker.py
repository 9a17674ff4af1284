"""Link one object file of BPF code into a shared object that a Solana loader takes.

The result is of the loader's version 0: one `.text`, read-only data behind it, addresses equal to file offsets, data
addresses in the code already those of the machine, system calls as dynamic relocations by name. The linker knows what
our compiler emits for our sources and refuses everything else: a program that it does not understand is not built.

Sources: the ELF specification, LLVM's BPF relocations, the loader in anza-xyz/sbpf (`src/elf.rs`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_MACHINE_BPF, _RELOCATABLE, _SHARED = 247, 1, 3
_PROGBITS, _SYMTAB, _STRTAB, _REL, _DYNAMIC, _DYNSYM = 1, 2, 3, 9, 6, 11
_WRITE, _ALLOC, _EXECUTE = 1, 2, 4
_R_64_64, _R_64_32 = 1, 10
_SECTION_SYMBOL = 3
_CALL, _LOAD_WIDE = 0x85, 0x18
_LOCAL_CALL = 1
_REGION = 0x1_0000_0000
"""Where the machine maps the file's read-only sections."""
_HEADER, _PROGRAM_HEADER, _SECTION_HEADER = 64, 56, 64


class Unlinkable(ValueError):
    """An object file with something in it that this linker does not know."""


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    flags: int
    data: bytes
    link: int
    info: int
    align: int


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: str
    kind: int
    section: int
    value: int


def link(obj: bytes) -> bytes:
    """Return the shared object made of one relocatable object, which must define `entrypoint`.

    Raises:
        Unlinkable: for any section, relocation or symbol that is not known.
    """
    sections = _sections(obj)
    text_at = _only(sections, ".text")
    constants = [index for index, section in enumerate(sections) if section.name.startswith(".rodata")]
    for index, section in enumerate(sections):
        _check_section(index, section, text_at)
    symbols = _symbols(sections)
    text = bytearray(sections[text_at].data)
    if not text or len(text) % 8:
        raise Unlinkable("the code is not made of whole instructions")
    base = _HEADER + 3 * _PROGRAM_HEADER
    base += -base % 16
    # Read-only data follows the code, each section on its alignment.
    places, rodata = {text_at: base}, bytearray()
    data_at = base + len(text) + (-(base + len(text)) % 16)
    for index in constants:
        section = sections[index]
        if section.align > 16:
            raise Unlinkable(f"{section.name} wants an alignment of {section.align}")
        rodata += bytes(-len(rodata) % max(section.align, 1))
        places[index] = data_at + len(rodata)
        rodata += section.data
    calls: list[tuple[int, str]] = []
    for section in sections:
        if section.kind == _REL:
            if section.info != text_at:
                raise Unlinkable(f"{section.name} relocates something else than the code")
            for at, info in struct.iter_unpack("<QQ", section.data):
                _relocate(text, at, info, symbols=symbols, places=places, text_at=text_at, calls=calls)
    entry = [s for s in symbols if s.name == "entrypoint" and s.section == text_at]
    if len(entry) != 1:
        raise Unlinkable("there is no `entrypoint`")
    return _write(bytes(text), bytes(rodata), base=base, data_at=data_at, calls=calls, entry=base + entry[0].value)


def _only(sections: list[_Section], name: str) -> int:
    found = [index for index, section in enumerate(sections) if section.name == name]
    if len(found) != 1:
        raise Unlinkable(f"one section {name} is wanted, there are {len(found)}")
    return found[0]


def _check_section(index: int, section: _Section, text_at: int) -> None:
    if index == text_at:
        if section.kind != _PROGBITS or section.flags != _ALLOC | _EXECUTE:
            raise Unlinkable("the code's section is of an unknown kind")
    elif section.name.startswith(".rodata"):
        # Flags beside: the constants may be merged, which is not needed.
        if section.kind != _PROGBITS or section.flags & (_WRITE | _EXECUTE) or not section.flags & _ALLOC:
            raise Unlinkable(f"{section.name} is not constant data")
    elif section.flags & _ALLOC or section.kind not in (0, _SYMTAB, _STRTAB, _REL):
        # What is not loaded is of no account: the compiler's name, and which addresses are not compared.
        if section.flags & _ALLOC or section.name not in (".comment", ".llvm_addrsig", ".note.GNU-stack"):
            raise Unlinkable(f"section {section.name} is not known")
    elif section.kind == _REL and section.name != ".rel.text":
        raise Unlinkable(f"relocations {section.name} are not known")


def _relocate(
    text: bytearray,
    at: int,
    info: int,
    *,
    symbols: list[_Symbol],
    places: dict[int, int],
    text_at: int,
    calls: list[tuple[int, str]],
) -> None:
    """Apply one relocation to the code, or note it as a system call."""
    kind, number = info & 0xFFFF_FFFF, info >> 32
    if number >= len(symbols) or at % 8 or at + 8 > len(text):
        raise Unlinkable(f"a relocation at {at:#x} that leads nowhere")
    symbol, opcode = symbols[number], text[at]
    if kind == _R_64_32 and opcode == _CALL:
        if symbol.section == 0:
            if not symbol.name.startswith("sol_"):
                raise Unlinkable(f"{symbol.name} is not defined, and no system call")
            text[at + 1] = 0
            text[at + 4 : at + 8] = b"\xff" * 4
            calls.append((at, symbol.name))
        elif symbol.section == text_at:
            target = symbol.value
            if symbol.kind == _SECTION_SYMBOL:
                # The instruction says which of the section's, counted in instructions behind the first.
                target = 8 * (struct.unpack_from("<i", text, at + 4)[0] + 1)
            text[at + 1] = _LOCAL_CALL << 4
            struct.pack_into("<i", text, at + 4, (target - at) // 8 - 1)
        else:
            raise Unlinkable(f"a call of {symbol.name}, which is no code")
    elif kind == _R_64_64 and opcode == _LOAD_WIDE and at + 16 <= len(text):
        if symbol.section not in places or symbol.section == text_at:
            raise Unlinkable(f"the address of {symbol.name or 'a section'} is not that of constant data")
        addend = (
            int.from_bytes(text[at + 4 : at + 8], "little") | int.from_bytes(text[at + 12 : at + 16], "little") << 32
        )
        address = _REGION + places[symbol.section] + symbol.value + addend
        struct.pack_into("<I", text, at + 4, address & 0xFFFF_FFFF)
        struct.pack_into("<I", text, at + 12, address >> 32)
    else:
        raise Unlinkable(f"relocation {kind} of the instruction {opcode:#x} at {at:#x} is not known")


def _sections(obj: bytes) -> list[_Section]:
    if obj[:7] != b"\x7fELF\x02\x01\x01" or struct.unpack_from("<HH", obj, 16) != (_RELOCATABLE, _MACHINE_BPF):
        raise Unlinkable("not a relocatable BPF object of 64 bits")
    (start,) = struct.unpack_from("<Q", obj, 40)
    size, count, names_at = struct.unpack_from("<HHH", obj, 58)
    if size != _SECTION_HEADER:
        raise Unlinkable("section headers of an unknown size")
    heads = [struct.unpack_from("<IIQQQQIIQQ", obj, start + index * size) for index in range(count)]

    def body(head: tuple[int, ...]) -> bytes:
        data = obj[head[4] : head[4] + head[5]]
        if len(data) != head[5]:
            raise Unlinkable("a section runs past the end of the file")
        return data

    names = body(heads[names_at])
    return [_Section(_text(names, h[0]), h[1], h[2], body(h) if h[1] else b"", h[6], h[7], h[8]) for h in heads]


def _symbols(sections: list[_Section]) -> list[_Symbol]:
    tables = [section for section in sections if section.kind == _SYMTAB]
    if len(tables) != 1:
        raise Unlinkable("one table of symbols is wanted")
    names = sections[tables[0].link].data
    return [
        _Symbol(_text(names, name), kind & 15, section, value)
        for name, kind, _, section, value, _ in struct.iter_unpack("<IBBHQQ", tables[0].data)
    ]


def _text(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode()


class _Strings:
    """A table of strings, as ELF has them."""

    def __init__(self) -> None:
        self.data = bytearray(1)

    def add(self, text: str) -> int:
        at = len(self.data)
        self.data += text.encode() + b"\0"
        return at


def _write(text: bytes, rodata: bytes, *, base: int, data_at: int, calls: list[tuple[int, str]], entry: int) -> bytes:
    """Lay out the file."""
    names = sorted({name for _, name in calls})
    strings, dynsym = _Strings(), bytearray(24)
    for name in names:
        dynsym += struct.pack("<IBBHQQ", strings.add(name), 1 << 4, 0, 0, 0, 0)
    rel = b"".join(struct.pack("<QQ", base + at, (names.index(name) + 1) << 32 | _R_64_32) for at, name in calls)
    image = bytearray(base)
    image += text
    image += bytes(data_at - len(image)) + rodata
    image += bytes(-len(image) % 8)
    # Where each table will stand: the dynamic section, which names the others, comes first and has a known length.
    dynamic_at = len(image)
    dynsym_at = dynamic_at + 16 * 10
    dynstr_at = dynsym_at + len(dynsym)
    rel_at = dynstr_at + len(strings.data) + (-(dynstr_at + len(strings.data)) % 8)
    # DT_FLAGS, DT_REL, DT_RELSZ, DT_RELENT, DT_RELCOUNT, DT_SYMTAB, DT_SYMENT, DT_STRTAB, DT_STRSZ, DT_NULL.
    tags: tuple[tuple[int, int], ...] = ((30, 4), (17, rel_at), (18, len(rel)), (19, 16), (0x6FFFFFFA, 0))
    tags += ((6, dynsym_at), (11, 24), (5, dynstr_at), (10, len(strings.data)), (0, 0))
    image += b"".join(struct.pack("<QQ", *tag) for tag in tags) + dynsym + strings.data
    image += bytes(rel_at - len(image)) + rel
    labels = _Strings()
    rows = [(0,) * 10, (labels.add(".text"), _PROGBITS, _ALLOC | _EXECUTE, base, base, len(text), 0, 0, 8, 0)]
    if rodata:
        rows.append((labels.add(".rodata"), _PROGBITS, _ALLOC, data_at, data_at, len(rodata), 0, 0, 16, 0))
    first = len(rows)
    rows += [
        (labels.add(".dynamic"), _DYNAMIC, _WRITE | _ALLOC, dynamic_at, dynamic_at, 160, first + 2, 0, 8, 16),
        (labels.add(".dynsym"), _DYNSYM, _ALLOC, dynsym_at, dynsym_at, len(dynsym), first + 2, 1, 8, 24),
        (labels.add(".dynstr"), _STRTAB, _ALLOC, dynstr_at, dynstr_at, len(strings.data), 0, 0, 1, 0),
        (labels.add(".rel.dyn"), _REL, _ALLOC, rel_at, rel_at, len(rel), first + 1, 0, 8, 16),
    ]
    names_at = len(image)
    label = labels.add(".shstrtab")
    rows.append((label, _STRTAB, 0, 0, names_at, len(labels.data), 0, 0, 1, 0))
    image += labels.data
    image += bytes(-len(image) % 8)
    table_at = len(image)
    image += b"".join(struct.pack("<IIQQQQIIQQ", *row) for row in rows)
    programs = (
        (1, 5, base, len(text), 8),
        (1, 4, data_at, names_at - data_at, 8),
        (2, 6, dynamic_at, 160, 8),
    )
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", _SHARED, _MACHINE_BPF, 1, entry, _HEADER, table_at, 0, _HEADER,
                        _PROGRAM_HEADER, len(programs), _SECTION_HEADER, len(rows), len(rows) - 1)  # fmt: skip
    for kind, flags, at, size, align in programs:
        head += struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, size, align)
    image[: len(head)] = head
    return bytes(image)
