"""Venues: one module per program, all of one shape (`shape.Venue`). Adding one is its module and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from markets.solana.venues import (
    marinade,
    meteora_damm_v2,
    meteora_dlmm,
    raydium_amm_v4,
    raydium_clmm,
    raydium_cpmm,
    spl_stake_pool,
    whirlpool,
)
from markets.solana.venues.shape import (
    Accounts,
    BadAccount,
    Filters,
    Instruction,
    Memcmp,
    Meta,
    Needed,
    Refresh,
    Swap,
    Venue,
)
from pipeline.messages import Protocol

_MODULES: tuple[Venue, ...] = (
    whirlpool,
    raydium_amm_v4,
    raydium_cpmm,
    raydium_clmm,
    meteora_dlmm,
    meteora_damm_v2,
    spl_stake_pool,
    marinade,
)

VENUES: Mapping[Protocol, Venue] = MappingProxyType({module.PROTOCOL: module for module in _MODULES})

__all__ = [
    "VENUES",
    "Accounts",
    "BadAccount",
    "Filters",
    "Instruction",
    "Memcmp",
    "Meta",
    "Needed",
    "Refresh",
    "Swap",
    "Venue",
]
