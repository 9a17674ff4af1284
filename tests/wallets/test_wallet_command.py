"""`pipeline wallet` as a person meets it: files, prompts, exit codes, and the offline chain."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from markets.solana.transactions.lookup_tables import TABLE_PROGRAM
from markets.solana.wallets import sealing
from markets.solana.wallets.keys import offline_keypair
from markets.solana.wallets.keystore import stored_wallets
from pipeline.cli import main

PASSPHRASE = "correct horse battery"


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> dict[str, Any]:
        """Return its JSON."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Run = Callable[..., Done]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing configured but a keystore in a folder of its own."""
    for key in list(os.environ):
        if key.startswith(("PIPELINE_", "XDG_")):
            monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIPELINE_WORKER__DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIPELINE_WORKER__RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PIPELINE_WALLETS__SOURCE", "keystore")
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process, with the passphrase in the environment."""
    assert data.name == "data"
    # The least that is accepted: these tests are about the commands, not about argon2id.
    monkeypatch.setattr(sealing, "STANDARD", sealing.Derivation(salt="", passes=1, memory_kib=8 << 10, lanes=1))

    def run(*arguments: str, passphrase: str = PASSPHRASE, **environment: str) -> Done:
        monkeypatch.setenv("PIPELINE_WALLETS__PASSPHRASE", passphrase)
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        code = 0
        try:
            main(["wallet", *arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        written = capsys.readouterr()
        assert passphrase not in written.out + written.err
        assert "PIPELINE_WALLETS__PASSPHRASE" not in os.environ
        return Done(code, written.out, written.err)

    return run


def test_a_wallet_is_made_listed_and_joined_by_another(run: Run, data: Path) -> None:
    first = run("new", "--label", "first", "--json").said
    assert first["made"] is True
    second = run("new", "--json").said
    assert second["made"] is False
    assert [(one.address, one.label) for one in stored_wallets(data / "wallets.json")] == [
        (first["address"], "first"),
        (second["address"], ""),
    ]
    listed = run("list", "--json", "--set", f'wallets.addresses=["{second["address"]}"]').said
    assert [(one["address"], one["used"]) for one in listed["wallets"]] == [
        (first["address"], False),
        (second["address"], True),
    ]
    assert first["address"] in run("list").out


@pytest.mark.parametrize("form", ["file", "input"])
def test_a_key_is_imported_and_not_shown(
    run: Run, data: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keypair = Keypair()
    key = json.dumps(list(bytes(keypair)))
    path = tmp_path / "id.json"
    path.write_text(key)
    if form == "input":
        monkeypatch.setattr("sys.stdin", path.open())
    done = run("import", *(["--file", str(path)] if form == "file" else []), "--label", "mine")
    assert done.code == 0, done
    assert str(keypair.pubkey()) in done.out
    assert key not in done.out + done.err
    assert stored_wallets(data / "wallets.json") == [(str(keypair.pubkey()), "mine")]
    again = run("import", "--file", str(path))
    assert again.code == 2
    assert "already" in again.err


def test_the_passphrase_is_changed(run: Run, tmp_path: Path) -> None:
    run("new")
    (tmp_path / "new").write_text("another passphrase\n")
    assert run("passphrase", "--new-file", str(tmp_path / "new")).code == 0
    assert run("new").code == 4
    assert run("new", passphrase="another passphrase").code == 0


@pytest.mark.parametrize(
    ("arguments", "passphrase", "code", "words"),
    [
        (["new"], "another passphrase", 4, "does not open it"),
        (["passphrase"], "another passphrase", 4, "does not open it"),
        (["new", "--label", "x" * 41], PASSPHRASE, 2, "up to 40"),
        (["import", "--file", "/nowhere"], PASSPHRASE, 2, "cannot be read"),
        (["show"], PASSPHRASE, 2, "no Solana RPC endpoint"),
        (["show", "zzz"], PASSPHRASE, 2, "no wallet begin"),
        (["prepare", "--wrapped", "1e3"], PASSPHRASE, 2, "no amount of SOL"),
        (["prepare", "--exactly"], PASSPHRASE, 2, "--exactly needs --wrapped"),
    ],
)
def test_what_goes_wrong_has_a_message_and_an_exit_code(
    run: Run, arguments: list[str], passphrase: str, code: int, words: str
) -> None:
    assert run("new").code == 0
    done = run(*arguments, passphrase=passphrase)
    assert done.code == code, done
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_damaged_keystore_is_bad_data(run: Run, data: Path) -> None:
    run("new")
    path = data / "wallets.json"
    path.write_text(path.read_text().replace('"label": ""', '"label": "x"'))
    done = run("new")
    assert done.code == 5
    assert "checksum" in done.err


def test_without_a_keystore_the_way_to_one_is_named(run: Run) -> None:
    done = run("list")
    assert done.code == 2
    assert "pipeline wallet new" in done.err


def test_a_short_passphrase_makes_nothing(run: Run, data: Path) -> None:
    assert "at least 12" in run("new", passphrase="short").err
    assert not (data / "wallets.json").exists()


def test_a_person_is_asked_without_being_shown(data: Path, tmp_path: Path) -> None:
    """On a terminal: asked twice for a new one, and nothing of it echoed."""
    environment = {key: value for key, value in os.environ.items() if "PASSPHRASE" not in key}
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "pipeline", "wallet", "new"]
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True
    )
    os.close(follower)
    shown, answered = "", 0
    while process.poll() is None or answered < 2:
        try:
            shown += os.read(leader, 4096).decode()
        except OSError:
            break
        if shown.count(": ") > answered and answered < 2:
            answered += 1
            os.write(leader, f"{PASSPHRASE}\n".encode())
    assert process.wait(10) == 0, shown
    os.close(leader)
    assert "passphrase of the keystore" in shown
    assert PASSPHRASE not in shown
    assert len(stored_wallets(data / "wallets.json")) == 1
    assert tmp_path in data.parents


def test_without_a_terminal_nobody_is_asked(data: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if "PASSPHRASE" not in key}
    command = [sys.executable, "-m", "pipeline", "wallet", "new"]
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert "PIPELINE_WALLETS__PASSPHRASE_FILE" in done.stderr
    assert not (data / "wallets.json").exists()


# On the offline chain


def ask(node: str, method: str, *params: object) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    with urlopen(Request(node, body, {"content-type": "application/json"})) as answer:
        return json.load(answer)["result"]


def airdrop(node: str, address: str, lamports: int) -> None:
    ask(node, "requestAirdrop", address, lamports)
    for _ in range(100):
        if ask(node, "getBalance", address, {"commitment": "confirmed"})["value"]:
            return
        time.sleep(0.05)
    raise AssertionError("the airdrop did not land")


def test_a_wallet_is_prepared_once(run: Run, node: str) -> None:
    """Shown, sent, and nothing is left to do; then the rest is unwrapped."""
    wallet = run("new", "--json").said["address"]
    there = {"PIPELINE_RPC__ENDPOINTS": node, "PIPELINE_RPC__RATE_PER_S": "1000", "PIPELINE_RPC__BURST": "1000"}
    poor = run("prepare", "--wrapped", "2.5", "--yes", **there)
    assert poor.code == 4
    assert "nothing was sent" in poor.err
    airdrop(node, wallet, 4_000_000_000)

    # Ready for live mode, its endpoint is one of another chain than the one that is meant: mainnet.
    other = run("prepare", "--wrapped", "2.5", "--yes", "--set", "executor.mode=live", **there)
    assert other.code == 4
    assert "executor.chain means 5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d; nothing was sent" in other.err
    lacking = run("prepare", "--wrapped", "2.5", "--json", **there).said["wallets"][0]
    assert lacking["short"] == 0
    assert [step["does"].split(" ")[0] for step in lacking["steps"]] == ["open", "open", "wrap"]
    assert lacking["tokens"] == {}
    assert ask(node, "getBalance", wallet, {"commitment": "processed"})["value"] == 4_000_000_000

    sent = run("prepare", "--wrapped", "2.5", "--yes", "--json", **there).said
    assert sent["sent"] == 3
    assert sent["wallets"][0]["steps"] == []
    held = run("show", wallet[:8], "--json", **there).said["wallets"][0]
    assert held["tokens"].pop("So11111111111111111111111111111111111111112") == 2_500_000_000
    assert set(held["tokens"].values()) == {0}
    assert "no account" not in run("show", **there).out

    again = run("prepare", "--wrapped", "2.5", "--yes", **there)
    assert again.code == 0
    assert "nothing is missing" in again.out
    done = run("prepare", "--wrapped", "1", "--exactly", "--yes", "--json", **there).said
    after = done["wallets"][0]
    assert after["tokens"]["So11111111111111111111111111111111111111112"] == 1_000_000_000
    assert after["lamports"] > held["lamports"] + 1_499_000_000


@pytest.mark.slow
def test_pools_that_were_found_come_into_lookup_tables(run: Run, node: str, data: Path) -> None:
    wallet = run("new", "--json").said["address"]
    there = {"PIPELINE_RPC__RATE_PER_S": "1000", "PIPELINE_RPC__BURST": "1000", "PIPELINE_DISCOVERY__MAX_POOLS": "6"}

    def prepare(*more: str) -> dict[str, Any]:
        return run("prepare", "--tables", "--json", *more, PIPELINE_RPC__ENDPOINTS=node, **there).said

    assert "pipeline pools discover" in prepare()["notes"][0]
    airdrop(node, wallet, 4_000_000_000)
    found = subprocess.run(
        [sys.executable, "-m", "pipeline", "pools", "discover"],
        env={**os.environ, **there, "PIPELINE_RPC__ENDPOINTS": node},
        capture_output=True,
        check=False,
    )
    assert found.returncode == 0, found
    steps = [step["does"] for step in prepare()["wallets"][0]["steps"]]
    added = sum(int(step.split(" ")[1]) for step in steps if step.startswith("add"))
    assert added > 30
    done = prepare("--yes")
    assert done["wallets"][0]["steps"] == []
    options = {"encoding": "base64", "filters": [{"memcmp": {"offset": 22, "bytes": wallet}}]}
    tables = ask(node, "getProgramAccounts", TABLE_PROGRAM, {**options, "commitment": "confirmed"})
    pools = json.loads((data / "pools.json").read_text())["pools"]
    held = b"".join(base64.b64decode(table["account"]["data"][0])[56:] for table in tables)
    assert len(held) == 32 * added
    assert all(bytes(Pubkey.from_string(pool["address"])) in held for pool in pools)


def test_the_offline_wallets_lack_nothing(run: Run, node: str) -> None:
    there = {"PIPELINE_RPC__ENDPOINTS": node, "PIPELINE_WALLETS__SOURCE": "localnet"}
    found = run("prepare", "--json", **there).said
    assert [one["address"] for one in found["wallets"]] == [str(offline_keypair(1, at).pubkey()) for at in (0, 1)]
    assert [one["steps"] for one in found["wallets"]] == [[], []]
    assert found["mainnet"] is False


def test_no_answer_is_told_with_the_host_alone(run: Run) -> None:
    run("new")
    done = run("show", PIPELINE_RPC__ENDPOINTS="http://127.0.0.1:9/?api-key=hunter22hunter22")
    assert done.code == 3
    assert "127.0.0.1:9" in done.err
    assert "hunter22" not in done.err
