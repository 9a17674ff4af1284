"""Read a recorded snapshot of Whirlpool accounts: gzipped lines of `pubkey,base64`."""

from __future__ import annotations

import base64
import binascii
import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import base58

from pipeline.messages import Protocol

WHIRLPOOL_PROGRAM = "whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc"
"""Owner of every account in the file."""

_POOL = bytes.fromhex("3f95d10ce1806309")
_FIXED_ARRAY = bytes.fromhex("4561bdbe6e0742bb")
_DYNAMIC_ARRAY = bytes.fromhex("11d8f68ee1c7da38")
_WHIRLPOOL_OF_ARRAY = {_FIXED_ARRAY: 9_956, _DYNAMIC_ARRAY: 12}
_FILE_NAME = re.compile(r"whirlpool-snapshot-(\d+)\.csv\.gz")


class SnapshotError(ValueError):
    """A file that is not a snapshot of pools."""


@dataclass(frozen=True, slots=True)
class PoolAccounts:
    """One pool with the accounts its quotes need, the pool's own first."""

    address: str
    protocol: Protocol
    slot: int
    accounts: tuple[tuple[str, str, bytes], ...]


def load_snapshot(path: str | Path) -> list[PoolAccounts]:
    """Read a snapshot and group its tick arrays under their pools, ordered by address; other accounts are left out.

    The slot is taken from a name like `whirlpool-snapshot-152927999.csv.gz` and is 0 under any other name.

    Raises:
        SnapshotError: the file can not be read, is not gzipped `pubkey,base64` lines, or holds no pool.
    """
    path = Path(path)
    pools: dict[str, bytes] = {}
    arrays: dict[str, list[tuple[str, bytes]]] = {}
    for address, data in _accounts(path):
        kind = data[:8]
        if kind == _POOL:
            pools[address] = data
        elif kind in _WHIRLPOOL_OF_ARRAY:
            offset = _WHIRLPOOL_OF_ARRAY[kind]
            if len(data) < offset + 32:
                raise SnapshotError(f"{path}: tick array {address} has only {len(data)} bytes")
            owner = base58.b58encode(data[offset : offset + 32]).decode()
            arrays.setdefault(owner, []).append((address, data))
    if not pools:
        raise SnapshotError(f"{path} holds no Whirlpool account: is it a Whirlpool snapshot?")
    named = _FILE_NAME.fullmatch(path.name)
    slot = int(named[1]) if named else 0
    return [
        PoolAccounts(
            address=address,
            protocol=Protocol.WHIRLPOOL,
            slot=slot,
            accounts=tuple(
                (key, WHIRLPOOL_PROGRAM, data)
                for key, data in [(address, pools[address]), *sorted(arrays.get(address, []))]
            ),
        )
        for address in sorted(pools)
    ]


def _accounts(path: Path) -> Iterator[tuple[str, bytes]]:
    number = 1
    try:
        with gzip.open(path, "rt", encoding="ascii", newline="") as lines:
            for address, encoded in csv.reader(lines):
                yield address, base64.b64decode(encoded, validate=True)
                number += 1
    except OSError as error:
        raise SnapshotError(f"{path} can not be read as a gzipped file: {error}") from error
    except (ValueError, EOFError, binascii.Error, csv.Error) as error:
        raise SnapshotError(f"{path}, line {number}: not `pubkey,base64` ({error})") from error
