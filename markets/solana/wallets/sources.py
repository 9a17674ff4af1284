"""Where wallets come from: the offline market, a keystore, the environment, or a program that signs for us."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from markets.solana.wallets.command import CommandSigner, SignerProgram
from markets.solana.wallets.keys import (
    KeySigner,
    Signer,
    SigningFailed,
    WalletError,
    checked_address,
    offline_keypair,
    read_keypair,
    verify,
)
from markets.solana.wallets.keystore import open_keystore, stored_wallets

__all__ = [
    "WalletSettings",
    "WalletSource",
    "check_signers",
    "close_signers",
    "open_signers",
    "public_addresses",
    "wallet_settings",
]

WalletSource = Literal["localnet", "keystore", "environment", "command"]
KEYSTORE_FILE = "wallets.json"
_MOST_WALLETS = 16
# A JSON array with its spaces, or a word.
_KEY = re.compile(r"\[[^\]]*\]|\S+")
# No transaction's message: a serialised one begins with how many signatures it needs, and this would ask for 112.
_PROBE = b"pipeline asks whether this wallet signs; this is no transaction"


class Secret(Protocol):
    """A text that does not show itself, such as pydantic's SecretStr."""

    def get_secret_value(self) -> str:
        """Return the text."""
        ...


class WalletsSection(Protocol):
    """The section [wallets] of the configuration, as far as it is needed here."""

    @property
    def source(self) -> WalletSource:
        """Return where the wallets come from."""
        ...

    @property
    def count(self) -> int:
        """Return how many offline wallets there are."""
        ...

    @property
    def keystore(self) -> str:
        """Return the keystore's file; empty for the usual place."""
        ...

    @property
    def passphrase(self) -> Secret:
        """Return the keystore's passphrase."""
        ...

    @property
    def keys(self) -> Secret:
        """Return the keys of the source "environment"."""
        ...

    @property
    def command(self) -> tuple[str, ...]:
        """Return the program that signs, and its arguments."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return which wallets are used; empty for all."""
        ...


@dataclass(frozen=True, slots=True)
class WalletSettings:
    """Where the wallets come from, and which of them are used."""

    source: WalletSource
    count: int
    seed: int
    """of the offline market, whose wallets are made from it"""
    keystore: Path
    command: tuple[str, ...]
    addresses: tuple[str, ...]
    passphrase: Secret = field(repr=False)
    keys: Secret = field(repr=False)


def wallet_settings(section: WalletsSection, *, seed: int, data_directory: Path) -> WalletSettings:
    """Return the settings of the section [wallets]; `seed` is that of the market.

    Raises:
        WalletError: if one of its addresses is none, or stands there twice.
    """
    addresses = tuple(checked_address(text) for text in section.addresses)
    if len(set(addresses)) != len(addresses):
        raise WalletError("wallets.addresses names a wallet twice")
    return WalletSettings(
        source=section.source,
        count=section.count,
        seed=seed,
        keystore=Path(section.keystore).expanduser() if section.keystore else data_directory / KEYSTORE_FILE,
        command=section.command,
        addresses=addresses,
        passphrase=section.passphrase,
        keys=section.keys,
    )


def public_addresses(settings: WalletSettings) -> list[str]:
    """Return the addresses of the wallets that are used, in their order; needs no secret.

    Raises:
        WalletError: if they cannot be known without one (then wallets.addresses must name them), or a named wallet is
            not there.
    """
    match settings.source:
        case "localnet":
            offline = [str(offline_keypair(settings.seed, index).pubkey()) for index in range(settings.count)]
            return _chosen(dict.fromkeys(offline), settings.addresses, "the offline market")
        case "keystore":
            stored = dict.fromkeys(wallet.address for wallet in stored_wallets(settings.keystore))
            return _chosen(stored, settings.addresses, str(settings.keystore))
        case _:
            if not settings.addresses:
                raise WalletError(
                    f'wallets.addresses is empty: with wallets.source = "{settings.source}" it must name the wallets'
                )
            return list(settings.addresses)


def open_signers(settings: WalletSettings) -> list[Signer]:
    """Return a signer for each wallet that is used, in the order of `public_addresses`.

    A signer command is not started before the first signature; `close_signers` ends it.

    Raises:
        WalletError: if a secret is missing or wrong, or a named wallet is not there.
    """
    wanted = public_addresses(settings)
    if not wanted:
        raise WalletError("there is no wallet: `pipeline wallet new` makes one")
    if len(wanted) > _MOST_WALLETS:
        raise WalletError(f"{len(wanted)} wallets are too many: name up to {_MOST_WALLETS} in wallets.addresses")
    if settings.source == "command":
        if not settings.command:
            raise WalletError('wallets.command is empty: with wallets.source = "command" it must name a program')
        program = SignerProgram(settings.command)
        return [CommandSigner(program, address) for address in wanted]
    held: dict[str, Signer] = {signer.address: signer for signer in _held(settings)}
    if missing := [address for address in wanted if address not in held]:
        raise WalletError(f"there is no key for {missing[0]}, which wallets.addresses names")
    return [held[address] for address in wanted]


async def check_signers(signers: Sequence[Signer]) -> None:
    """Have every wallet sign a text that is no transaction.

    Raises:
        SigningFailed: if one does not, or what it gives is no signature of its address.
    """
    for signer in signers:
        if not verify(signer.address, _PROBE, await signer.sign(_PROBE)):
            raise SigningFailed(f"what wallet {signer.address} signs with is not its key")


async def close_signers(signers: Sequence[Signer]) -> None:
    """End the signer command, where there is one."""
    for program in {signer.program for signer in signers if isinstance(signer, CommandSigner)}:
        await program.close()


def _held(settings: WalletSettings) -> list[KeySigner]:
    """Return the signers whose keys are in this process."""
    match settings.source:
        case "localnet":
            return [KeySigner(offline_keypair(settings.seed, index)) for index in range(settings.count)]
        case "keystore":
            return list(open_keystore(settings.keystore, settings.passphrase.get_secret_value()))
        case _:
            return _from_keys(settings.keys.get_secret_value())


def _from_keys(text: str) -> list[KeySigner]:
    words = _KEY.findall(text)
    if not words:
        raise WalletError("there are no keys: set PIPELINE_WALLETS__KEYS, or PIPELINE_WALLETS__KEYS_FILE to a file")
    signers = []
    for at, word in enumerate(words, 1):
        try:
            signers.append(KeySigner(read_keypair(word)))
        except WalletError as error:
            raise WalletError(f"key {at} of {len(words)} in PIPELINE_WALLETS__KEYS: {error}") from None
    return signers


def _chosen(there: Mapping[str, None], named: Sequence[str], where: str) -> list[str]:
    if missing := [address for address in named if address not in there]:
        raise WalletError(f"{where} holds no wallet {missing[0]}, which wallets.addresses names")
    return list(named or there)
