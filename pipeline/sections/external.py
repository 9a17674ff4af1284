"""The sections about quotes of external providers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.sections.base import Natural, Port, Positive, Ratio, Seconds, Section

Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
# Both directions of a pair are asked at once: a bucket of one token would never hold enough for that.
Burst = Annotated[int, Field(ge=2, le=1000)]


class ProviderSection(Section):
    """One provider."""

    enabled: bool
    url: str
    api_key: SecretStr
    rate_per_s: Rate
    burst: Burst

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        """Accept an HTTP address."""
        if not url.startswith(("http://", "https://")) or "@" in url or "?" in url:
            raise ValueError("must be an address like https://host, without user, password and query")
        return url.rstrip("/")


class SimulatedProvidersSection(Section):
    """The simulated providers of the offline market."""

    url: str
    host: str
    port: Port
    fault_ratio: Ratio
    rate_per_s: Rate
    burst: Burst


class ExternalSection(Section):
    """Quotes of external providers."""

    enabled: bool
    source: Literal["simulated", "live"]
    pairs: tuple[str, ...]
    amounts: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=16)]
    fast_pairs: tuple[str, ...]
    route_ttl_s: Seconds
    price_ttl_s: Seconds
    fast_ttl_s: Seconds
    move_bps: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
    again_s: Seconds
    again_max_s: Seconds
    slippage_bps: Annotated[int, Field(ge=0, le=10_000)]
    timeout_ms: Annotated[int, Field(ge=10, le=60_000)]
    deadline_ms: Annotated[int, Field(ge=10, le=60_000)]
    retries: Annotated[int, Field(ge=0, le=10)]
    retry_wait_ms: Positive
    pair_gap_ms: Positive
    max_deviation_bps: Annotated[int, Field(gt=0, le=10_000)]
    max_slots_behind: Natural
    max_slots_ahead: Natural
    breaker_failures: Positive
    breaker_window: Positive
    breaker_open_s: Seconds
    breaker_open_max_s: Seconds
    jupiter_lite: ProviderSection
    jupiter_pro: ProviderSection
    dflow: ProviderSection
    raydium: ProviderSection
    simulated: SimulatedProvidersSection

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        """Refuse limits that contradict each other."""
        if self.timeout_ms > self.deadline_ms:
            raise ValueError(f"timeout_ms ({self.timeout_ms}) must not be over deadline_ms ({self.deadline_ms})")
        if self.price_ttl_s > self.route_ttl_s or self.fast_ttl_s > self.price_ttl_s:
            raise ValueError("a route outlives its price: fast_ttl_s <= price_ttl_s <= route_ttl_s")
        if self.breaker_failures > self.breaker_window:
            raise ValueError(
                f"breaker_failures ({self.breaker_failures}) must not be over breaker_window ({self.breaker_window})"
            )
        if self.again_s > self.again_max_s:
            raise ValueError("again_s must not be over again_max_s")
        if self.breaker_open_s > self.breaker_open_max_s:
            raise ValueError("breaker_open_s must not be over breaker_open_max_s")
        return self
