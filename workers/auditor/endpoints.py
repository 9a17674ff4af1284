"""Where the chain is: the offline one's address from the run directory, or the configured endpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markets.solana.rpc.endpoint import EndpointSettings, endpoints_in, offline_endpoint
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import PoolSettings
from pipeline import run_files
from pipeline.config import Config
from pipeline.errors import UsageFailure
from pipeline.live import required_chain


class Endpoints:
    """The endpoints of the chain that the mode means."""

    def __init__(self, config: Config) -> None:
        """Know where to look."""
        self._config = config
        self._offline = config.executor.mode == "localnet"
        self._instance = ""

    def now(self) -> tuple[EndpointSettings, ...]:
        """Return the endpoints; none while the offline chain is not there.

        Raises:
            UsageFailure: if one is no address. It does not say which: addresses hold keys.
        """
        if self._offline:
            entry = run_files.read(self._config, run_files.OFFLINE_CHAIN)
            return (offline_endpoint(entry.url),) if entry is not None and entry.url else ()
        section = self._config.rpc
        try:
            return tuple(endpoints_in(section.endpoints.get_secret_value(), section.rate_per_s, section.burst))
        except ValueError as error:
            raise UsageFailure(f"rpc.endpoints: {error}", "look at PIPELINE_RPC__ENDPOINTS") from None

    def instance(self) -> str:
        """Return what tells an offline chain from the one that the same seed began before it; empty for others."""
        entry = run_files.read(self._config, run_files.OFFLINE_CHAIN) if self._offline else None
        if entry is not None:
            # A chain that is being stopped still answers when its run file is gone.
            self._instance = f"@{entry.started_ns}"
        return self._instance

    def open(self, endpoints: Sequence[EndpointSettings], counted: Callable[[bool], None] | None = None) -> RpcPool:
        """Return a pool over these endpoints that reads what is final; `counted` is told of each call if it failed."""
        section = self._config.rpc
        settings = PoolSettings(
            timeout_s=section.timeout_s,
            deadline_s=section.deadline_s,
            attempts=max(section.attempts, 6),
            commitment="finalized",
            max_lag_slots=section.max_lag_slots,
            chain=required_chain(self._config),
        )
        return RpcPool(endpoints, settings, counted=counted)
