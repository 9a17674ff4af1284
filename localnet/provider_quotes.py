"""What the simulated providers answer: routes over the offline market's pools, in the shapes of the real APIs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markets.tokens import SOL_MINT
from pipeline._core import Pool, QuoteError
from pipeline.messages import Protocol, enum_name

# How Jupiter calls the venues; the other simulated providers use the same words.
LABELS = {
    Protocol.WHIRLPOOL: "Whirlpool",
    Protocol.RAYDIUM_AMM_V4: "Raydium",
    Protocol.RAYDIUM_CPMM: "Raydium CP",
    Protocol.RAYDIUM_CLMM: "Raydium CLMM",
    Protocol.METEORA_DLMM: "Meteora DLMM",
    Protocol.METEORA_DAMM_V2: "Meteora DAMM v2",
    Protocol.SPL_STAKE_POOL: "Stake Pool",
    Protocol.MARINADE: "Marinade",
}
# Percent of the amount that goes through the better one of two pools.
SPLITS = (50, 70, 85)


@dataclass(frozen=True, slots=True)
class Hop:
    """One swap of a route."""

    pool: str
    label: str
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int
    percent: int


@dataclass(frozen=True, slots=True)
class Quoted:
    """What a route gives."""

    token_in: str
    token_out: str
    amount_in: int
    amount_out: int
    impact_bps: float
    hops: tuple[Hop, ...]
    slot: int
    others: Mapping[str, int]
    """What other pools would give for all of it."""


def label_of(pool: Pool) -> str:
    """Return the name of a pool's venue."""
    protocol = Protocol(int(pool.protocol))
    return LABELS.get(protocol, enum_name(protocol))


def best_route(
    pools: Iterable[Pool],
    token_in: str,
    token_out: str,
    amount_in: int,
    slot: int,
    *,
    dexes: frozenset[str] = frozenset(),
    direct: bool = False,
) -> Quoted | None:
    """Return the best of: one pool, two pools side by side, two pools one after the other over SOL."""
    usable = [pool for pool in pools if not dexes or label_of(pool) in dexes]
    found = _between(usable, token_in, token_out, amount_in, slot)
    if direct or SOL_MINT in (token_in, token_out):
        return found
    first = _between(usable, token_in, SOL_MINT, amount_in, slot)
    second = None if first is None else _between(usable, SOL_MINT, token_out, first.amount_out, slot)
    if first is None or second is None or (found is not None and found.amount_out >= second.amount_out):
        return found
    impact = first.impact_bps + second.impact_bps
    hops = (*first.hops, *second.hops)
    return Quoted(token_in, token_out, amount_in, second.amount_out, impact, hops, slot, {})


def _between(pools: Sequence[Pool], token_in: str, token_out: str, amount: int, slot: int) -> Quoted | None:
    ranked = sorted(
        (
            (_out(pool, token_in, amount), pool)
            for pool in pools
            if {pool.token_a, pool.token_b} == {token_in, token_out}
        ),
        key=lambda item: (-item[0][0], item[1].address),
    )
    ranked = [item for item in ranked if item[0][0] > 0]
    if not ranked:
        return None
    (out, impact), best = ranked[0]
    hops = [Hop(best.address, label_of(best), token_in, token_out, amount, out, 100)]
    if len(ranked) > 1:
        other = ranked[1][1]
        for percent in SPLITS:
            first = amount * percent // 100
            (one, one_impact), (two, two_impact) = _out(best, token_in, first), _out(other, token_in, amount - first)
            if one and two and one + two > out:
                out, impact = one + two, max(one_impact, two_impact)
                hops = [
                    Hop(best.address, label_of(best), token_in, token_out, first, one, percent),
                    Hop(other.address, label_of(other), token_in, token_out, amount - first, two, 100 - percent),
                ]
    others = {pool.address: given for (given, _), pool in ranked}
    return Quoted(token_in, token_out, amount, out, impact, tuple(hops), slot, others)


def _out(pool: Pool, token_in: str, amount: int) -> tuple[int, float]:
    try:
        quote = pool.quote_in(token_in == pool.token_a, amount)
    except QuoteError:
        return 0, 0.0
    return quote.amount_out, quote.price_impact_bps


# The shapes

Document = dict[str, Any]


