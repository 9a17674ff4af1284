"""Where wallets come from, and what is said where they do not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from solders.keypair import Keypair

from markets.solana.wallets.keys import KeySigner, SigningFailed, WalletError, offline_keypair
from markets.solana.wallets.keystore import WrongPassphrase, create_keystore
from markets.solana.wallets.sealing import Derivation
from markets.solana.wallets.sources import (
    WalletSettings,
    check_signers,
    close_signers,
    open_signers,
    public_addresses,
    wallet_settings,
)
from pipeline.config import load_config

PASSPHRASE = "correct horse battery"
QUICK = Derivation(salt="", passes=1, memory_kib=8 << 10, lanes=1)
FAKE = str(Path(__file__).with_name("fake_signer.py"))


def settings_of(data: Path, **wallets: object) -> WalletSettings:
    overrides = {f"wallets.{key}": value for key, value in wallets.items()}
    config = load_config({**overrides, "worker.data_dir": str(data)}, environment={})
    return wallet_settings(config.wallets, seed=config.market.seed, data_directory=config.data_directory)


def test_the_offline_wallets_are_those_of_the_markets_seed(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, count=3)
    expected = [str(offline_keypair(1, index).pubkey()) for index in range(3)]
    assert public_addresses(settings) == expected
    assert [signer.address for signer in open_signers(settings)] == expected
    chosen = settings_of(tmp_path, count=3, addresses=[expected[2]])
    assert [signer.address for signer in open_signers(chosen)] == [expected[2]]


async def test_a_keystore_in_the_data_directory_is_the_usual_place(tmp_path: Path) -> None:
    keypairs = [Keypair(), Keypair()]
    create_keystore(tmp_path / "wallets.json", PASSPHRASE, [(one, "") for one in keypairs], derivation=QUICK)
    settings = settings_of(tmp_path, source="keystore", passphrase=PASSPHRASE)
    assert public_addresses(settings_of(tmp_path, source="keystore")) == [str(one.pubkey()) for one in keypairs]
    signers = open_signers(settings)
    await check_signers(signers)
    assert [signer.address for signer in signers] == [str(one.pubkey()) for one in keypairs]
    assert PASSPHRASE not in repr(settings)
    with pytest.raises(WrongPassphrase):
        open_signers(settings_of(tmp_path, source="keystore", passphrase="another passphrase"))


@pytest.mark.parametrize("form", ["base58", "json", "both"])
def test_keys_of_the_environment(tmp_path: Path, form: str) -> None:
    first, second = Keypair(), Keypair()
    text = {
        "base58": f"{first} {second}",
        "json": f"{json.dumps(list(bytes(first)))}\n{json.dumps(list(bytes(second)))}",
        "both": f"  {json.dumps(list(bytes(first)))} {second}\n",
    }[form]
    settings = settings_of(
        tmp_path, source="environment", keys=text, addresses=[str(second.pubkey()), str(first.pubkey())]
    )
    assert [signer.address for signer in open_signers(settings)] == [str(second.pubkey()), str(first.pubkey())]
    assert str(first) not in repr(settings)


def test_a_key_that_is_none_is_counted_and_not_repeated(tmp_path: Path) -> None:
    address = str(Keypair().pubkey())
    settings = settings_of(tmp_path, source="environment", keys=f"{Keypair()} hunter22hunter22", addresses=[address])
    with pytest.raises(WalletError, match="key 2 of 2 in PIPELINE_WALLETS__KEYS") as caught:
        open_signers(settings)
    assert "hunter" not in str(caught.value)


async def test_a_program_signs_for_the_named_wallets(tmp_path: Path) -> None:
    keypair = Keypair()
    keys = tmp_path / "keys"
    keys.write_text(str(keypair))
    command = [sys.executable, FAKE, str(keys)]
    good = open_signers(settings_of(tmp_path, source="command", command=command, addresses=[str(keypair.pubkey())]))
    await check_signers(good)
    await close_signers(good)
    other = open_signers(settings_of(tmp_path, source="command", command=command, addresses=[str(Keypair().pubkey())]))
    with pytest.raises(SigningFailed, match="no such key"):
        await check_signers(other)
    await close_signers(other)


@pytest.mark.parametrize("source", ["environment", "command"])
def test_sources_that_cannot_tell_their_addresses_need_them_named(tmp_path: Path, source: str) -> None:
    with pytest.raises(WalletError, match=r"wallets\.addresses is empty"):
        public_addresses(settings_of(tmp_path, source=source, keys=str(Keypair())))


@pytest.mark.parametrize(
    ("wallets", "words"),
    [
        ({"source": "keystore"}, "pipeline wallet new"),
        ({"source": "command", "addresses": [str(Keypair().pubkey())]}, r"wallets\.command is empty"),
        ({"source": "environment", "addresses": [str(Keypair().pubkey())]}, "PIPELINE_WALLETS__KEYS_FILE"),
        ({"addresses": [str(Keypair().pubkey())]}, "holds no wallet"),
        (
            {"source": "environment", "addresses": [str(Keypair().pubkey())], "keys": str(Keypair())},
            "there is no key for",
        ),
        ({"source": "command", "addresses": [str(Keypair().pubkey()) for _ in range(17)]}, "too many"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, wallets: dict[str, object], words: str) -> None:
    with pytest.raises(WalletError, match=words):
        open_signers(settings_of(tmp_path, **wallets))


def test_a_key_in_the_place_of_an_address_is_not_repeated(tmp_path: Path) -> None:
    keypair = Keypair()
    with pytest.raises(WalletError) as caught:
        settings_of(tmp_path, addresses=[str(keypair)])
    assert str(keypair) not in str(caught.value)
    address = str(keypair.pubkey())
    with pytest.raises(WalletError, match="twice"):
        settings_of(tmp_path, addresses=[address, address])


async def test_a_signer_that_signs_with_another_key_is_found_out() -> None:
    class Wrong:
        address = str(Keypair().pubkey())

        async def sign(self, message: bytes) -> bytes:
            return await KeySigner(Keypair()).sign(message)

    with pytest.raises(SigningFailed, match="not its key"):
        await check_signers([Wrong()])
