"""A market of recorded pools: real accounts of one slot. Nobody moves them but our own fills."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from localnet.market import Engine
from markets.solana.snapshot import SnapshotError, load_snapshot
from pipeline._core import Pool, PoolRefused
from pipeline.errors import BadData


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a snapshot file holds."""

    engine: Engine
    """Without models: nobody trades."""
    pools: dict[str, Pool]
    slot: int
    refused: dict[str, str]
    """Pools that cannot be quoted, with the reason."""


def load_recorded(path: str | Path) -> Recorded:
    """Read the pools of a snapshot file.

    Raises:
        BadData: if the file is missing, is no snapshot, or holds no pool that can be quoted.
    """
    if not str(path):
        raise BadData("no file with recorded pools is named", "set market.recorded_path, or use --recorded PATH")
    try:
        recorded = load_snapshot(path)
    except SnapshotError as error:
        raise BadData(str(error), "name a gzipped Whirlpool snapshot: lines of pubkey,base64") from error
    pools: dict[str, Pool] = {}
    refused: dict[str, str] = {}
    for found in recorded:
        try:
            pools[found.address] = Pool.parse(found.protocol, found.address, list(found.accounts), found.slot, 0, 0)
        except PoolRefused as refusal:
            refused[found.address] = str(refusal)
    if not pools:
        raise BadData(f"{path} holds no pool that can be quoted", "the first reason: " + next(iter(refused.values())))
    return Recorded(Engine(0, {}), pools, recorded[0].slot, refused)
