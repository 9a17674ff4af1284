"""The root options of one invocation, and the configuration they lead to."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config import Config, Loaded

_WITH_VALUE = ("--config", "--set")


@dataclass(slots=True)
class _Options:
    config: Path | None = None
    overrides: list[str] = field(default_factory=list)
    debug: bool = False


_options = _Options()


def remember(config: Path | None, overrides: list[str], *, debug: bool) -> None:
    """Keep the root options for the command that follows."""
    _options.config, _options.overrides, _options.debug = config, overrides, debug


def debug() -> bool:
    """Tell whether tracebacks are wanted."""
    return _options.debug or bool(os.environ.get("PIPELINE_DEBUG"))


def hoist(arguments: list[str]) -> list[str]:
    """Move the root options in front of the command, so that they may stand anywhere before `--`."""
    front: list[str] = []
    rest: list[str] = []
    items = iter(arguments)
    for item in items:
        if item == "--":
            rest.append(item)
            break
        if item in _WITH_VALUE:
            front += [item, *[value for value in [next(items, None)] if value is not None]]
        elif item == "--debug" or item.startswith(tuple(f"{name}=" for name in _WITH_VALUE)):
            front.append(item)
        else:
            rest.append(item)
    return [*front, *rest, *items]


def load(extra: dict[str, object] | None = None) -> Loaded:
    """Load the configuration with its sources; `extra` holds keys that options of the command itself set."""
    from pipeline import config as configuration
    from pipeline.errors import UsageFailure

    overrides: dict[str, object] = {}
    for item in _options.overrides:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageFailure(f"--set {item}: not KEY=VALUE", "write it like --set nats.url=nats://127.0.0.1:4222")
        if configuration.is_secret(key):
            name = configuration.ENV_PREFIX + key.upper().replace(".", "__")
            raise UsageFailure(
                f"--set {key}: a secret is no argument, for everybody on this machine sees those",
                f"set {name}, or {name}_FILE to a file that holds it",
            )
        overrides[key] = value
    return configuration.load({**overrides, **(extra or {})}, user_file=_options.config)


def config(extra: dict[str, object] | None = None) -> Config:
    """Load the configuration of this invocation, with `embedded` resolved to the running embedded server's address."""
    from pipeline.run_files import with_server_address

    return with_server_address(load(extra).config)
