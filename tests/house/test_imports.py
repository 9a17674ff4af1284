"""The house: imports run one way, and every committed file stays readable."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"pipeline", "markets", "workers", "localnet", "bench", "generated"}

# What a package may import of the others. `pipeline` loads workers by name, never by import.
ALLOWED = {
    "generated": {"generated", "pipeline._core"},
    "pipeline": {"pipeline", "generated", "bench"},
    "markets": {"markets", "pipeline.messages", "pipeline._core"},
    "localnet": {"localnet", "markets", "pipeline"},
    "workers": {"workers", "markets", "pipeline"},
    "bench": {"bench", "workers", "localnet", "markets", "pipeline", "generated"},
}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in PACKAGES}


def within(name: str, allowed: set[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in allowed)


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_run_one_way(package: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(package)
        for name in imported(path)
        if not within(name, ALLOWED[package])
    }
    assert not wrong


def test_workers_never_import_each_other() -> None:
    wrong = set()
    for path in sources("workers"):
        own = path.relative_to(ROOT / "workers").parts[0]
        wrong |= {
            f"{path}: {name}" for name in imported(path) if name.startswith("workers.") and name.split(".")[1] != own
        }
    assert not wrong


def test_unsafe_stands_in_the_shared_memory_module_only() -> None:
    core = ROOT / "core" / "src"
    wrong = [
        f"{path.relative_to(core)}:{number}"
        for path in core.rglob("*.rs")
        if path.relative_to(core).parts[0] not in {"shm", "shm.rs"}
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "unsafe " in line.split("//")[0] and "unsafe_code" not in line
    ]
    assert not wrong
