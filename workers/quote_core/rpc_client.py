"""The RPC client as the configuration wants it."""

from __future__ import annotations

from collections.abc import Callable

from markets.solana.rpc.endpoint import EndpointSettings, endpoints_in
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import PoolSettings
from markets.solana.rpc.socket import SocketSettings
from markets.solana.watch.schedule import Intervals
from pipeline.errors import UsageFailure
from pipeline.sections.rpc import RpcSection


def open_rpc(section: RpcSection, counted: Callable[[bool], None] | None = None, *, chain: str = "") -> RpcPool:
    """Return the client for the configured endpoints; use it as an async context manager.

    `chain` is the genesis hash of the chain that is meant; empty: the one that most endpoints serve.

    Raises:
        UsageFailure: if none is configured, or one is no address. It does not say which: addresses hold keys.
    """
    endpoints = endpoints_of(section)
    if not endpoints:
        raise UsageFailure(
            "no Solana RPC endpoint is configured",
            "set PIPELINE_RPC__ENDPOINTS to one or more https:// addresses, or PIPELINE_RPC__ENDPOINTS_FILE to a file",
        )
    settings = PoolSettings(
        timeout_s=section.timeout_s,
        deadline_s=section.deadline_s,
        attempts=section.attempts,
        hedge_quantile=section.hedge_quantile,
        hedge_min_s=section.hedge_min_ms / 1000,
        max_lag_slots=section.max_lag_slots,
        slot_fresh_s=section.look_s * 5,
        breaker_failures=section.breaker_failures,
        breaker_window=max(10, section.breaker_failures),
        breaker_open_s=section.breaker_open_s,
        breaker_open_max_s=section.breaker_open_max_s,
        commitment=section.commitment,
        chain=chain,
    )
    return RpcPool(endpoints, settings, counted=counted)


def endpoints_of(section: RpcSection) -> list[EndpointSettings]:
    """Return the configured endpoints."""
    try:
        return endpoints_in(section.endpoints.get_secret_value(), section.rate_per_s, section.burst)
    except ValueError as error:
        raise UsageFailure(f"rpc.endpoints: {error}", "look at PIPELINE_RPC__ENDPOINTS") from None


def socket_settings(section: RpcSection) -> SocketSettings:
    """Return how websockets are held."""
    return SocketSettings(
        ping_s=section.ping_s,
        silent_s=section.silent_s,
        max_subscriptions=section.max_subscriptions,
        commitment=section.commitment,
    )


def intervals(section: RpcSection) -> Intervals:
    """Return how often pools are read."""
    return Intervals(fast_s=section.fast_s, slow_s=section.slow_s, stale_s=section.stale_s)
