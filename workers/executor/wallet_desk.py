"""What `pipeline wallet` does with keys, as plain values; it loads this by name, for it knows no venue itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from solders.keypair import Keypair

from markets.solana.wallets import WalletError, WalletSettings, public_addresses, wallet_settings
from markets.solana.wallets.keys import read_keypair
from markets.solana.wallets.keystore import (
    KeystoreDamaged,
    WrongPassphrase,
    add_wallet,
    change_passphrase,
    create_keystore,
    open_keystore,
    stored_wallets,
)
from pipeline.config import Config
from pipeline.errors import BadData, Failure, Refused, UsageFailure

__all__ = ["add", "change", "configured", "listed", "one_of", "said"]

_LONGEST_LABEL = 40
# A passphrase when it is needed: asked twice where it is a new one.
Ask = Callable[[bool], str]


def configured(config: Config) -> WalletSettings:
    """Return where the wallets of a configuration come from.

    Raises:
        Failure: if that makes no sense.
    """
    with said():
        return wallet_settings(config.wallets, seed=config.market.seed, data_directory=config.data_directory)


def listed(config: Config) -> dict[str, Any]:
    """Return the wallets as plain values: source, keystore file, and each one's address, label and use.

    Raises:
        Failure: if they cannot be known.
    """
    settings = configured(config)
    with said():
        used = public_addresses(settings)
        stored = [(one, "") for one in used] if settings.source != "keystore" else stored_wallets(settings.keystore)
    return {
        "source": settings.source,
        "keystore": str(settings.keystore) if settings.source == "keystore" else "",
        "wallets": [{"address": address, "label": label, "used": address in used} for address, label in stored],
    }


def one_of(config: Config, beginning: str) -> str:
    """Return the one wallet whose address begins so.

    Raises:
        Failure: if there is none, or more than one.
    """
    found = [one["address"] for one in listed(config)["wallets"] if one["address"].startswith(beginning)]
    if len(found) != 1:
        how_many = "no wallet begins" if not found else f"{len(found)} wallets begin"
        raise UsageFailure(f"{how_many} with these characters", "`pipeline wallet list` shows them")
    return str(found[0])


def add(config: Config, label: str, ask: Ask, key: Callable[[], str] | None = None) -> dict[str, Any]:
    """Put a key into the keystore, a new one where none is given; the file is made where there is none.

    `ask` gives the passphrase, `key` the text of a key.

    Raises:
        Failure: if nothing was written.
    """
    path = configured(config).keystore
    if len(label) > _LONGEST_LABEL or not label.isprintable():
        raise UsageFailure(f"a label has up to {_LONGEST_LABEL} printable characters")
    with said():
        there = path.exists()
        if there:
            stored_wallets(path)  # what is damaged is said before anything is asked
        keypair = Keypair() if key is None else read_keypair(key())
        passphrase = ask(not there)
        if there:
            add_wallet(path, passphrase, keypair, label)
        else:
            create_keystore(path, passphrase, [(keypair, label)])
    return {"address": str(keypair.pubkey()), "label": label, "keystore": str(path), "made": not there}


def change(config: Config, ask_old: Ask, ask_new: Ask) -> dict[str, Any]:
    """Seal the keystore under another passphrase.

    Raises:
        Failure: if nothing was changed.
    """
    path = configured(config).keystore
    with said():
        stored = stored_wallets(path)
        old = ask_old(False)
        open_keystore(path, old)  # a wrong one is said before the new one is asked
        change_passphrase(path, old, ask_new(True))
    return {"keystore": str(path), "wallets": len(stored)}


@contextmanager
def said() -> Iterator[None]:
    """Turn what wallets complain of into failures of the command line."""
    try:
        yield
    except WrongPassphrase as error:
        raise Refused(str(error), "PIPELINE_WALLETS__PASSPHRASE, or ..._FILE; without them it is asked") from None
    except KeystoreDamaged as error:
        raise BadData(str(error)) from None
    except WalletError as error:
        raise _usage(error) from None


def _usage(error: WalletError) -> Failure:
    return UsageFailure(str(error), "`pipeline wallet --help`")


def readable_key(path: Path) -> str:
    """Return the text of a key file.

    Raises:
        Failure: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        # What was given is not repeated: it may be the key itself.
        raise UsageFailure("what --file names cannot be read", "a file as `solana-keygen` writes it") from None
