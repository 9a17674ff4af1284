"""Live mode: what must be so before anything may trade on the real chain.

`executor.mode = "live"` alone starts nothing: the flag `--live` must stand on the command line as well, where no
configuration file and no environment variable can put it, and everything that live trading needs must be named. The
rest cannot be seen in the configuration: the executor checks its keys and the chain when it starts, and the system
manager halts at every start in live mode, until a person resumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from pipeline.config import Config
from pipeline.errors import UsageFailure
from pipeline.sections.base import is_loopback

__all__ = ["EXECUTOR", "LIVE_FLAG", "MAINNET", "check_live", "expected_chain", "required_chain"]

EXECUTOR = "executor"
LIVE_FLAG = "--live"
MAINNET = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"
"""Genesis hash of mainnet-beta."""
# They make up a market: nothing that trades for real may see it.
_OFFLINE = ("market", "providers")


def check_live(config: Config, *, live: bool, workers: Sequence[str] = ()) -> None:
    """Refuse a live mode that was not asked for twice, or lacks something, and an offline one that would send abroad.

    `live` says whether `--live` stood on the command line, `workers` which others are to run beside the executor.

    Raises:
        UsageFailure: naming the first thing that is missing.
    """
    section = config.executor
    engine = config.block_engine.url.get_secret_value()
    if section.mode != "live":
        if live:
            raise UsageFailure(
                f'{LIVE_FLAG} was given, and executor.mode is "{section.mode}"',
                'leave the flag away, or set executor.mode to "live": docs/live.md says what that needs',
            )
        host = urlsplit(engine).hostname or ""
        if section.mode == "localnet" and engine and host != "localhost" and not is_loopback(host):
            raise UsageFailure(
                'executor.mode is "localnet", and block_engine.url is on another host',
                "leave block_engine.url empty: the offline chain has a block engine of its own",
            )
        return
    if not live:
        raise UsageFailure(
            f'executor.mode is "live", and {LIVE_FLAG} was not given',
            f"`pipeline up {LIVE_FLAG}`, or `pipeline worker executor {LIVE_FLAG}`: docs/live.md",
        )
    if not config.rpc.endpoints.get_secret_value().split():
        raise UsageFailure(
            "live mode needs rpc.endpoints", "set PIPELINE_RPC__ENDPOINTS, or PIPELINE_RPC__ENDPOINTS_FILE to a file"
        )
    if section.route != "rpc" and not engine:
        raise UsageFailure(
            f'live mode needs block_engine.url where executor.route is "{section.route}"',
            'set PIPELINE_BLOCK_ENGINE__URL, or executor.route to "rpc"',
        )
    if config.wallets.source == "localnet":
        raise UsageFailure(
            'live mode needs wallets of its own: those of wallets.source = "localnet" are known to everybody',
            'set wallets.source to "keystore", "environment" or "command"; `pipeline wallet --help`',
        )
    if config.quote_core.source != "rpc":
        raise UsageFailure(
            'live mode needs quote_core.source = "rpc": "stream" quotes the offline market',
            'set quote_core.source to "rpc"',
        )
    if invented := [name for name in workers if name in _OFFLINE]:
        raise UsageFailure(
            f"live mode runs without the worker {invented[0]}, which simulates",
            f"leave {' and '.join(invented)} out of supervisor.workers",
        )


def required_chain(config: Config) -> str:
    """Return the genesis hash that every endpoint has to serve; empty where that is not live mode's business."""
    return expected_chain(config) if config.executor.mode == "live" else ""


def expected_chain(config: Config) -> str:
    """Return the genesis hash of the chain that may be traded on."""
    return config.executor.chain or MAINNET
