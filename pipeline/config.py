"""Typed configuration in four layers.

`config/default.toml` holds every key and its default; a user file, the environment (`PIPELINE_NATS__URL`) and the
command line (`--set nats.url=...`) each override what is below them. Models carry no defaults of their own, so a value
has one home.
An unknown key or a value out of range is refused with the key, the value, the layer it came from and what is allowed.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from pipeline.redact import HIDDEN, hide_password
from pipeline.sections import Config
from pipeline.sections.base import Section

__all__ = [
    "Config",
    "ConfigError",
    "ConfigProblem",
    "Loaded",
    "Section",
    "forget_secrets",
    "load",
    "load_config",
    "show_value",
    "to_toml",
]

DEFAULT_FILE = Path(__file__).resolve().parent.parent / "config" / "default.toml"
ENV_PREFIX = "PIPELINE_"
# Variables that steer the program without being configuration keys.
RESERVED_ENV = frozenset({"PIPELINE_CONFIG", "PIPELINE_CRASH_AT", "PIPELINE_DEBUG"})
HANDED = "/proc/self/fd/"
"""Where a secret stands that a supervisor hands to a worker: in memory, under a handle that both have."""
# What steers the tests.
_TEST_PREFIX = "PIPELINE_TEST_"


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One refused key: what it held, where that came from, and what is allowed."""

    key: str
    value: object
    source: str
    allowed: str

    def __str__(self) -> str:
        """Return the problem as one line."""
        value = "" if self.value is None else f" = {_shown(self.key, self.value)}"
        return f"{self.key}{value} ({self.source}): {self.allowed}"


class ConfigError(ValueError):
    """Configuration that was refused; `problems` names every key."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        """Keep the problems and join them into the message."""
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and the layer that each of its keys came from."""

    config: Config
    sources: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield (key, shown value, source layer) for every key, secrets hidden."""
        for key, value in _leaves(self.config):
            yield key, show_value(value), self.sources[key]


@dataclass(slots=True)
class _Merge:
    """What the layers read so far add up to."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)

    def put(self, path: list[str], value: object, source: str) -> None:
        """Set one key, or every key of a table."""
        found = _find_field(path)
        key = ".".join(path)
        if found is None:
            self.problems.append(ConfigProblem(key, value, source, _unknown_key(path)))
            return
        model = _section_of(found)
        if model is not None:
            if not isinstance(value, Mapping):
                self.problems.append(ConfigProblem(key, value, source, f"is a section with the keys {_keys(model)}"))
                return
            for name, inner in value.items():
                self.put([*path, str(name)], inner, source)
            return
        table = self.values
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = value
        self.sources[key] = source

    def put_text(self, path: list[str], text: str, source: str) -> None:
        """Set one key from text, read as the type of its field."""
        found = _find_field(path)
        self.put(path, text if found is None else _from_text(found, text), source)


