"""The keystore's envelope: secrets under a passphrase, everything else authenticated in clear.

A JSON document of one version. A key is derived from the passphrase by argon2id (RFC 9106) and the secrets are sealed
with AES-256-GCM; the rest of the document, parameters and addresses, is the associated data, so none of it can be
changed without the passphrase. Salt and nonce are new with every writing. A checksum beside it tells damage from a
wrong passphrase.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import unicodedata
from typing import Annotated, Final, Literal

import msgspec
from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from markets.solana.wallets.keys import WalletError

__all__ = ["FORMAT", "MOST_BYTES", "Derivation", "Document", "KeystoreDamaged", "WrongPassphrase", "seal", "unseal"]

FORMAT: Final = "pipeline-wallets"
MOST_BYTES = 1 << 20
_VERSION: Final = 1
_KEY_BYTES = 32
_SALT_BYTES = 16
_NONCE_BYTES = 12


class KeystoreDamaged(WalletError):
    """The file is not what was written, or of a version that this program does not know."""


class WrongPassphrase(WalletError):
    """The passphrase does not open the file."""


class Derivation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of argon2id: RFC 9106's second recommendation.

    The bounds hold for what is read from a file too, so that no file makes us use more than 1 GiB and some seconds, or
    less than is safe.
    """

    salt: Annotated[str, msgspec.Meta(min_length=22, max_length=88)]
    passes: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    memory_kib: Annotated[int, msgspec.Meta(ge=8 << 10, le=1 << 20)] = 64 << 10
    lanes: Annotated[int, msgspec.Meta(ge=1, le=8)] = 4
    name: Literal["argon2id"] = "argon2id"
    version: Literal[19] = 19


STANDARD = Derivation(salt="")
"""What a new keystore is derived with; the salt is drawn for each writing."""


class Wallet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One wallet as it stands in clear."""

    address: Annotated[str, msgspec.Meta(min_length=32, max_length=44)]
    label: Annotated[str, msgspec.Meta(max_length=40)] = ""


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A keystore as it stands in its file."""

    derivation: Derivation
    nonce: Annotated[str, msgspec.Meta(min_length=16, max_length=16)]
    wallets: Annotated[list[Wallet], msgspec.Meta(max_length=64)]
    sealed: Annotated[str, msgspec.Meta(max_length=8192)] = ""
    checksum: str = ""
    format: Literal["pipeline-wallets"] = FORMAT
    version: Literal[1] = _VERSION
    cipher: Literal["aes-256-gcm"] = "aes-256-gcm"

    def header(self) -> bytes:
        """Return everything but the secrets and the checksum, in one canonical form."""
        plain = {key: value for key, value in msgspec.to_builtins(self).items() if key not in ("sealed", "checksum")}
        return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()

    def sum(self) -> str:
        """Return the checksum over all that is written."""
        return hashlib.sha256(self.header() + b"\n" + self.sealed.encode()).hexdigest()


def seal(secret: bytes, wallets: list[Wallet], passphrase: str, *, derivation: Derivation | None = None) -> bytes:
    """Return the file's bytes for a secret. `derivation` replaces the parameters, its salt is not used."""
    chosen = msgspec.structs.replace(derivation or STANDARD, salt=_text(os.urandom(_SALT_BYTES)))
    document = Document(derivation=chosen, nonce=_text(os.urandom(_NONCE_BYTES)), wallets=wallets)
    sealed = AESGCM(_derive(chosen, passphrase)).encrypt(_bytes(document.nonce), secret, document.header())
    document = msgspec.structs.replace(document, sealed=_text(sealed))
    document = msgspec.structs.replace(document, checksum=document.sum())
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def read(raw: bytes) -> Document:
    """Return a file's document; no secret is needed, and none of it is authenticated yet.

    Raises:
        KeystoreDamaged: if it is none of ours, of another version, or was damaged.
    """
    try:
        version = msgspec.json.decode(raw, type=_Versioned)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise KeystoreDamaged("it is no keystore: not a JSON document of the format pipeline-wallets") from None
    if version.version != _VERSION:
        raise KeystoreDamaged(f"it is of version {version.version}; this program reads version {_VERSION}")
    try:
        document = msgspec.json.decode(raw, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeystoreDamaged(f"it is damaged, or made with parameters that are not accepted: {error}") from None
    if document.sum() != document.checksum:
        raise KeystoreDamaged("it is damaged: its checksum does not fit. Put a copy of it in its place")
    return document


def unseal(document: Document, passphrase: str) -> bytes:
    """Return the secret.

    Raises:
        WrongPassphrase: if the passphrase does not open it.
        KeystoreDamaged: if its encoding is broken, or there is not the memory to derive the key.
    """
    try:
        nonce, sealed = _bytes(document.nonce), _bytes(document.sealed)
        key = _derive(document.derivation, passphrase)
    except ValueError:
        raise KeystoreDamaged("it is damaged: not base64 where that should stand") from None
    except HashingError as error:
        raise KeystoreDamaged(f"its key cannot be derived: {error}") from None
    try:
        return AESGCM(key).decrypt(nonce, sealed, document.header())
    except InvalidTag:
        raise WrongPassphrase("the passphrase does not open it (or somebody changed it knowingly)") from None


class _Versioned(msgspec.Struct):
    format: Literal["pipeline-wallets"]
    version: int


def _derive(derivation: Derivation, passphrase: str) -> bytes:
    # One form of every accented letter: keyboards differ in which one they send.
    secret = unicodedata.normalize("NFKC", passphrase).encode()
    return hash_secret_raw(
        secret,
        _bytes(derivation.salt),
        time_cost=derivation.passes,
        memory_cost=derivation.memory_kib,
        parallelism=derivation.lanes,
        hash_len=_KEY_BYTES,
        type=Type.ID,
        version=derivation.version,
    )


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
