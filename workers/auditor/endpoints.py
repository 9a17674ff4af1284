"""Where the chain is: the offline one's address from the run directory, or the configured endpoints."""

from __future__ import annotations

from collections.abc import Callable

from markets.solana.rpc.endpoint import EndpointSettings
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import PoolSettings
from pipeline import run_files
from pipeline.config import Config
from pipeline.errors import UsageFailure

RUN_FILE = "localnet"
# The offline chain is on this machine: it limits nothing but by its faults.
_OFFLINE_RATE, _OFFLINE_BURST = 10_000.0, 1_000


class Endpoints:
    """The endpoints of the chain that the mode means."""

    def __init__(self, config: Config) -> None:
        """Know where to look."""
        self._config = config
        self._offline = config.executor.mode == "localnet"

    def now(self) -> tuple[str, ...]:
        """Return the addresses; none while the offline chain is not there."""
        if self._offline:
            entry = run_files.read(self._config, RUN_FILE)
            return (entry.url,) if entry is not None and entry.url else ()
        text = self._config.rpc.endpoints.get_secret_value().replace(",", " ")
        return tuple(part for part in text.split() if not part.startswith("ws"))

    def instance(self) -> str:
        """Return what tells an offline chain from the one that the same seed began before it; empty for others."""
        entry = run_files.read(self._config, RUN_FILE) if self._offline else None
        return f"@{entry.started_ns}" if entry is not None else ""

    def open(self, urls: tuple[str, ...], counted: Callable[[bool], None] | None = None) -> RpcPool:
        """Return a pool over these endpoints that reads what is final; `counted` is told of each call if it failed.

        Raises:
            UsageFailure: if one is no address. It does not say which: addresses hold keys.
        """
        section = self._config.rpc
        rate, burst = (_OFFLINE_RATE, _OFFLINE_BURST) if self._offline else (section.rate_per_s, section.burst)
        try:
            endpoints = [EndpointSettings(url, "", rate, burst) for url in urls]
        except ValueError as error:
            raise UsageFailure(f"rpc.endpoints: {error}", "look at PIPELINE_RPC__ENDPOINTS") from None
        settings = PoolSettings(
            timeout_s=section.timeout_s,
            deadline_s=section.deadline_s,
            attempts=max(section.attempts, 6),
            commitment="finalized",
            max_lag_slots=section.max_lag_slots,
        )
        return RpcPool(endpoints, settings, counted=counted)
