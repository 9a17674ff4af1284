"""Keys and what signs with them.

A `Signer` is all that the rest of the program sees of a wallet: its address, and signatures. Whatever holds the secret
never shows it: not in `repr`, not by pickling or copying, not in an error.
"""

from __future__ import annotations

import hashlib
import json
from typing import NoReturn, Protocol

import base58
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

__all__ = [
    "SECRET_LENGTH",
    "SIGNATURE_LENGTH",
    "InvalidKey",
    "KeySigner",
    "Signer",
    "SigningFailed",
    "WalletError",
    "checked_address",
    "offline_keypair",
    "read_keypair",
    "verify",
]

SECRET_LENGTH = 64
SIGNATURE_LENGTH = 64
# A key as a JSON array of 64 numbers with spaces is under 330 characters.
_MOST_KEY_CHARACTERS = 1024


class WalletError(Exception):
    """Something about wallets that a person can mend; its text holds no secret."""


class InvalidKey(WalletError):
    """Text or bytes that are no key. Says what is wrong with the form, never what was given."""


class SigningFailed(WalletError):
    """No signature was made: nothing may be sent."""


class Signer(Protocol):
    """One wallet: an address in base58, and signatures over messages."""

    @property
    def address(self) -> str:
        """Return the wallet's public address, base58."""
        ...

    async def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature over a serialised transaction message.

        Raises:
            SigningFailed: if none was made.
        """
        ...


class KeySigner:
    """A signer that holds its key in this process."""

    __slots__ = ("_keypair", "address")

    def __init__(self, keypair: Keypair) -> None:
        """Hold a key."""
        self._keypair = keypair
        self.address = str(keypair.pubkey())

    async def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over a message."""
        return bytes(self._keypair.sign_message(message))

    def __repr__(self) -> str:
        """Return the address alone."""
        return f"<signer {self.address}>"

    def __getstate__(self) -> NoReturn:
        """Refuse to be pickled or copied: that would carry the key away."""
        raise TypeError("a signer cannot be copied or pickled")

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise TypeError("a signer cannot be copied or pickled")


def offline_keypair(seed: int, index: int) -> Keypair:
    """Return the key of an offline wallet: anybody can make it from the seed, so it is worth nothing."""
    return Keypair.from_seed(hashlib.blake2b(f"offline wallet/{seed}/{index}".encode(), digest_size=32).digest())


def read_keypair(text: str) -> Keypair:
    """Return the key that stands in text: base58 of 64 bytes, or a JSON array of 64 numbers as `solana-keygen` writes.

    Raises:
        InvalidKey: if it is neither, or its public half does not belong to its secret half.
    """
    text = text.strip()
    if not text or len(text) > _MOST_KEY_CHARACTERS:
        raise InvalidKey("a key is base58 of 64 bytes, or a JSON array of 64 numbers")
    # No exception below may carry what it could not read: `from None`, and words of our own.
    try:
        raw = bytes(json.loads(text)) if text.startswith("[") else base58.b58decode(text)
    except (ValueError, TypeError, RecursionError):
        raise InvalidKey("a key is base58 of 64 bytes, or a JSON array of 64 numbers from 0 to 255") from None
    if len(raw) != SECRET_LENGTH:
        raise InvalidKey(f"a key has {SECRET_LENGTH} bytes, this one {len(raw)}")
    keypair = Keypair.from_seed(raw[:32])
    if bytes(keypair.pubkey()) != raw[32:]:
        # Not even the half that should be public is told: of a key put together the wrong way round it is the secret.
        raise InvalidKey("the second half of this key does not belong to the first, which is the secret")
    return keypair


def keypair_of(secret: bytes, *, expected: str) -> Keypair:
    """Return the key made of 32 secret bytes, whose address must be the expected one.

    Raises:
        InvalidKey: if it is another one.
    """
    keypair = Keypair.from_seed(secret)
    if str(keypair.pubkey()) != expected:
        raise InvalidKey(f"the secret half of this key does not belong to its address {expected}")
    return keypair


def checked_address(text: str) -> str:
    """Return an address if it is one: base58 of 32 bytes.

    Raises:
        WalletError: if it is not. It does not repeat what was given: that may be a key in the wrong place.
    """
    try:
        return str(Pubkey.from_string(text))
    except ValueError:
        raise WalletError(f"a text of {len(text)} characters is no address: base58 of 32 bytes is needed") from None


def verify(address: str, message: bytes, signature: bytes) -> bool:
    """Tell whether a signature over a message is one of this address."""
    if len(signature) != SIGNATURE_LENGTH:
        return False
    return Signature.from_bytes(signature).verify(Pubkey.from_string(address), message)
