"""What is known of pools on this host: by the quote core's shared memory, and by the list of discovered ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline._core import Pool, PoolRefused
from pipeline.cli.quote_rows import Tokens
from pipeline.clock import wall_ns
from pipeline.messages import Protocol, enum_name
from pipeline.shm import POOLS, QUOTE_VOID, PoolBlobTable, QuoteEntry, QuoteTable, SharedMemoryError

STATES = ("quoted", "refused", "found")


@dataclass(frozen=True, slots=True)
class PoolRow:
    """One pool."""

    address: str
    protocol: str
    pair: str
    state: str
    """quoted: the quote core gives quotes of it; refused: it knew the pool and cannot quote it now; found: discovered,
    and not known to the quote core that wrote the shared memory."""
    reason: str = ""
    token_a: str = ""
    token_b: str = ""
    holds: str = ""
    """Reserves, liquidity or stake, in words."""
    fee_bps: float | None = None
    """Of the middle one of the quoted amounts, from token a to token b."""
    age_s: float | None = None
    """Since the state was last known to hold."""
    slot: int | None = None
    held_a: int | None = None
    """Base units in the vaults when the pool was discovered."""
    held_b: int | None = None


def pool_rows(
    table: QuoteTable | None,
    directory: Path,
    listed: Mapping[str, Any] | None,
    reasons: Mapping[str, str],
    tokens: Tokens,
) -> list[PoolRow]:
    """Return every pool that shared memory or the list of discovered pools knows, by pair and protocol.

    `reasons` are the last refusals by pool, where the server told them.
    """
    rows: dict[str, PoolRow] = {}
    for entry in (listed or {}).get("pools", ()):
        rows[entry["address"]] = PoolRow(
            entry["address"],
            entry["protocol"],
            entry["pair"],
            "found",
            token_a=entry["mint_a"],
            token_b=entry["mint_b"],
            held_a=entry["held_a"],
            held_b=entry["held_b"],
            holds=_vaults(entry["mint_a"], entry["held_a"], entry["mint_b"], entry["held_b"], tokens),
        )
    if table is not None:
        for address, entries in entries_by_pool(table).items():
            known = rows.get(address)
            row = _quoted(table, directory, address, entries, tokens)
            if row.state == "refused":
                row = replace(row, reason=reasons.get(address, ""))
            if known is not None:
                row = replace(row, held_a=known.held_a, held_b=known.held_b, holds=_both(row.holds, known.holds))
            rows[address] = row
    return sorted(rows.values(), key=lambda row: (row.pair.lower(), row.protocol, STATES.index(row.state), row.address))


def entries_by_pool(table: QuoteTable) -> dict[str, list[QuoteEntry]]:
    """Return the entries of every pool in a quote table."""
    found: dict[str, list[QuoteEntry]] = {}
    snapshot = table.snapshot()
    for index in range(len(snapshot)):
        entry = snapshot[index]
        if entry is not None and entry.pool:
            found.setdefault(table.name("pool", entry.pool) or "", []).append(entry)
    return found


def read_pool(directory: Path, pool_id: int) -> Pool | None:
    """Return a pool from its snapshot in shared memory; None where there is none."""
    try:
        blob = PoolBlobTable(directory / POOLS).read(pool_id)
        return Pool.from_snapshot(blob.data) if blob is not None and blob.data else None
    except (SharedMemoryError, PoolRefused):
        return None


def holdings(info: Mapping[str, Any], token_a: str, token_b: str, tokens: Tokens) -> str:
    """Return what a pool holds, in words, from the figures it goes by."""
    if "reserves" in info:
        first, second = info["reserves"]
        return f"{tokens.amount(token_a, first)} + {tokens.amount(token_b, second)}"
    for staked in ("total_lamports", "staked_lamports"):
        if staked in info:
            available = int(info.get("available_lamports", 0))
            return f"{info[staked] / 1e9:,.0f} SOL staked, {available / 1e9:,.1f} at hand"
    if "liquidity" in info:
        return f"liquidity {int(info['liquidity']):.3g}"
    return ""


def _quoted(table: QuoteTable, directory: Path, address: str, entries: list[QuoteEntry], tokens: Tokens) -> PoolRow:
    first = entries[0]
    live = [entry for entry in entries if not entry.void and entry.staleness != QUOTE_VOID]
    pool = read_pool(directory, first.pool)
    token_a = pool.token_a if pool else table.name("token", first.token_in) or ""
    token_b = pool.token_b if pool else table.name("token", first.token_out) or ""
    elapsed_ns = max(0, wall_ns() - table.committed_ns) if table.committed_ns else 0
    newest = max((entry.quoted_ns for entry in live), default=None)
    row = PoolRow(
        address,
        _protocol(first.protocol),
        table.name("pair", first.pair) or "",
        "quoted" if live and pool is not None else "refused",
        token_a=token_a,
        token_b=token_b,
        slot=max(entry.slot for entry in entries),
    )
    if newest is not None:
        row = replace(row, age_s=(max(0, table.market_ns - newest) + elapsed_ns) / 1e9)
    if pool is None:
        return row
    forward = [entry for entry in live if table.name("token", entry.token_in) == token_a]
    middle = forward[len(forward) // 2] if forward else None
    fee_bps = middle.fee_amount / middle.amount_in * 1e4 if middle is not None and middle.amount_in else None
    return replace(row, fee_bps=fee_bps, holds=holdings(pool.info(), token_a, token_b, tokens))


def _both(quoted: str, found: str) -> str:
    """Return what a pool holds: reserves say it all, a liquidity says more beside what the vaults held when found."""
    if not quoted or not found:
        return quoted or found
    return f"{found} ({quoted})" if quoted.startswith("liquidity") else quoted


def _vaults(mint_a: str, held_a: int | None, mint_b: str, held_b: int | None, tokens: Tokens) -> str:
    held = [(mint, amount) for mint, amount in ((mint_a, held_a), (mint_b, held_b)) if amount is not None]
    return " + ".join(tokens.amount(mint, amount) for mint, amount in held)


def _protocol(number: int) -> str:
    try:
        return enum_name(Protocol(number)).lower()
    except ValueError:
        return str(number)