def jupiter(quoted: Quoted, slippage_bps: int) -> Document:
    """Return a quote in the shape of Jupiter's swap API."""
    return {
        "inputMint": quoted.token_in,
        "inAmount": str(quoted.amount_in),
        "outputMint": quoted.token_out,
        "outAmount": str(quoted.amount_out),
        "otherAmountThreshold": str(_least(quoted, slippage_bps)),
        "swapMode": "ExactIn",
        "slippageBps": slippage_bps,
        "platformFee": None,
        "priceImpactPct": f"{quoted.impact_bps / 10_000:.18f}",
        "routePlan": [
            {
                "swapInfo": {
                    "ammKey": hop.pool,
                    "label": hop.label,
                    "inputMint": hop.token_in,
                    "outputMint": hop.token_out,
                    "inAmount": str(hop.amount_in),
                    "outAmount": str(hop.amount_out),
                    "feeAmount": "0",
                    "feeMint": hop.token_in,
                },
                "percent": hop.percent,
                "bps": hop.percent * 100,
            }
            for hop in quoted.hops
        ],
        "contextSlot": quoted.slot,
        "timeTaken": 0.0005,
        "simplerRouteUsed": False,
        "mostReliableAmmsQuoteReport": {"info": {pool: str(out) for pool, out in quoted.others.items()}},
        "useIncurredSlippageForQuoting": None,
        "otherRoutePlans": None,
        "loadedLongtailToken": False,
        "instructionVersion": "V1",
    }


def dflow(quoted: Quoted, slippage_bps: int) -> Document:
    """Return a quote in the shape of DFlow's quote API."""
    least = str(_least(quoted, slippage_bps))
    return {
        "inputMint": quoted.token_in,
        "inAmount": str(quoted.amount_in),
        "outputMint": quoted.token_out,
        "outAmount": str(quoted.amount_out),
        "minOutAmount": least,
        "otherAmountThreshold": least,
        "slippageBps": slippage_bps,
        "priceImpactPct": f"{quoted.impact_bps / 10_000:.18f}",
        "platformFee": None,
        "outTransferFee": None,
        "routePlan": [
            {
                "venue": hop.label,
                "marketKey": hop.pool,
                "data": "",
                "inputMint": hop.token_in,
                "outputMint": hop.token_out,
                "inAmount": str(hop.amount_in),
                "outAmount": str(hop.amount_out),
                "inputMintDecimals": 9,
                "outputMintDecimals": 9,
            }
            for hop in quoted.hops
        ],
        "contextSlot": quoted.slot,
        "simulatedComputeUnits": 150_000,
        "requestId": "simulated",
        "forJitoBundle": False,
    }


def raydium(quoted: Quoted, slippage_bps: int) -> Document:
    """Return a quote in the shape of Raydium's trade API, which has no splits: the route has to be one without."""
    return {
        "id": "simulated",
        "success": True,
        "version": "V1",
        "data": {
            "swapType": "BaseIn",
            "inputMint": quoted.token_in,
            "inputAmount": str(quoted.amount_in),
            "outputMint": quoted.token_out,
            "outputAmount": str(quoted.amount_out),
            "otherAmountThreshold": str(_least(quoted, slippage_bps)),
            "slippageBps": slippage_bps,
            "priceImpactPct": round(quoted.impact_bps / 100, 6),
            "referrerAmount": "0",
            "routePlan": [
                {
                    "poolId": hop.pool,
                    "inputMint": hop.token_in,
                    "outputMint": hop.token_out,
                    "feeMint": hop.token_in,
                    "feeRate": 25,
                    "feeAmount": "0",
                    "remainingAccounts": [],
                }
                for hop in quoted.hops
            ],
        },
    }


def unsplit(quoted: Quoted | None, pools: Iterable[Pool]) -> Quoted | None:
    """Return the best route through one pool where the given one is a split; Raydium's API has none."""
    if quoted is None or all(hop.percent == 100 for hop in quoted.hops):
        return quoted
    by_address = {pool.address: pool for pool in pools}
    hops: list[Hop] = []
    amount, impact = quoted.amount_in, 0.0
    token = quoted.token_in
    while token != quoted.token_out:
        candidates = [hop for hop in quoted.hops if hop.token_in == token]
        best = max(candidates, key=lambda hop: (hop.percent, hop.pool))
        pool = by_address[best.pool]
        out, moved = _out(pool, token, amount)
        if not out:
            return None
        hops.append(Hop(best.pool, best.label, token, best.token_out, amount, out, 100))
        amount, impact, token = out, impact + moved, best.token_out
    return Quoted(quoted.token_in, quoted.token_out, quoted.amount_in, amount, impact, tuple(hops), quoted.slot, {})


def _least(quoted: Quoted, slippage_bps: int) -> int:
    # Rounded up, as in the recorded answers.
    return -(-quoted.amount_out * (10_000 - slippage_bps) // 10_000)
