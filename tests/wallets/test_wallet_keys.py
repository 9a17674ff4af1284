"""Keys: where they are read from, what they sign, and what they never show."""

from __future__ import annotations

import copy
import json
import pickle

import base58
import pytest
from solders.keypair import Keypair

from markets.solana.wallets.keys import (
    InvalidKey,
    KeySigner,
    WalletError,
    checked_address,
    offline_keypair,
    read_keypair,
    verify,
)


def test_offline_wallets_are_the_same_for_the_same_seed_and_differ_otherwise() -> None:
    assert offline_keypair(1, 0) == offline_keypair(1, 0)
    assert str(offline_keypair(1, 0).pubkey()) == "6qDoaWq2u4Ns95DGFW6v6mHuUjEUsG5jMj5tymDkhoCH"
    many = {str(offline_keypair(seed, index).pubkey()) for seed in range(3) for index in range(3)}
    assert len(many) == 9


async def test_a_signature_is_one_of_its_wallet_and_its_message() -> None:
    keypair = offline_keypair(5, 0)
    signer = KeySigner(keypair)
    signature = await signer.sign(b"a message")
    assert verify(signer.address, b"a message", signature)
    assert not verify(signer.address, b"another message", signature)
    assert not verify(str(offline_keypair(5, 1).pubkey()), b"a message", signature)
    assert not verify(signer.address, b"a message", signature[:63])


@pytest.mark.parametrize("form", ["base58", "json", "json with spaces"])
def test_a_key_is_read_from_its_usual_forms(form: str) -> None:
    keypair = Keypair()
    text = {
        "base58": str(keypair),
        "json": json.dumps(list(bytes(keypair)), separators=(",", ":")),
        "json with spaces": " " + json.dumps(list(bytes(keypair))) + "\n",
    }[form]
    assert read_keypair(text) == keypair


@pytest.mark.parametrize(
    "damage", ["", "0OIl", "[1,2,3]", "[300]", "[", '["a"]', "{}", "é" * 60, "1" * 2000, "[" * 500]
)
def test_what_is_no_key_is_refused_without_being_repeated(damage: str) -> None:
    with pytest.raises(InvalidKey) as caught:
        read_keypair(damage)
    assert len(damage) < 4 or damage not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_key_whose_halves_do_not_belong_together_is_refused() -> None:
    first, second = bytes(Keypair()), bytes(Keypair())
    with pytest.raises(InvalidKey, match="does not belong"):
        read_keypair(base58.b58encode(first[:32] + second[32:]).decode())
    with pytest.raises(InvalidKey, match="does not belong") as caught:
        read_keypair(base58.b58encode(first[32:] + first[:32]).decode())
    assert base58.b58encode(first[:32]).decode() not in str(caught.value), (
        "the halves were exchanged: this is the secret"
    )


def test_an_address_is_checked_and_a_key_in_its_place_not_repeated() -> None:
    keypair = Keypair()
    assert checked_address(str(keypair.pubkey())) == str(keypair.pubkey())
    with pytest.raises(WalletError) as caught:
        checked_address(str(keypair))
    assert str(keypair) not in str(caught.value)


def test_a_signer_shows_its_address_and_gives_its_key_to_nobody() -> None:
    keypair = Keypair()
    signer = KeySigner(keypair)
    secret = bytes(keypair)[:32]
    for shown in (repr(signer), str(signer), f"{signer}", f"{signer!r}", f"{[signer]}"):
        assert signer.address in shown
        assert not any(form in shown for form in (str(keypair), secret.hex(), str(list(secret)), str(secret)))
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied"):
            take(signer)
    with pytest.raises(TypeError):
        vars(signer)
