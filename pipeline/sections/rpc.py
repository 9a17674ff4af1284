"""Solana RPC, and the simulated node of the offline market."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.sections.base import Natural, Port, Positive, Ratio, Seconds, Section


class RpcSection(Section):
    """Solana RPC: where `quote_core.source` is "rpc"."""

    endpoints: SecretStr
    rate_per_s: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
    burst: Positive
    timeout_s: Seconds
    deadline_s: Seconds
    attempts: Annotated[int, Field(ge=1, le=20)]
    hedge_quantile: Ratio
    hedge_min_ms: Positive
    max_lag_slots: Positive
    look_s: Seconds
    breaker_failures: Annotated[int, Field(ge=1, le=100)]
    breaker_open_s: Seconds
    breaker_open_max_s: Seconds
    commitment: Literal["processed", "confirmed"]
    sockets: Annotated[int, Field(ge=0, le=8)]
    max_subscriptions: Positive
    ping_s: Seconds
    silent_s: Seconds
    batch_ms: Positive
    fast_s: Seconds
    slow_s: Seconds
    sweep_s: Seconds
    stale_s: Seconds
    fixed_s: Seconds
    keyframe_s: Annotated[float, Field(gt=0, le=240, allow_inf_nan=False)]  # shorter than MARKET_DATA keeps anything

    @field_validator("endpoints")
    @classmethod
    def _addresses(cls, endpoints: SecretStr) -> SecretStr:
        """Accept addresses of HTTP endpoints, each with the address of its websocket behind it where that differs."""
        kinds = [part.split("://")[0] for part in endpoints.get_secret_value().replace(",", " ").split()]
        if any(kind not in ("http", "https", "ws", "wss") for kind in kinds) or (kinds and kinds[0][:2] == "ws"):
            raise ValueError(
                "must be https:// addresses separated by spaces; a wss:// address belongs to the one before"
            )
        return endpoints

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        """Refuse pauses that shrink."""
        if self.breaker_open_s > self.breaker_open_max_s:
            raise ValueError("breaker_open_s must not be over breaker_open_max_s")
        return self


class LocalnetSection(Section):
    """The simulated Solana nodes of the offline market, and the chain behind them where there is one."""

    rpc_port: Port
    rpc_nodes: Annotated[int, Field(ge=0, le=8)]
    publish: bool
    rival_chance: Ratio
    wallet_lamports: Annotated[int, Field(gt=0, le=10**17)]
    wallet_wrapped: Annotated[int, Field(ge=0, le=10**17)]
    wallet_usdc: Annotated[int, Field(ge=0, le=10**17)]
    fault_seed: Natural
    fault_limited: Ratio
    fault_failed: Ratio
    fault_truncated: Ratio
    fault_slow: Ratio
    fault_slow_ms: Positive
    fault_cut: Ratio
    fault_expired_blockhash: Ratio
    fault_dropped: Ratio
    fault_late: Ratio
    fault_late_slots: Positive
    fault_bundle_lost: Ratio
    fault_fork: Ratio
    fault_fork_slots: Annotated[int, Field(ge=1, le=31)]
