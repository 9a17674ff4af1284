"""Open the venue that is a chain: wallets, endpoints and block engine as the configuration names them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from markets.limits import TokenBucket
from markets.solana.landing.engine import FLOOR_PATH, BlockEngine, EngineSettings
from markets.solana.landing.link import ChainLink
from markets.solana.landing.settings import LandingSettings
from markets.solana.landing.venue import ChainVenue
from markets.solana.rpc.endpoint import EndpointSettings, endpoints_in, offline_endpoint
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import PoolSettings
from markets.solana.wallets.keys import WalletError
from markets.solana.wallets.lanes import Lanes, LaneSettings
from markets.solana.wallets.sources import close_signers, open_signers, wallet_settings
from markets.tokens import load_registry
from pipeline import run_files
from pipeline.config import Config
from pipeline.context import WorkerContext
from pipeline.errors import UsageFailure
from pipeline.live import required_chain
from pipeline.messages import Mode
from pipeline.permit import Allowed
from workers.executor.live import confirm_live
from workers.executor.upkeep import Terms, Upkeep

_CAUSE = "chain"
_LOOK_S = 0.1
_SAY_AGAIN_S = 10.0
_AGAIN_S, _AGAIN_MAX_S = 0.1, 5.0
# Fees and blockhashes of a real chain are looked at this often; in every slot would be a waste of the rate.
_FEES_S = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chain is; the addresses may hold keys."""

    instance: str
    """Tells an offline chain from one that was there before it."""
    endpoints: tuple[EndpointSettings, ...]
    engine: EngineSettings | None


