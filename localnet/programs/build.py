"""Compile and link the stand-in programs: `python -m localnet.programs.build`.

Needs the package `ziglang`, for its C compiler; the same version gives the same bytes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from localnet.programs import FOLDER, PROGRAMS
from localnet.programs.linker import link

# v2 of the instruction set: the 32-bit arithmetic of v3 extends signs differently on Solana's machine. A frame there
# has 4,096 bytes. There is no C library and there are no exceptions.
FLAGS = (
    *("-target", "bpf", "-mcpu=v2", "-O2", "-std=c11", "-mllvm", "-bpf-stack-size=4096"),
    *("-ffreestanding", "-fno-strict-aliasing", "-fno-asynchronous-unwind-tables"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-unused-function"),
)
SECONDS = 60


class BuildFailed(RuntimeError):
    """The compiler's own words are the message."""


def compiler_installed() -> bool:
    """Tell whether the compiler is there."""
    return find_spec("ziglang") is not None


def build(name: str) -> bytes:
    """Return the program of one source, compiled and linked.

    Raises:
        BuildFailed: if the source does not compile.
        Unlinkable: if it compiles to something that the linker does not know.
    """
    with tempfile.TemporaryDirectory() as folder:
        obj = Path(folder) / "program.o"
        source = FOLDER / "src" / f"{name}.c"
        command = [sys.executable, "-m", "ziglang", "clang", *FLAGS, "-c", str(source), "-o", str(obj)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            raise BuildFailed(done.stderr)
        return link(obj.read_bytes())


def main() -> None:
    """Write every program beside its source's folder."""
    for name in PROGRAMS:
        elf = build(name)
        (FOLDER / f"{name}.so").write_bytes(elf)
        sys.stdout.write(f"{name}: {len(elf):,} bytes\n")


if __name__ == "__main__":
    main()
