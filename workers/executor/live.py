"""What the executor makes sure of before it trades on the real chain, beyond what the configuration shows.

The keys sign, every endpoint serves the chain that is meant, and the system manager is one of live mode, which halted
when it started. Nothing is consumed before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from markets.solana.rpc.accounts import Malformed
from markets.solana.rpc.endpoint import EndpointSettings
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import PoolSettings
from markets.solana.wallets import Signer, SigningFailed, check_signers
from pipeline.context import WorkerContext
from pipeline.errors import CheckFailed, Unreachable, UsageFailure
from pipeline.live import LIVE_FLAG, expected_chain
from pipeline.permit.store import PermitStore

__all__ = ["confirm_live", "genesis_hashes"]

_MANAGER_WAIT_S = 15.0
_LOOK_S = 0.2


async def confirm_live(
    context: WorkerContext, endpoints: Sequence[EndpointSettings], signers: Sequence[Signer]
) -> None:
    """Return when live trading may be prepared; the permit is asked all the same, before every plan.

    Raises:
        UsageFailure: if the flag is missing, a wallet does not sign, or an endpoint serves another chain.
        Unreachable: if no endpoint answers.
        CheckFailed: if no system manager of live mode is in office.
    """
    if not context.live:
        raise UsageFailure(f"live trading was not asked for by {LIVE_FLAG}", "docs/live.md")
    try:
        await check_signers(signers)
    except SigningFailed as error:
        raise UsageFailure(f"live mode needs wallets that sign: {error}", "`pipeline wallet list` shows them") from None
    expected = expected_chain(context.config)
    await _confirm_chain(endpoints, expected, context.log.warning)
    store = PermitStore(context.bus.js, producer=context.name, replicas=context.config.streams.replicas)
    deadline = time.monotonic() + _MANAGER_WAIT_S
    while (mode := await store.managed_mode()) != "live":
        if time.monotonic() > deadline:
            manages = f'the system manager in office manages "{mode}"' if mode else "no system manager is in office"
            raise CheckFailed(
                f"live mode needs a system manager of live mode: {manages}",
                'start it with executor.mode = "live", or the whole with `pipeline up --live`',
            )
        await asyncio.sleep(_LOOK_S)
    context.log.warning(
        "live: real transactions once somebody resumes",
        chain=expected,
        wallets=[signer.address for signer in signers],
    )


async def genesis_hashes(
    endpoints: Sequence[EndpointSettings], settings: PoolSettings
) -> list[tuple[str, str | RpcError]]:
    """Return what chain each endpoint serves, by its host: a genesis hash in base58, or why it did not say."""
    return await asyncio.gather(*(_genesis_hash(endpoint, settings) for endpoint in endpoints))


async def _genesis_hash(endpoint: EndpointSettings, settings: PoolSettings) -> tuple[str, str | RpcError]:
    # Each by itself: a pool asks whichever endpoint is best.
    async with RpcPool([endpoint], settings) as single:
        try:
            return endpoint.host, await single.call("getGenesisHash", read=_hash)
        except RpcError as error:
            return endpoint.host, error


def _hash(result: Any) -> str:
    if not isinstance(result, str) or not 32 <= len(result) <= 44 or not result.isalnum():
        raise Malformed("it is no hash")
    return result


async def _confirm_chain(endpoints: Sequence[EndpointSettings], expected: str, warn: Callable[..., object]) -> None:
    """Refuse an endpoint of another chain; one that does not answer is told of, as long as another one does."""
    told = await genesis_hashes(endpoints, PoolSettings())
    for host, answer in told:
        if isinstance(answer, RpcError):
            warn("an endpoint did not tell its chain", endpoint=host, error=str(answer))
        elif answer != expected:
            raise UsageFailure(
                f"the endpoint {host} serves the chain {answer}, and live mode trades on {expected}",
                "executor.chain names the chain that is meant; empty means mainnet-beta",
            )
    if all(isinstance(answer, RpcError) for _, answer in told):
        raise Unreachable("no Solana RPC endpoint tells which chain it serves", "look at PIPELINE_RPC__ENDPOINTS")
