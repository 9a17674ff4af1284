"""The committed programs are what their sources compile to, and the linker refuses what it does not know."""

from __future__ import annotations

import struct
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey

from localnet.programs import FOLDER, PROGRAMS, program_files
from localnet.programs.build import FLAGS, build, compiler_installed
from localnet.programs.linker import Unlinkable, link

needs_compiler = pytest.mark.skipif(not compiler_installed(), reason="the package ziglang is not installed")


@needs_compiler
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_what_their_sources_compile_to(name: str) -> None:
    assert build(name) == (FOLDER / f"{name}.so").read_bytes(), "run python -m localnet.programs.build"


def test_every_source_is_listed_and_loads() -> None:
    assert {path.stem for path in (FOLDER / "src").glob("*.c")} == set(PROGRAMS)
    files = program_files()
    assert set(files) == {address for addresses in PROGRAMS.values() for address in addresses}
    svm = LiteSVM()
    for address, elf in files.items():
        assert len(elf) < 100_000
        svm.add_program(Pubkey.from_string(address), elf)


def test_a_wheel_carries_programs_and_sources() -> None:
    root = FOLDER.parents[1]
    include = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["maturin"]["include"]
    shipped = {path for pattern in include for path in root.glob(pattern)}
    assert {*FOLDER.glob("*.so"), *FOLDER.glob("src/*")} <= shipped


def compiled(source: str, folder: Path) -> bytes:
    (folder / "t.c").write_text(source)
    subprocess.run(
        [sys.executable, "-m", "ziglang", "clang", *FLAGS, "-c", str(folder / "t.c"), "-o", str(folder / "t.o")],
        check=True,
    )
    return (folder / "t.o").read_bytes()


UNKNOWN = {
    "no entrypoint": "unsigned long long other(void) { return 1; }",
    "writable data": "unsigned long long kept = 1; unsigned long long entrypoint(void) { return kept++; }",
    "zeroed data": "unsigned long long kept; unsigned long long entrypoint(void) { return kept++; }",
    "an undefined function": "extern int other(int); unsigned long long entrypoint(void) { return other(1); }",
    "pointers in constant data": (
        "typedef long (*f)(long); long one(long a) { return a * a; } long two(long a) { return a + 7; }"
        "const f table[2] = {one, two}; long entrypoint(const unsigned char *in) { return table[in[0] & 1](in[1]); }"
    ),
    "code in a section of its own": (
        '__attribute__((section(".text.cold"), noinline)) unsigned long long cold(int x) { return x * 3u; }'
        "unsigned long long entrypoint(const unsigned char *in) { return cold(in[0]); }"
    ),
}


@needs_compiler
@pytest.mark.parametrize("case", UNKNOWN)
def test_the_linker_refuses_what_it_does_not_know(case: str, tmp_path: Path) -> None:
    with pytest.raises(Unlinkable):
        link(compiled(UNKNOWN[case], tmp_path))


@needs_compiler
def test_unknown_relocations_are_refused(tmp_path: Path) -> None:
    source = (
        "extern unsigned long long sol_log_64_(void); unsigned long long entrypoint(void) { return sol_log_64_(); }"
    )
    obj = bytearray(compiled(source, tmp_path))
    link(bytes(obj))
    at = obj.index(struct.pack("<I", 10), obj.index(b"\x85\x10\x00\x00\xff\xff\xff\xff"))
    obj[at] = 2
    with pytest.raises(Unlinkable):
        link(bytes(obj))


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"MZ" + bytes(100)])
def test_only_objects_are_linked(data: bytes) -> None:
    with pytest.raises(Unlinkable):
        link(data)
