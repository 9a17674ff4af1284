"""Configuration: four layers, each stronger than the one before, and refusals that say what is allowed."""

import os
import re
import stat
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.config import (
    DEFAULT_FILE,
    Config,
    ConfigError,
    Loaded,
    Section,
    hide_password,
    load,
    load_config,
    secrets_of,
    to_toml,
)


def refused(overrides: dict[str, object] | None = None, **kwargs: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(overrides, **{"environment": {}, **kwargs})
    return str(caught.value)


def leaves(section: Section, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


DEFAULTS = leaves(load_config(environment={}))
NUMBERS = sorted(key for key, value in DEFAULTS.items() if type(value) in (int, float))
TEXTS = sorted(key for key, value in DEFAULTS.items() if isinstance(value, str))


def test_every_key_has_its_default_and_a_comment() -> None:
    """One home for values: no defaults in the models, none missing in the file, none without a comment."""
    text = DEFAULT_FILE.read_text()
    assert load(environment={}).sources.keys() == DEFAULTS.keys()
    models = [type(load_config(environment={}))]
    while models:
        for name, found in models.pop().model_fields.items():
            assert found.is_required(), f"{name} has a default outside config/default.toml"
            if isinstance(found.annotation, type) and issubclass(found.annotation, Section):
                models.append(found.annotation)
    assignments = [line for line in text.splitlines() if re.match(r"[a-z_0-9]+ *=", line)]
    assert len(assignments) == len(DEFAULTS)
    assert [line for line in assignments if "#" not in line] == []


def test_each_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[market]\nseed = 2\nslot_ms = 20\nslots = 200\n")
    environment = {"PIPELINE_MARKET__SLOT_MS": "30", "PIPELINE_MARKET__SLOTS": "300"}
    loaded = load({"market.slots": "400"}, user_file=path, environment=environment)
    market = loaded.config.market
    assert (market.seed, market.slot_ms, market.slots) == (2, 30, 400)
    assert loaded.sources["market.seed"] == f"file {path}"
    assert loaded.sources["market.slot_ms"] == "environment PIPELINE_MARKET__SLOT_MS"
    assert loaded.sources["market.slots"] == "command line"
    assert loaded.sources["market.source"] == "default"


@pytest.mark.parametrize("how", ["argument", "PIPELINE_CONFIG", "XDG_CONFIG_HOME", "HOME"])
def test_where_the_user_file_may_stand(tmp_path: Path, how: str) -> None:
    path = {
        "argument": tmp_path / "a.toml",
        "PIPELINE_CONFIG": tmp_path / "b.toml",
        "XDG_CONFIG_HOME": tmp_path / "pipeline" / "config.toml",
        "HOME": tmp_path / ".config" / "pipeline" / "config.toml",
    }[how]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("market.seed = 77\n")
    environment = {"PIPELINE_CONFIG": {"PIPELINE_CONFIG": str(path)}}.get(how, {how: str(tmp_path)})
    loaded = load(user_file=path, environment={}) if how == "argument" else load(environment=environment)
    assert loaded.config.market.seed == 77


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    assert "No such file" in refused(user_file=tmp_path / "none.toml")
    assert "No such file" in refused(environment={"PIPELINE_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize("content", [b"[nats\n", b"\xff\xfe", b"nats = 3\n", b"[nats]\nurl = 5\n", b"[[nats]]\n"])
def test_a_broken_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    assert "broken.toml" in refused(user_file=path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("nats.urll", "x", ["nats.urll", "command line", "did you mean nats.url", "connect_timeout_s"]),
        ("natz.url", "x", ["natz", "did you mean nats"]),
        ("nats.url.more", "x", ["single value"]),
        ("nats", "x", ["section", "url"]),
        ("market.seed", "-1", ["market.seed = -1", "greater than or equal to 0"]),
        ("market.seed", "many", ["market.seed", "many", "integer"]),
        ("market.source", "online", ["market.source", "'offline' or 'recorded'"]),
        ("streams.replicas", "9", ["streams.replicas = 9", "less than or equal to 5"]),
        ("nats.url", "http://x", ["nats.url", "embedded", "nats://host:4222"]),
        ("telemetry.otlp_endpoint", "localhost:4318", ["http://host:4318"]),
        ("worker.drain_s", "nan", ["worker.drain_s"]),
        ("worker.drain_s", "-3", ["greater than 0"]),
        ("permit.lease_ms", "110", ["lease_ms (110)", "twice renew_ms", "command line"]),
        ("quote_core.amounts", "1,2,-3", ["quote_core.amounts"]),
        ("shm.namespace", "../../etc", ["shm.namespace", "pattern"]),
        ("worker.uvloop", "perhaps", ["worker.uvloop", "perhaps", "boolean"]),
        ("executor.chain", "mainnet", ["executor.chain", "address in base58"]),
        ("executor.lookup_tables", "abc", ["executor.lookup_tables", "address in base58"]),
        ("executor.lifetime_slots", "151", ["executor.lifetime_slots", "less than or equal to 150"]),
        ("tip.min_lamports", "1000001", ["min_lamports must not be over max_lamports"]),
        ("tip.max_lamports", str(2**64), ["tip.max_lamports", "less than"]),
        ("block_engine.url", "https://host/api/v1/bundles", ["block_engine.url", "without a path"]),
        ("block_engine.tip_floor_url", "nowhere", ["block_engine.tip_floor_url", "https://host/path"]),
        ("localnet.wallet_lamports", str(2**64), ["localnet.wallet_lamports", "less than"]),
    ],
)
def test_what_is_refused_and_how(key: str, value: str, words: list[str]) -> None:
    said = refused({key: value})
    assert all(word in said for word in words), said


def test_all_problems_are_told_at_once() -> None:
    said = refused(environment={"PIPELINE_NATS__URLL": "x", "PIPELINE_MARKT__SEED": "1"})
    assert len(said.splitlines()) == 2
    said = refused({"market.seed": "-1", "market.slot_ms": "0", "streams.replicas": "0"})
    assert len(said.splitlines()) == 3


def test_an_unknown_variable_is_refused_and_the_programs_own_are_not() -> None:
    assert "PIPELINE_NATS_URL" in refused(environment={"PIPELINE_NATS_URL": "nats://x:1"})
    own = {"PIPELINE_DEBUG": "1", "PIPELINE_CRASH_AT": "", "PIPELINE_TEST_NATS_URL": "x", "PIPELINES": "x"}
    assert load_config(environment=own) == load_config(environment={})


def test_text_is_read_as_the_type_of_its_field() -> None:
    config = load_config(
        {"quote_core.amounts": "5, 6,7"},
        environment={
            "PIPELINE_WORKER__UVLOOP": "False",
            "PIPELINE_WORKER__DRAIN_S": "3",
            "PIPELINE_SUPERVISOR__WORKERS": '["market", "planner"]',
            "PIPELINE_NATS__USER": "123",
        },
    )
    assert config.quote_core.amounts == (5, 6, 7)
    assert config.worker.uvloop is False
    assert config.worker.drain_s == 3.0
    assert config.supervisor.workers == ("market", "planner")
    assert config.nats.user == "123"


def test_a_file_keeps_its_types() -> None:
    """In a file a number in quotes is no number."""
    assert "integer" in refused({"market.seed": None})
    with pytest.raises(ConfigError, match="integer"):
        load({"market": {"seed": "5"}}, environment={})


def test_it_is_frozen() -> None:
    config = load_config(environment={})
    with pytest.raises(ValueError, match="frozen"):
        config.nats.url = "nats://elsewhere:4222"


# Secrets

SECRETS = ["nats.password", "nats.token", "system_manager.token", "auditor.database_url"]


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_is_never_shown(key: str) -> None:
    loaded = load({key: "hunter22-hunter22"}, environment={})
    for text in (repr(loaded), str(loaded.config), str(list(loaded.rows())), to_toml(loaded.config)):
        assert "hunter22" not in text
    assert secrets_of(loaded.config) == {f"PIPELINE_{key.upper().replace('.', '__')}": "hunter22-hunter22"}


@pytest.mark.parametrize("key", ["nats.tokn", "nats.pasword", "nats.api_key", "system_manager.tokens", "nats.token"])
def test_a_refused_secret_is_not_shown_either(key: str) -> None:
    said = refused({key: ["hunter22"]})
    assert "hunter22" not in said
    assert key in said


def test_a_short_control_token_is_refused_without_being_shown() -> None:
    said = refused({"system_manager.token": "hunter22"})
    assert "hunter22" not in said
    assert "16 characters" in said


def test_passwords_inside_addresses_are_hidden() -> None:
    loaded = load({"nats.url": "nats://me:hunter22@host:4222"}, environment={})
    assert "hunter22" not in str(list(loaded.rows()))
    assert loaded.config.nats.shown_url == "nats://********@host:4222"
    assert "hunter22" not in refused({"nats.url": "ftp://me:hunter22@host"})
    assert hide_password("a nats://x:y@h and http://z@h") == "a nats://********@h and http://********@h"


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("hunter22\n")
    config = load_config(environment={"PIPELINE_NATS__TOKEN_FILE": str(path)})
    assert config.nats.token.get_secret_value() == "hunter22"
    assert "cannot be read" in refused(environment={"PIPELINE_NATS__TOKEN_FILE": str(tmp_path / "none")})
    assert "unknown key" in refused(environment={"PIPELINE_NATS__URL_FILE": str(path)})


# Properties


@given(st.sampled_from(NUMBERS), st.one_of(st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_a_value_is_taken_as_it_is_or_refused_by_its_key(key: str, value: object) -> None:
    problems = []
    try:
        loaded = load({key: value}, environment={})
    except ConfigError as error:
        problems = error.problems
    if problems:
        section = key.partition(".")[0]
        assert all(problem.key.partition(".")[0] == section for problem in problems)
        assert all("command line" in problem.source for problem in problems)
        return
    found = leaves(loaded.config)[key]
    assert found == (float(value) if isinstance(found, float) else int(value))
    assert loaded.sources[key] == "command line"


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_.", min_size=1, max_size=30), st.text(max_size=20))
def test_unknown_keys_never_pass(key: str, value: str) -> None:
    known = {*DEFAULTS, *{name.rpartition(".")[0] for name in DEFAULTS}}
    if key in known:
        return
    assert "unknown key" in refused({key: value}) or "section" in refused({key: value})


@given(st.dictionaries(st.sampled_from(TEXTS), st.text(max_size=40), max_size=4))
@example({"market.recorded_path": "\x7f\n\r\t\"'\\\u2028"})
def test_a_written_configuration_is_read_back_the_same(overrides: dict[str, str]) -> None:
    """What a supervisor writes for its children is what they run with."""
    try:
        loaded = load(overrides, environment={})
    except ConfigError:
        return
    text = to_toml(loaded.config)
    tomllib.loads(text)
    assert _from_text(text) == loaded.config


def _from_text(text: str) -> Config:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        return load_config(user_file=Path(file.name), environment={})


def test_rows_cover_every_key() -> None:
    loaded: Loaded = load(environment={})
    assert [key for key, _, _ in loaded.rows()] == list(DEFAULTS)


def test_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setenv("XDG_DATA_HOME", "/home/x/data")
    config = load_config({"shm.namespace": "blue"}, environment={})
    assert str(config.shm_directory) == "/dev/shm/pipeline-blue"
    assert str(config.run_directory) == "/run/user/7/pipeline-blue"
    assert str(config.data_directory) == "/home/x/data/pipeline-blue"
    assert config.database_url == "sqlite:////home/x/data/pipeline-blue/pipeline.sqlite3"
    given_url = config.auditor.model_copy(update={"database_url": SecretStr("postgresql+psycopg://u:p@h/d")})
    assert config.model_copy(update={"auditor": given_url}).database_url == "postgresql+psycopg://u:p@h/d"


def test_run_files_are_private(tmp_path: Path) -> None:
    from pipeline import run_files

    config = load_config({"worker.run_dir": str(tmp_path / "run")}, environment={})
    now = time.time_ns()
    path = run_files.write(config, run_files.RunFile("planner", os.getpid(), now, "http://127.0.0.1:1"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert run_files.read(config, "planner") == run_files.RunFile("planner", os.getpid(), now, "http://127.0.0.1:1")
    path.write_text("{")
    assert run_files.read(config, "planner") is None
    run_files.write(config, run_files.RunFile("reused", os.getpid(), 1))
    assert run_files.read(config, "reused") is None, "another process has the number now"
    run_files.write(config, run_files.RunFile("gone", 2**22 - 3, now))
    assert run_files.read(config, "gone") is None, "the process is gone"
    run_files.remove(config, "gone")
    assert (tmp_path / "run" / "gone.json").exists(), "another's file is left alone"