def load_config(
    overrides: Mapping[str, object] | None = None,
    *,
    user_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Load every layer and return the configuration; see `load`."""
    return load(overrides, user_file=user_file, environment=environment).config


def load(
    overrides: Mapping[str, object] | None = None,
    *,
    user_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    source: str = "command line",
) -> Loaded:
    """Load every layer and remember where each key came from.

    `overrides` maps dotted keys (`"nats.url"`) to values; text is read as the type of the field. Without `user_file`
    the file that `PIPELINE_CONFIG` names is read, or `~/.config/pipeline/config.toml` where it exists. An `environment`
    of `{}` reads the defaults alone, which is what tests want.
    """
    env = os.environ if environment is None else environment
    merge = _Merge()
    _put_file(merge, DEFAULT_FILE, "default")
    path = _user_file(user_file, env)
    if path is not None:
        _put_file(merge, path, f"file {path}")
    _put_environment(merge, env)
    for key, value in (overrides or {}).items():
        path_parts = key.split(".")
        if isinstance(value, str):
            merge.put_text(path_parts, value, source)
        else:
            merge.put(path_parts, value, source)
    return Loaded(_validate(merge), merge.sources)


def to_toml(config: Config, *, secrets: bool = False) -> str:
    """Return the configuration as a user file; secrets are left out unless asked for."""
    lines: list[str] = []
    tables: dict[str, list[str]] = {}
    for key, value in _leaves(config):
        section, _, name = key.rpartition(".")
        if isinstance(value, SecretStr) and not secrets:
            continue
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        tables.setdefault(section, []).append(f"{name} = {_toml_value(plain)}")
    for section, entries in tables.items():
        lines += [f"[{section}]", *entries, ""]
    return "\n".join(lines)


def secrets_of(config: Config) -> dict[str, str]:
    """Return the secrets that are set as environment variables, for a child process."""
    return {
        ENV_PREFIX + key.upper().replace(".", "__"): value.get_secret_value()
        for key, value in _leaves(config)
        if isinstance(value, SecretStr) and value.get_secret_value()
    }


def is_secret(key: str) -> bool:
    """Tell whether a dotted key holds a secret."""
    found = _find_field(key.split("."))
    return found is not None and _bare_type(found) is SecretStr


def forget_secrets() -> None:
    """Remove the secrets that were read from this process's environment: what it starts does not inherit them."""
    for name in list(os.environ):
        if not name.startswith(ENV_PREFIX):
            continue
        found = _find_field(name.removesuffix("_FILE").removeprefix(ENV_PREFIX).lower().split("__"))
        if found is None or _bare_type(found) is not SecretStr:
            continue
        handed = os.environ.pop(name)
        if name.endswith("_FILE") and handed.startswith(HANDED):
            with suppress(OSError, ValueError):
                os.close(int(handed.removeprefix(HANDED)))


def show_value(value: object) -> str:
    """Return a value for people: secrets and passwords inside addresses are hidden."""
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    if isinstance(value, str):
        return hide_password(value)
    return _toml_value(value)


def _toml_value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {_toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # JSON's strings and numbers are TOML's, but for this one character.
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")


def _user_file(given: Path | None, env: Mapping[str, str]) -> Path | None:
    if given is not None:
        return given
    if named := env.get("PIPELINE_CONFIG"):
        return Path(named).expanduser()
    home = env.get("XDG_CONFIG_HOME") or (env["HOME"] + "/.config" if env.get("HOME") else None)
    path = Path(home) / "pipeline" / "config.toml" if home else None
    return path if path is not None and path.is_file() else None


def _put_file(merge: _Merge, path: Path, source: str) -> None:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([ConfigProblem(str(path), None, source, f"cannot be read: {error.strerror}")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([ConfigProblem(str(path), None, source, f"is not TOML: {error}")]) from None
    for name, value in table.items():
        merge.put([name], value, source)


def _put_environment(merge: _Merge, env: Mapping[str, str]) -> None:
    for name in sorted(env):
        if not name.startswith(ENV_PREFIX) or name in RESERVED_ENV or name.startswith(_TEST_PREFIX):
            continue
        path = name.removeprefix(ENV_PREFIX).lower().split("__")
        source = f"environment {name}"
        if path[-1].endswith("_file") and _find_field(path) is None:
            # A secret may stand in a file (container secrets): PIPELINE_NATS__TOKEN_FILE=/run/secrets/nats.
            plain = [*path[:-1], path[-1].removesuffix("_file")]
            found = _find_field(plain)
            if found is not None and _bare_type(found) is SecretStr:
                try:
                    merge.put_text(plain, Path(env[name]).read_text(encoding="utf-8").strip(), source)
                except (OSError, ValueError) as error:
                    # What it names is not repeated: somebody may have put the secret itself there.
                    why = error.strerror if isinstance(error, OSError) else "it is no text"
                    text = f"the file that it names cannot be read: {why}"
                    merge.problems.append(ConfigProblem(".".join(plain), None, source, text))
                continue
        merge.put_text(path, env[name], source)


def _validate(merge: _Merge) -> Config:
    if merge.problems:
        raise ConfigError(merge.problems)
    try:
        # JSON mode, strict: a list may become a tuple, but "5" is not a number.
        return Config.model_validate_json(json.dumps(merge.values, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError([_problem(merge, dict(item)) for item in error.errors(include_url=False)]) from None


def _problem(merge: _Merge, item: dict[str, Any]) -> ConfigProblem:
    parts = [str(part) for part in item["loc"]]
    key = ".".join(parts)
    while parts and ".".join(parts) not in merge.sources and _find_field(parts) is None:
        parts.pop()  # an index inside a list, or a union's arm
    owner = ".".join(parts)
    message = str(item["msg"]).removeprefix("Value error, ")
    if owner in merge.sources:
        return ConfigProblem(key, item["input"], merge.sources[owner], message[:1].lower() + message[1:])
    if item["type"] == "missing":
        return ConfigProblem(key, None, "default", f"has no value in {DEFAULT_FILE}")
    involved = {
        source for name, source in merge.sources.items() if name.startswith(owner + ".") and source != "default"
    }
    return ConfigProblem(key or "configuration", None, ", ".join(sorted(involved)) or "default", message)


def _unknown_key(path: list[str]) -> str:
    depth = next(i for i in range(len(path)) if _find_field(path[: i + 1]) is None)
    parent = _section_of(_find_field(path[:depth])) if depth else Config
    if parent is None:
        return f"unknown key: {'.'.join(path[:depth])} is a single value, it has no keys"
    close = difflib.get_close_matches(path[depth], list(parent.model_fields), n=1)
    hint = f"did you mean {'.'.join([*path[:depth], close[0]])}? " if close else ""
    return f"unknown key; {hint}allowed here: {_keys(parent)}"


def _keys(model: type[Section]) -> str:
    return ", ".join(sorted(model.model_fields))


def _find_field(path: list[str]) -> FieldInfo | None:
    model: type[Section] | None = Config
    found: FieldInfo | None = None
    for name in path:
        if model is None or name not in model.model_fields:
            return None
        found = model.model_fields[name]
        model = _section_of(found)
    return found


def _section_of(found: FieldInfo | None) -> type[Section] | None:
    kind = _bare_type(found) if found is not None else None
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _bare_type(found: FieldInfo) -> Any:
    kind = found.annotation
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def _from_text(found: FieldInfo, text: str) -> object:
    """Read text as the field's type; what does not fit stays text, and validation refuses it by name."""
    kind = _bare_type(found)
    if kind in (str, SecretStr):
        return text
    if (get_origin(kind) or kind) in (list, tuple) and not text.lstrip().startswith("["):
        inner = get_args(kind)[0] if get_args(kind) else str
        return [part if inner is str else _literal(part) for part in (item.strip() for item in text.split(",")) if part]
    return _literal(text)


def _literal(text: str) -> object:
    low = text.strip().lower()
    if low in ("true", "false"):
        return low == "true"
    try:
        return tomllib.loads(f"value = {text.strip()}\n")["value"] if "\n" not in text.strip() else text
    except tomllib.TOMLDecodeError:
        return text


def _leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(key: str, value: object) -> str:
    found = _find_field(key.split("."))
    if found is None:
        # A misspelt secret is still a secret.
        parent = _section_of(_find_field(key.split(".")[:-1])) or Config
        secret_names = [name for name, inner in parent.model_fields.items() if _bare_type(inner) is SecretStr]
        name = key.rsplit(".", maxsplit=1)[-1]
        if difflib.get_close_matches(name, secret_names, n=1) or re.search(r"token|pass|secret|key", name):
            return HIDDEN
    elif _bare_type(found) is SecretStr:
        return HIDDEN
    return hide_password(_toml_value(value))