class Warnings:
    """Logs what went wrong on the way, each kind at most every so often: some of it comes with every slot."""

    def __init__(self, context: WorkerContext) -> None:
        """Log with the worker's log."""
        self._context = context
        self._said: dict[str, float] = {}

    def tell(self, words: str) -> None:
        """Log a sentence; what stands before its first colon is its kind."""
        kind, now = words.partition(":")[0], time.monotonic()
        if now - self._said.get(kind, -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
            self._said[kind] = now
            self._context.log.warning("execution", cause=words)


@asynccontextmanager
async def chain_venue(context: WorkerContext) -> AsyncIterator[ChainVenue]:
    """Yield the venue; a task links it to the chain whenever there is one.

    Raises:
        UsageFailure: if the wallets cannot be opened.
    """
    config = context.config
    try:
        chosen = wallet_settings(config.wallets, seed=config.market.seed, data_directory=config.data_directory)
        signers = open_signers(chosen)
    except WalletError as error:
        raise UsageFailure(str(error), "see `pipeline wallet --help` and docs/wallets.md") from None
    live = config.executor.mode == "live"
    warn = Warnings(context)
    if live and (place := present_place(config)) is not None:
        await confirm_live(context, place.endpoints, signers)
    by_address = {signer.address: signer for signer in signers}
    lanes = Lanes(list(by_address), LaneSettings(config.wallets.lane_plans, config.wallets.min_lamports))

    def allowed() -> bool:
        return isinstance(context.gate.check(), Allowed)

    venue = ChainVenue(
        Mode.LIVE if live else Mode.LOCALNET,
        landing_settings(config),
        lanes,
        by_address,
        mints=[token.mint for token in load_registry().tokens],
        allowed=allowed,
        wall_ns=context.clock,
        clock=context.clock if live else None,
        warn=warn.tell,
    )
    terms = Terms(config.planner.sol.max_amount_in, config.wallets.min_lamports, config.executor.max_micro_lamports)
    upkeep = Upkeep(
        lanes,
        by_address,
        terms,
        allowed=lambda: config.wallets.upkeep and allowed(),
        log=context.log,
        health=context.health,
    )
    context.log.info("wallets", addresses=list(by_address))
    keeping = asyncio.create_task(_keep_linked(context, venue, upkeep, warn))
    try:
        yield venue
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await close_signers(signers)


def landing_settings(config: Config) -> LandingSettings:
    """Return how transactions are made, sent and followed."""
    section = config.executor
    live = section.mode == "live"
    return LandingSettings(
        simulate=section.simulate,
        route=section.route,
        fallback_slots=section.fallback_slots,
        commitment=section.commitment,
        lifetime_slots=section.lifetime_slots,
        rebroadcast_s=section.rebroadcast_ms / 1000,
        confirm_timeout_s=section.confirm_timeout_s,
        compute_margin_ratio=section.compute_margin_ratio,
        priority_percentile=section.priority_percentile,
        max_micro_lamports=section.max_micro_lamports,
        max_tip_lamports=config.tip.max_lamports,
        floor_percentile=config.tip.floor_percentile,
        lookup_tables=section.lookup_tables,
        look_s=_FEES_S if live else 0.0,
    )


def present_place(config: Config) -> Place | None:
    """Return where the chain is now; None while the offline chain is not there.

    Raises:
        UsageFailure: if an endpoint is no address. It does not say which: addresses hold keys.
    """
    engine = config.block_engine
    if config.executor.mode == "localnet":
        entry = run_files.read(config, run_files.OFFLINE_CHAIN)
        if entry is None or not entry.url:
            return None
        url, floor_url, instance = entry.url, entry.url + FLOOR_PATH, f"{entry.pid}@{entry.started_ns}"
        endpoints: tuple[EndpointSettings, ...] = (offline_endpoint(url),)
    else:
        url, floor_url, instance = "", "", ""
        endpoints = _endpoints(config)
    url = engine.url.get_secret_value() or url
    settings = EngineSettings(
        url, engine.tip_floor_url or floor_url, engine.auth.get_secret_value(), timeout_s=engine.timeout_s
    )
    return Place(instance, endpoints, settings if url else None)


def _endpoints(config: Config) -> tuple[EndpointSettings, ...]:
    section = config.rpc
    try:
        return tuple(endpoints_in(section.endpoints.get_secret_value(), section.rate_per_s, section.burst))
    except ValueError as error:
        raise UsageFailure(f"rpc.endpoints: {error}", "look at PIPELINE_RPC__ENDPOINTS") from None


async def _keep_linked(context: WorkerContext, venue: ChainVenue, upkeep: Upkeep, warn: Warnings) -> None:
    """Link the venue to the chain, and to the next one where that one goes."""
    again_s = _AGAIN_S
    while True:
        place = present_place(context.config)
        if place is None:
            await asyncio.sleep(_LOOK_S)
            continue
        try:
            async with _link(context, venue, place, warn) as link:
                await venue.link(link)
                again_s = _AGAIN_S
                context.health.recovered(cause=_CAUSE)
                context.log.info("linked to the chain", endpoints=[one.host for one in place.endpoints])
                async with upkeep.beside(link.rpc):
                    await _until_gone(context.config, place)
        except RpcError as error:
            context.log.warning("the chain does not answer yet", error=str(error))
            context.health.degraded(f"the chain does not answer: {error}", cause=_CAUSE)
        except Exception:
            context.log.exception("the chain cannot be used")
        finally:
            venue.unlink()
        await asyncio.sleep(again_s)
        again_s = min(again_s * 2, _AGAIN_MAX_S)


async def _until_gone(config: Config, place: Place) -> None:
    """Wait until another chain is where this one was."""
    while True:
        await asyncio.sleep(_LOOK_S)
        now = present_place(config)
        if now is not None and now.instance != place.instance:
            return


def _link(context: WorkerContext, venue: ChainVenue, place: Place, warn: Warnings) -> ChainLink:
    section = context.config.rpc
    settings = PoolSettings(
        timeout_s=section.timeout_s,
        deadline_s=section.deadline_s,
        attempts=section.attempts,
        max_lag_slots=section.max_lag_slots,
        slot_fresh_s=section.look_s * 5,
        breaker_failures=section.breaker_failures,
        breaker_window=max(10, section.breaker_failures),
        breaker_open_s=section.breaker_open_s,
        breaker_open_max_s=section.breaker_open_max_s,
        commitment="processed",
        chain=required_chain(context.config),
    )

    def counted(failed: bool) -> None:
        context.health.rpc_calls += 1
        context.health.rpc_failures += failed

    engine: BlockEngine | None = None
    if place.engine is not None:
        limits = context.config.block_engine
        limited = context.config.executor.mode == "live"
        bucket = TokenBucket(limits.rate_per_s, limits.burst, time.monotonic_ns) if limited else None
        engine = BlockEngine(place.engine, bucket)
    return ChainLink(
        RpcPool(place.endpoints, settings, counted=counted),
        engine,
        venue.settings,
        wallets=venue.wallets,
        slot=lambda: venue.slot,
        look_s=section.look_s,
        wall_ns=context.clock,
        warn=warn.tell,
    )
