"""Secrets in the way of people: shown nowhere, also where they were put in a wrong place or something failed."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from solders.keypair import Keypair

from markets.solana.wallets.keys import InvalidKey, read_keypair
from markets.solana.wallets.sources import wallet_settings
from pipeline import logs
from pipeline.cli import main
from pipeline.config import ConfigError, forget_secrets, load, load_config, to_toml

KEY = Keypair()
ARRAY = json.dumps(list(bytes(KEY)))
SECRETS = {
    "PIPELINE_WALLETS__KEYS": f"{KEY} {ARRAY}",
    "PIPELINE_WALLETS__PASSPHRASE": "correct-horse-battery-4711",
    "PIPELINE_BLOCK_ENGINE__AUTH": "jito-auth-0815-0815",
    "PIPELINE_BLOCK_ENGINE__URL": "https://path-key-9999.engine.example",
    "PIPELINE_RPC__ENDPOINTS": "https://one.example/?api-key=key-1111 wss://one.example/key-2222",
}
WORDS = [str(KEY), ARRAY, "correct-horse", "jito-auth", "path-key", "key-1111", "key-2222"]


def seen(text: str) -> list[str]:
    return [word for word in WORDS if word in text]


def test_the_configuration_shows_none_of_them() -> None:
    loaded = load(environment=SECRETS)
    assert seen(repr(loaded) + str(loaded.config) + to_toml(loaded.config)) == []
    assert seen("\n".join(" ".join(row) for row in loaded.rows())) == []
    settings = wallet_settings(loaded.config.wallets, seed=1, data_directory=Path())
    assert seen(repr(settings)) == []
    assert settings.keys.get_secret_value().startswith(str(KEY))


@pytest.mark.parametrize(
    "environment",
    [
        {"PIPELINE_WALLETS__KEY": str(KEY)},
        {"PIPELINE_WALLETS__PASSPHRAS": "correct-horse-battery-4711"},
        {"PIPELINE_BLOCK_ENGINE__AUTHS": "jito-auth-0815-0815"},
        {"PIPELINE_RPC__ENDPOINTS": "one.example/?api-key=key-1111"},
        {"PIPELINE_BLOCK_ENGINE__URL": "path-key-9999.engine.example"},
        # The secret itself where a file should be named that holds it.
        {"PIPELINE_WALLETS__KEYS_FILE": str(KEY)},
        {"PIPELINE_WALLETS__KEYS_FILE": f"{ARRAY}\0"},
        {"PIPELINE_WALLETS__PASSPHRASE_FILE": "correct-horse-battery-4711"},
        {"PIPELINE_RPC__ENDPOINTS_FILE": "https://one.example/?api-key=key-1111"},
    ],
)
def test_a_misspelt_or_wrong_secret_is_refused_and_not_repeated(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environment=environment)
    assert seen(str(caught.value) + repr(caught.value)) == []


def test_logs_hide_each_of_several_secrets_in_one_value() -> None:
    config = load_config({"telemetry.log_level": "debug"}, environment=SECRETS)
    out = StringIO()
    before = logging.getLogger().handlers
    try:
        log = logs.configure(config, worker="executor", stream=out)
        for word in (str(KEY), ARRAY, "https://one.example/?api-key=key-1111", "wss://one.example/key-2222"):
            log.warning(f"something about {word} failed", cause=f"with {word}", more=[word], most={"a": word})
            logging.getLogger("pipeline.wallets").error("and %s once more", word)
            try:
                raise ValueError(word)
            except ValueError:
                log.exception("it was raised")
    finally:
        logging.getLogger().handlers = before
    assert out.getvalue().count("\n") == 12
    assert seen(out.getvalue()) == []


def test_what_was_read_is_removed_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("jito-auth-0815-0815")
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIPELINE_BLOCK_ENGINE__AUTH")
    monkeypatch.setenv("PIPELINE_BLOCK_ENGINE__AUTH_FILE", str(tmp_path / "auth"))
    handle = os.memfd_create("pipeline")
    os.write(handle, b"a-token-of-nats")
    monkeypatch.setenv("PIPELINE_NATS__TOKEN_FILE", f"/proc/self/fd/{handle}")
    monkeypatch.setenv("PIPELINE_NATS__USER", "somebody")
    config = load_config()
    assert config.nats.token.get_secret_value() == "a-token-of-nats"
    assert config.block_engine.auth.get_secret_value() == "jito-auth-0815-0815"
    forget_secrets()
    kept = {name for name in os.environ if name.startswith("PIPELINE_") and not name.startswith("PIPELINE_TEST_")}
    assert kept == {"PIPELINE_NATS__USER"}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)
    said = subprocess.run(
        [sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True, text=True, check=True
    )
    assert seen(said.stdout) == []


@pytest.mark.parametrize(
    "damage",
    [lambda key: key[:-1], lambda key: key + "1", lambda key: key.replace(key[5], "0"), lambda key: f"'{key}'"],
)
def test_a_damaged_key_is_not_in_the_error(damage: Callable[[str], str]) -> None:
    for text in (str(KEY), ARRAY):
        with pytest.raises(InvalidKey) as caught:
            read_keypair(damage(text))
        assert damage(text)[:20] not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["wallet", "import", str(KEY)], "a key is no argument"),
        (["wallet", "import", "--file", str(KEY)], "what --file names cannot be read"),
        (
            ["wallet", "list", "--set", f"wallets.keys={KEY}"],
            "set PIPELINE_WALLETS__KEYS, or PIPELINE_WALLETS__KEYS_FI",
        ),
        (["status", "--set", "rpc.endpoints=https://one.example/key-1111"], "a secret is no argument"),
        (["wallet", "show", str(KEY)], "no wallet begins with these characters"),
        (["wallet", "import", "--label", str(KEY)], "a label has up to 40"),
    ],
)
def test_a_secret_among_the_arguments_is_refused_and_not_repeated(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PIPELINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIPELINE_CONFIG", os.devnull)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert words in said.err
    assert seen(said.out + said.err) == []


@pytest.mark.parametrize("arguments", [["wallet", "new"], ["worker", "executor"]])
def test_a_traceback_shows_none_of_them(tmp_path: Path, arguments: list[str]) -> None:
    """With --debug, where the passphrase is wrong and the file is damaged."""
    (tmp_path / "wallets.json").write_text('{"format": "pipeline-wallets", "version": 1}')
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PIPELINE_", "XDG_"))}
    environment |= SECRETS | {"HOME": str(tmp_path), "PIPELINE_WALLETS__SOURCE": "keystore"}
    environment |= {"PIPELINE_WORKER__DATA_DIR": str(tmp_path), "PIPELINE_WORKER__RUN_DIR": str(tmp_path / "run")}
    environment |= {"PIPELINE_EXECUTOR__MODE": "live", "PIPELINE_NATS__CONNECT_TIMEOUT_S": "0.2"}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "--debug", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode != 0
    assert len(done.stderr + done.stdout) > 50
    assert seen(done.stdout + done.stderr) == []
