"""Discovery as the configuration wants it, for the quote core and for `pipeline pools`, which loads this by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markets.solana.discovery import Found, FoundPool, LeftOut, Limits, Progress
from markets.solana.pool_cache import CacheRefused, load
from markets.solana.pool_finder import PoolFinder
from markets.solana.rpc.accounts import Malformed
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.venues import VENUES
from markets.tokens import load_registry
from pipeline.clock import wall_ns
from pipeline.config import Config
from pipeline.errors import BadData, Unreachable
from pipeline.messages import Protocol
from pipeline.sections.discovery import DiscoverySection
from workers.quote_core.rpc_client import open_rpc


def limits_of(section: DiscoverySection) -> Limits:
    """Return which pools are worth following."""
    return Limits(
        protocols=tuple(Protocol[name.upper()] for name in section.protocols) or tuple(VENUES),
        min_sol=section.min_sol,
        min_usdc=section.min_usdc,
        max_pools=section.max_pools,
        max_pools_per_pair=section.max_pools_per_pair,
        parallel=section.parallel,
    )


def pools_file(config: Config) -> Path:
    """Return where the list of pools is kept."""
    return config.data_directory / "pools.json"


def discover(config: Config, progress: Progress | None = None) -> dict[str, Any]:
    """Look for pools now, write the file, and return what was found as plain values.

    Raises:
        Failure: if no endpoint is configured, or none answered anything.
    """
    return asyncio.run(_discover(config, progress))


async def _discover(config: Config, progress: Progress | None) -> dict[str, Any]:
    async with open_rpc(config.rpc) as rpc:
        try:
            chain = await rpc.call("getGenesisHash", read=_text)
        except RpcError as error:
            raise Unreachable(f"no RPC endpoint answers: {error}", "look at PIPELINE_RPC__ENDPOINTS") from None
        finder = finder_of(config, rpc)
        notes = finder.recall(chain)
        looked = await finder.look(chain, notes, progress)
    found = looked.found
    if not found.slot:
        raise Unreachable(f"no question was answered, such as {found.failed[0]}", "look at PIPELINE_RPC__ENDPOINTS")
    return {
        **_document(found, pools_file(config)),
        "chain": chain,
        "added": [_plain(pool) for pool in looked.changes.added],
        "gone": [_plain(pool) for pool in looked.changes.gone],
        "notes": list(looked.notes),
    }


def finder_of(config: Config, rpc: RpcPool, clock: Callable[[], int] = wall_ns) -> PoolFinder:
    """Return the finder over a client."""
    section = config.discovery
    return PoolFinder(
        rpc,
        load_registry(),
        limits_of(section),
        pools_file(config),
        refresh_s=section.refresh_s,
        clock=clock,
    )


def remembered(config: Config) -> dict[str, Any] | None:
    """Return what the file tells as plain values, whatever chain and limits it is of; None where there is none.

    Raises:
        BadData: if it is damaged.
    """
    path = pools_file(config)
    try:
        return _document(load(path), path)
    except CacheRefused as refusal:
        if refusal.reason == "missing":
            return None
        raise BadData(str(refusal), "`pipeline pools discover` writes it anew") from None


def _document(found: Found, path: Path) -> dict[str, Any]:
    return {
        "file": str(path),
        "slot": found.slot,
        "found_ns": found.found_ns,
        "pools": [_plain(pool) for pool in found.pools],
        "left_out": [_plain(pool) for pool in found.left_out],
        "reasons": dict(found.reasons),
        "failed": list(found.failed),
    }


def _plain(pool: FoundPool | LeftOut) -> dict[str, Any]:
    return {**asdict(pool), "protocol": pool.protocol.name.lower()}


def _text(result: Any) -> str:
    if not isinstance(result, str) or not 1 <= len(result) <= 64:
        raise Malformed("it is no text")
    return result
