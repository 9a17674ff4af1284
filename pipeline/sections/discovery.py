"""Which pools the quote core looks for on chain."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections.base import Natural, Positive, Section


class DiscoverySection(Section):
    """Discovery of pools over RPC."""

    protocols: tuple[
        Literal[
            "whirlpool",
            "raydium_amm_v4",
            "raydium_cpmm",
            "raydium_clmm",
            "meteora_dlmm",
            "meteora_damm_v2",
            "spl_stake_pool",
            "marinade",
        ],
        ...,
    ]
    refresh_s: Annotated[float, Field(ge=10, le=86_400, allow_inf_nan=False)]
    min_sol: Natural
    min_usdc: Natural
    max_pools: Annotated[int, Field(gt=0, le=100_000)]
    max_pools_per_pair: Positive
    parallel: Annotated[int, Field(gt=0, le=64)]
