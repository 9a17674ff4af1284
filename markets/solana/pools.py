"""Exact quotes of Solana pools from their raw accounts, and cycles across them.

`Pool.parse` reads a pool from the accounts that the chain holds for it: the pool's own, and those its program reads in
a swap. A state that can not be quoted to the last unit is refused (`PoolRefused`, with a stable `reason`).

- Whirlpool: the pool and its tick arrays, the oracle where the fee moves with volatility; vaults and mints optionally
  (mints where a token charges transfer fees). A tick array that is not given is taken not to exist on chain.
- Raydium AMM v4: the pool and both vaults.
- Raydium CPMM: the pool, its configuration and both vaults; mints where a token charges transfer fees.
- Raydium CLMM: the pool, its configuration and its tick arrays around the price, its bitmap extension where the price
  is far from one; mints where a token charges transfer fees. A quote that needs a tick array not given fails.
- SPL stake pool: the pool and its reserve, with its lamports; the manager's fee account optionally.
- Marinade: the state and both legs of its liquidity pool, the SOL leg with its lamports; treasury and mint optionally.

`quote_in` and `quote_out` give the amounts that the program would move, or raise `QuoteError` with the reason the
program would fail for. `swap` gives the pool after it as well: its `accounts()` are the raw bytes with the swap written
in. `snapshot` is the compact form that other processes quote from; it has no raw accounts. `fair_rate` is what a staked
token stands for in lamports, `unstake_rate` what a little of it brings at once: None for every other pool.

`quote_grids` quotes many amounts with many pools, both ways, in one call without the GIL: a `Grid` for each pool.

`Searcher` holds pools by a small integer and finds cycles of two and three legs among them. A cycle starts in the first
token of the settlement list that it contains.
"""

from __future__ import annotations

from pipeline._core import (
    Candidate,
    CandidateLeg,
    Grid,
    Pool,
    PoolQuote,
    PoolRefused,
    QuoteError,
    Searcher,
    quote_grids,
)

__all__ = [
    "Candidate",
    "CandidateLeg",
    "Grid",
    "Pool",
    "PoolQuote",
    "PoolRefused",
    "QuoteError",
    "RawAccount",
    "Searcher",
    "quote_grids",
]

RawAccount = tuple[str, str, bytes] | tuple[str, str, bytes, int]
"""Address, owner, data, and where it is known the balance in lamports; pools give accounts back in the same form."""
