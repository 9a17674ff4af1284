"""Wallets in an encrypted file.

The file is written whole or not at all, for its owner alone; who writes holds a lock on its folder, so that two at once
lose nothing. Addresses and labels can be read without the passphrase.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from solders.keypair import Keypair

from markets.solana.wallets import sealing
from markets.solana.wallets.keys import InvalidKey, KeySigner, WalletError, keypair_of
from markets.solana.wallets.sealing import Derivation, Document, KeystoreDamaged, WrongPassphrase

__all__ = [
    "SHORTEST_PASSPHRASE",
    "KeystoreDamaged",
    "Stored",
    "WrongPassphrase",
    "add_wallet",
    "change_passphrase",
    "create_keystore",
    "open_keystore",
    "stored_wallets",
]

SHORTEST_PASSPHRASE = 12
_SEED_BYTES = 32


class Stored(NamedTuple):
    """A wallet of a keystore, as far as it can be known without the passphrase."""

    address: str
    label: str


def stored_wallets(path: Path) -> list[Stored]:
    """Return the wallets of a keystore in its order; no passphrase is needed.

    Raises:
        WalletError: if there is no such file, or it is damaged.
    """
    return [Stored(wallet.address, wallet.label) for wallet in _read(path).wallets]


def open_keystore(path: Path, passphrase: str) -> list[KeySigner]:
    """Return a signer for each wallet of a keystore, in its order.

    Raises:
        WrongPassphrase: if the passphrase does not open it.
        WalletError: if there is no such file, or it is damaged.
    """
    return [KeySigner(keypair) for keypair in _open(path, _read(path), passphrase)]


def create_keystore(
    path: Path, passphrase: str, wallets: Sequence[tuple[Keypair, str]], *, derivation: Derivation | None = None
) -> None:
    """Write a new keystore with wallets and their labels.

    Raises:
        WalletError: if there is a file already, or the passphrase is too short.
    """
    path = path.resolve()
    with _locked(path):
        if path.exists():
            raise WalletError(f"{path} exists already; nothing was written")
        _write(path, passphrase, wallets, derivation)


def add_wallet(path: Path, passphrase: str, keypair: Keypair, label: str = "") -> None:
    """Add a wallet to a keystore.

    Raises:
        WrongPassphrase: if the passphrase does not open it.
        WalletError: if there is no such file, it is damaged, or it holds the wallet already.
    """
    path = path.resolve()
    with _locked(path):
        document = _read(path)
        held = _open(path, document, passphrase)
        if keypair in held:
            raise WalletError(f"{path} holds {keypair.pubkey()} already")
        labels = [wallet.label for wallet in document.wallets]
        _write(path, passphrase, [*zip(held, labels, strict=True), (keypair, label)], document.derivation)


def change_passphrase(path: Path, old: str, new: str) -> None:
    """Seal a keystore anew under another passphrase, with this program's own parameters.

    Raises:
        WrongPassphrase: if the old passphrase does not open it.
        WalletError: if there is no such file, it is damaged, or the new passphrase is too short.
    """
    path = path.resolve()
    with _locked(path):
        document = _read(path)
        held = _open(path, document, old)
        labels = [wallet.label for wallet in document.wallets]
        _write(path, new, list(zip(held, labels, strict=True)), None)


def _read(path: Path) -> Document:
    try:
        with open(path, "rb") as file:
            raw = file.read(sealing.MOST_BYTES + 1)
    except FileNotFoundError:
        raise WalletError(f"there is no keystore {path}; `pipeline wallet new` makes one") from None
    except OSError as error:
        raise WalletError(f"the keystore {path} cannot be read: {error.strerror}") from None
    if len(raw) > sealing.MOST_BYTES:
        raise KeystoreDamaged(f"{path}: it is too large for a keystore")
    try:
        return sealing.read(raw)
    except KeystoreDamaged as error:
        raise KeystoreDamaged(f"{path}: {error}") from None


def _open(path: Path, document: Document, passphrase: str) -> list[Keypair]:
    if not passphrase:
        raise WrongPassphrase(f"{path}: a passphrase is needed (PIPELINE_WALLETS__PASSPHRASE, or ..._FILE)")
    try:
        secret = sealing.unseal(document, passphrase)
        if len(secret) != _SEED_BYTES * len(document.wallets):
            raise KeystoreDamaged("it does not hold one secret for each of its addresses")
        return [
            keypair_of(secret[at * _SEED_BYTES : (at + 1) * _SEED_BYTES], expected=wallet.address)
            for at, wallet in enumerate(document.wallets)
        ]
    except (WrongPassphrase, KeystoreDamaged) as error:
        raise type(error)(f"{path}: {error}") from None
    except InvalidKey as error:
        raise KeystoreDamaged(f"{path}: {error}") from None


def _write(path: Path, passphrase: str, wallets: Sequence[tuple[Keypair, str]], derivation: Derivation | None) -> None:
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise WalletError(f"a passphrase has at least {SHORTEST_PASSPHRASE} characters; nothing was written")
    secret = b"".join(bytes(keypair)[:_SEED_BYTES] for keypair, _ in wallets)
    listed = [sealing.Wallet(str(keypair.pubkey()), label) for keypair, label in wallets]
    raw = sealing.seal(secret, listed, passphrase, derivation=derivation)
    # What is written must open: a keystore that does not is lost money.
    if sealing.unseal(sealing.read(raw), passphrase) != secret:
        raise AssertionError("a keystore that was just sealed does not open")
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise WalletError(f"the keystore {path} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder's lock: from reading the old file until the new one stands."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise WalletError(f"the folder of the keystore {path} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _sync(folder: Path) -> None:
    """Make a rename outlive a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
