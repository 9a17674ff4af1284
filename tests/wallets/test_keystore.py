"""The keystore: what opens it, what does not, and what a file cannot make us do."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair

from markets.solana.wallets import sealing
from markets.solana.wallets.keys import WalletError
from markets.solana.wallets.keystore import (
    KeystoreDamaged,
    WrongPassphrase,
    add_wallet,
    change_passphrase,
    create_keystore,
    open_keystore,
    stored_wallets,
)
from markets.solana.wallets.sealing import Derivation

PASSPHRASE = "correct horse battery"
# The least that is accepted: the tests are about the file, not about argon2id.
QUICK = Derivation(salt="", passes=1, memory_kib=8 << 10, lanes=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wallets.json"


@pytest.fixture
def keypairs(path: Path) -> list[Keypair]:
    made = [Keypair(), Keypair()]
    create_keystore(path, PASSPHRASE, [(made[0], "first"), (made[1], "")], derivation=QUICK)
    return made


def addresses(path: Path, passphrase: str = PASSPHRASE) -> list[str]:
    return [signer.address for signer in open_keystore(path, passphrase)]


async def test_what_was_put_in_comes_out_and_signs(path: Path, keypairs: list[Keypair]) -> None:
    signers = open_keystore(path, PASSPHRASE)
    assert [signer.address for signer in signers] == [str(keypair.pubkey()) for keypair in keypairs]
    assert await signers[1].sign(b"message") == bytes(keypairs[1].sign_message(b"message"))


def test_addresses_need_no_passphrase_and_the_file_shows_nothing_else(path: Path, keypairs: list[Keypair]) -> None:
    assert stored_wallets(path) == [(str(keypairs[0].pubkey()), "first"), (str(keypairs[1].pubkey()), "")]
    raw = path.read_bytes()
    for keypair in keypairs:
        seed = bytes(keypair)[:32]
        for form in (seed, base64.b64encode(seed), seed.hex().encode(), str(keypair).encode()):
            assert form not in raw
    assert PASSPHRASE.encode() not in raw
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["wallets.json"]


def test_the_default_parameters_are_those_of_the_rfc(path: Path) -> None:
    create_keystore(path, PASSPHRASE, [(Keypair(), "")])
    derivation = json.loads(path.read_text())["derivation"]
    assert (derivation["passes"], derivation["memory_kib"], derivation["lanes"]) == (3, 64 * 1024, 4)
    assert len(addresses(path)) == 1


def test_every_writing_has_a_salt_and_a_nonce_of_its_own(path: Path, keypairs: list[Keypair]) -> None:
    before = json.loads(path.read_text())
    add_wallet(path, PASSPHRASE, Keypair(), "third")
    after = json.loads(path.read_text())
    assert before["derivation"]["salt"] != after["derivation"]["salt"]
    assert before["nonce"] != after["nonce"]
    assert [wallet["label"] for wallet in after["wallets"]] == ["first", "", "third"]
    assert addresses(path)[:2] == [str(keypair.pubkey()) for keypair in keypairs]


def test_a_wrong_passphrase_says_so(path: Path, keypairs: list[Keypair]) -> None:
    with pytest.raises(WrongPassphrase, match="does not open it") as caught:
        open_keystore(path, "another passphrase")
    assert "another passphrase" not in str(caught.value)
    with pytest.raises(WrongPassphrase, match="PIPELINE_WALLETS__PASSPHRASE"):
        open_keystore(path, "")
    assert len(keypairs) == len(addresses(path))


def test_another_passphrase_opens_it_after_a_change_and_the_old_one_does_not(
    path: Path, keypairs: list[Keypair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "STANDARD", QUICK)
    change_passphrase(path, PASSPHRASE, "a new passphrase")
    assert addresses(path, "a new passphrase") == [str(keypair.pubkey()) for keypair in keypairs]
    assert stored_wallets(path)[0].label == "first"
    with pytest.raises(WrongPassphrase):
        open_keystore(path, PASSPHRASE)


def test_the_same_letters_typed_otherwise_are_the_same_passphrase(path: Path) -> None:
    create_keystore(path, "passphrase \u00e9\u00e9", [(Keypair(), "")], derivation=QUICK)
    assert addresses(path, "passphrase e\u0301e\u0301") == addresses(path, "passphrase \u00e9\u00e9")


def test_what_is_there_is_never_written_over(path: Path, keypairs: list[Keypair]) -> None:
    raw = path.read_bytes()
    for attempt, words in (
        (lambda: create_keystore(path, PASSPHRASE, [(Keypair(), "")], derivation=QUICK), "exists already"),
        (lambda: add_wallet(path, "wrong passphrase", Keypair()), "does not open it"),
        (lambda: add_wallet(path, PASSPHRASE, keypairs[0]), "holds .* already"),
        (lambda: change_passphrase(path, PASSPHRASE, "short"), "at least 12"),
        (lambda: change_passphrase(path, "wrong passphrase", "a new passphrase"), "does not open it"),
    ):
        with pytest.raises(WalletError, match=words):
            attempt()
        assert path.read_bytes() == raw
    assert os.listdir(path.parent) == ["wallets.json"]


def test_a_failed_writing_leaves_the_old_file(
    path: Path, keypairs: list[Keypair], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = path.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WalletError, match="No space left"):
        add_wallet(path, PASSPHRASE, Keypair())
    assert path.read_bytes() == raw
    assert os.listdir(path.parent) == ["wallets.json"]
    assert len(keypairs) == 2


def test_several_that_write_at_once_lose_nothing(path: Path, keypairs: list[Keypair]) -> None:
    more = [Keypair() for _ in range(6)]
    threads = [threading.Thread(target=add_wallet, args=(path, PASSPHRASE, keypair)) for keypair in more]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(addresses(path)) == {str(keypair.pubkey()) for keypair in [*keypairs, *more]}


def test_a_missing_file_names_the_command(path: Path) -> None:
    for attempt in (lambda: stored_wallets(path), lambda: add_wallet(path, PASSPHRASE, Keypair())):
        with pytest.raises(WalletError, match="pipeline wallet new"):
            attempt()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7), cut=st.booleans())
def test_damage_is_told_from_a_wrong_passphrase(
    path: Path, keypairs: list[Keypair], at: int, bit: int, cut: bool
) -> None:
    whole = path.read_bytes()
    at %= len(whole) - 1
    damaged = whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    other = path.with_name("damaged.json")
    other.write_bytes(damaged)
    try:
        opened = open_keystore(other, PASSPHRASE)
    except KeystoreDamaged:
        return
    # What may change without harm is the white space of the layout.
    assert [signer.address for signer in opened] == [str(keypair.pubkey()) for keypair in keypairs]
    assert json.loads(damaged) == json.loads(whole)


def resummed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a keystore as somebody would who knows its format and not its passphrase."""
    document = json.loads(path.read_text())
    change(document)
    decoded = sealing.msgspec.convert(document, sealing.Document)
    document["checksum"] = decoded.sum()
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["wallets"][0].update(label="mine"),
        lambda document: document["wallets"].reverse(),
        lambda document: document["wallets"][0].update(address=str(Keypair().pubkey())),
        lambda document: document["derivation"].update(passes=2),
        lambda document: document.update(nonce=base64.b64encode(b"0" * 12).decode()),
    ],
)
def test_nothing_in_clear_can_be_changed_without_the_passphrase(
    path: Path, keypairs: list[Keypair], change: Callable[[dict[str, Any]], None]
) -> None:
    resummed(path, change)
    with pytest.raises(WrongPassphrase, match="changed it knowingly"):
        open_keystore(path, PASSPHRASE)
    assert keypairs


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_kib", 100 << 20),
        ("memory_kib", 2**63),
        ("memory_kib", 8),
        ("passes", 1000),
        ("passes", 0),
        ("lanes", 64),
        ("lanes", -1),
        ("name", "argon2i"),
        ("version", 16),
        ("salt", "c2FsdA=="),
    ],
)
def test_a_file_cannot_ask_for_more_than_a_gigabyte_or_for_less_than_is_safe(
    path: Path, keypairs: list[Keypair], field: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> bytes:
        raise AssertionError("the parameters were used")

    document = json.loads(path.read_text())
    document["derivation"][field] = value
    path.write_text(json.dumps(document))
    monkeypatch.setattr(sealing, "hash_secret_raw", never)
    with pytest.raises(KeystoreDamaged, match=re.escape(f"`$.derivation.{field}`")):
        open_keystore(path, PASSPHRASE)
    assert keypairs


def test_an_unknown_version_is_named(path: Path, keypairs: list[Keypair]) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "version": 2, "something": "new"}))
    with pytest.raises(KeystoreDamaged, match="version 2; this program reads version 1"):
        stored_wallets(path)
    assert keypairs


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"[]", b"{}", b'{"version":1}', b"[" * 100_000, b" " * (2 << 20)])
def test_what_is_no_keystore_is_refused(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    with pytest.raises(KeystoreDamaged):
        stored_wallets(path)
