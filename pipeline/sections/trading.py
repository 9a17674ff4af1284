"""Executing on a chain: the executor, its wallets, the block engine and the tip."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.sections.base import Address, AddressOrNone, Amount, Natural, Positive, Ratio, Seconds, Section


class ExecutorSection(Section):
    """The executor."""

    mode: Literal["paper", "localnet", "live"]
    chain: AddressOrNone
    max_in_flight: Positive
    paper_landing_slots: Natural
    paper_seed: Natural
    paper_drop_ratio: Ratio
    landing_timeout_s: Seconds
    simulate: bool
    route: Literal["bundle", "both", "rpc"]
    fallback_slots: Positive
    commitment: Literal["processed", "confirmed", "finalized"]
    lifetime_slots: Annotated[int, Field(ge=10, le=150)]
    rebroadcast_ms: Positive
    confirm_timeout_s: Seconds
    compute_margin_ratio: Ratio
    priority_percentile: Annotated[int, Field(ge=0, le=100)]
    max_micro_lamports: Amount
    lookup_tables: tuple[Address, ...]


class TipSection(Section):
    """What a block engine is offered."""

    profit_ratio: Ratio
    min_lamports: Amount
    max_lamports: Amount
    floor_percentile: Literal[25, 50, 75, 95, 99]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        """Refuse a range without a value."""
        if self.min_lamports > self.max_lamports:
            raise ValueError("min_lamports must not be over max_lamports")
        return self


class WalletsSection(Section):
    """Who signs. Secrets come from the environment or from files, never from the command line."""

    source: Literal["localnet", "keystore", "environment", "command"]
    count: Annotated[int, Field(ge=1, le=16)]
    keystore: str
    passphrase: SecretStr
    keys: SecretStr
    command: tuple[str, ...]
    # Checked by who opens wallets: a refusal here would repeat the value, and somebody may have put a key in its place.
    addresses: tuple[str, ...]
    lane_plans: Positive
    min_lamports: Amount
    upkeep: bool


class BlockEngineSection(Section):
    """The block engine that bundles go to."""

    url: SecretStr
    tip_floor_url: str
    auth: SecretStr
    timeout_s: Seconds
    rate_per_s: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
    burst: Positive

    @field_validator("url")
    @classmethod
    def _http(cls, url: SecretStr) -> SecretStr:
        """Accept an HTTP address without a path, or nothing."""
        if url.get_secret_value() and re.fullmatch(r"https?://[^\s/?#]+/?", url.get_secret_value()) is None:
            raise ValueError("must be empty or an address without a path, like https://host")
        return url

    @field_validator("tip_floor_url")
    @classmethod
    def _http_floor(cls, url: str) -> str:
        """Accept an HTTP address, or nothing."""
        if url and re.fullmatch(r"https?://[^\s]+", url) is None:
            raise ValueError("must be empty or an address like https://host/path")
        return url
