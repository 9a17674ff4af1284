"""Wallets: keys, where they come from, and the lanes they trade in."""

from __future__ import annotations

from markets.solana.wallets.keys import KeySigner, Signer, SigningFailed, WalletError, offline_keypair
from markets.solana.wallets.lanes import Lane, Lanes, LaneSettings, NoLane, NoLaneReason, WalletBalance
from markets.solana.wallets.sources import (
    WalletSettings,
    check_signers,
    close_signers,
    open_signers,
    public_addresses,
    wallet_settings,
)

__all__ = [
    "KeySigner",
    "Lane",
    "LaneSettings",
    "Lanes",
    "NoLane",
    "NoLaneReason",
    "Signer",
    "SigningFailed",
    "WalletBalance",
    "WalletError",
    "WalletSettings",
    "check_signers",
    "close_signers",
    "offline_keypair",
    "open_signers",
    "public_addresses",
    "wallet_settings",
]
