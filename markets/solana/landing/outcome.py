"""From a transaction on the chain to how its plan ended, to the lamport."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from markets.costs import Costs
from markets.solana.landing.reasons import reason_of
from markets.solana.landing.simulate import leg_places
from markets.solana.landing.tracker import Fate, Followed
from markets.solana.rpc.accounts import Malformed
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import Priority
from markets.solana.transactions.effects import BadTransaction, Effect, LegFill, effect_of, fills_of
from markets.venue import Dropped, Filled, RanOut, Reverted, Trace
from pipeline.messages import ExecutionPlan, Fill


@dataclass(frozen=True, slots=True)
class Told:
    """A transaction on the chain, explained."""

    effect: Effect
    fills: tuple[LegFill, ...]
    """What each leg gave; none where it failed."""
    logs: tuple[str, ...]


class Unexplained(Exception):
    """A transaction of ours is on the chain, and what it did for its plan cannot be told: no fault of the node's."""


def followed_of(trace: Trace, *, bundle: str, by_rpc: bool) -> Followed:
    """Return what is known of a transaction of which nothing has been heard."""
    fate = asyncio.get_running_loop().create_future()
    return Followed(trace.signature, trace.last_valid_block_height, fate, bundle=bundle, by_rpc=by_rpc)


async def look_up(rpc: RpcPool, signature: str, plan: ExecutionPlan, wallet: str, *, finalized: bool) -> Told | None:
    """Return a transaction; None where the node that answers does not have it (yet).

    Raises:
        RpcError: if no node tells anything that can be believed.
        Unexplained: if a sound answer does not fit the plan.
    """
    options = {
        "encoding": "base64",
        "commitment": "finalized" if finalized else "confirmed",
        "maxSupportedTransactionVersion": 0,
    }
    read = await rpc.call(
        "getTransaction",
        [signature, options],
        read=lambda result: _read(result, signature, plan, wallet),
        priority=Priority.URGENT,
    )
    if isinstance(read, Unexplained):
        raise read
    return read


def _read(result: Any, signature: str, plan: ExecutionPlan, wallet: str) -> Told | Unexplained | None:
    if result is None:
        return None
    try:
        effect = effect_of(result, [wallet])
    except BadTransaction as error:
        raise Malformed(f"it is no transaction that can be: {error}") from None
    if effect.signature != signature:
        raise Malformed("it is another transaction")
    try:
        fills = fills_of(effect, plan.legs, wallet)
    except BadTransaction as error:
        return Unexplained(f"{signature}: {error}")
    logs = result["meta"].get("logMessages")
    return Told(effect, fills, tuple(line for line in logs if isinstance(line, str)) if isinstance(logs, list) else ())


def ending_of(plan: ExecutionPlan, told: Told, trace: Trace, *, sol_price_usd_e6: int) -> Filled | Reverted:
    """Return how a plan ended whose transaction landed."""
    effect = told.effect
    trace = replace(trace, compute_units=effect.units)
    costs = Costs(effect.base_fee, effect.priority_fee, effect.tip)
    if effect.error is not None:
        programs = [step.program for step in effect.steps if step.height == 1]
        legs = leg_places(programs, plan.legs)
        reason = reason_of(effect.error, told.logs, programs=programs, legs=legs)
        return Reverted(effect.slot, reason.leg, reason.text, sol_price_usd_e6, costs, trace)
    return Filled(effect.slot, _fills(plan, told.fills, effect.slot), sol_price_usd_e6, costs, trace)


def not_landed(fate: Fate, followed: Followed, trace: Trace, slot: int) -> Dropped | RanOut:
    """Return how a plan ended whose transaction is not on the chain, and cannot come there any more."""
    if fate == "bundle_failed":
        lost = followed.bundle_state != "Failed"
        cause = "the block engine lost it" if lost else "outbid or no longer profitable"
        detail = f" ({followed.bundle_detail})" if followed.bundle_detail else ""
        return Dropped(slot, f"the bundle did not land: {cause}{detail}", trace)
    cause = f"not on the chain by block height {trace.last_valid_block_height}, its last"
    unknown = "; another process claimed it, and whether it was sent is not known"
    return RanOut(slot, cause + (unknown if trace.resolved else ""), trace)


def _fills(plan: ExecutionPlan, fills: Sequence[LegFill], slot: int) -> tuple[Fill, ...]:
    return tuple(
        Fill(
            pool=leg.pool,
            protocol=leg.protocol,
            token_in=leg.token_in,
            token_out=leg.token_out,
            amount_in=fill.amount_in,
            amount_out=fill.amount_out,
            expected_amount_out=leg.amount_out,
            slot=slot,
        )
        for leg, fill in zip(plan.legs, fills, strict=True)
    )
