"""Sections of the quote core's oracles, routes and services."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.sections.base import FeedId, Port, Positive, Seconds, Section, is_loopback


class OracleSection(Section):
    """Prices by oracles: where they come from, and how old and uncertain they may be."""

    sol_feed: FeedId
    usdc_feed: FeedId
    pyth_accounts: bool
    pyth_program: str
    pyth_push_program: str
    hermes_url: SecretStr
    hermes_key: SecretStr
    poll_ms: Annotated[int, Field(ge=100, le=600_000)]
    timeout_ms: Annotated[int, Field(ge=10, le=60_000)]
    max_age_s: Seconds
    max_interval_bps: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
    rate_max_age_s: Seconds

    @field_validator("hermes_url")
    @classmethod
    def _http(cls, url: SecretStr) -> SecretStr:
        """Accept an HTTP address, or nothing."""
        if url.get_secret_value() and not url.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must be empty (not asked) or an address like https://host")
        return url


class RoutesSection(Section):
    """Where routes are kept."""

    hot: Annotated[int, Field(ge=16, le=1_000_000)]
    redis_url: SecretStr
    redis_keep_s: Positive
    timeout_ms: Annotated[int, Field(ge=10, le=60_000)]


class ServeSection(Section):
    """Quotes served to others: which ways, and how much of it."""

    nats: bool
    grpc: bool
    grpc_host: str
    grpc_port: Port
    grpc_token: SecretStr
    grpc_max_message_bytes: Annotated[int, Field(ge=4096, le=16 << 20)]
    remember_ms: Annotated[int, Field(ge=1, le=60_000)]
    local_ms: Annotated[int, Field(ge=1, le=10_000)]
    external_ms: Annotated[int, Field(ge=1, le=10_000)]
    max_pairs: Annotated[int, Field(ge=1, le=4096)]
    max_waiting: Positive
    max_subscriptions: Positive
    lease_s: Seconds
    window: Annotated[int, Field(ge=1, le=65_536)]
    interval_ms: Annotated[int, Field(ge=0, le=60_000)]

    @field_validator("grpc_token")
    @classmethod
    def _long_enough(cls, token: SecretStr) -> SecretStr:
        """Accept no token, or one that cannot be guessed."""
        if token.get_secret_value() and len(token.get_secret_value()) < 16:
            raise ValueError("must have at least 16 characters, or be empty: then none is asked for")
        return token

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        """Ask for a token where others than this host's users can reach the port."""
        if self.grpc_host != "localhost" and not is_loopback(self.grpc_host) and not self.grpc_token.get_secret_value():
            raise ValueError("grpc_host is no loopback address: then serve.grpc_token must be set")
        return self
