"""`pipeline version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

from pipeline.cli.output import JsonOption, print_json, print_line

PACKAGES = ("arbitrage-pipeline", "nats-py", "pydantic", "uvloop")


def versions() -> dict[str, str]:
    """Return the versions that a bug report needs."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = installed(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}


def version(json: JsonOption = False) -> None:
    """Show versions."""
    found = versions()
    if json:
        print_json(found)
        return
    for name, value in found.items():
        print_line(f"{name} {value}")
