"""Snapshot files: what is read, and what a wrong file is told."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import pytest

from markets.solana.snapshot import SnapshotError, load_snapshot

from .build import POOL, key, tick_array, whirlpool_accounts


def write(path: Path, rows: list[tuple[str, bytes]]) -> Path:
    text = "".join(f"{address},{base64.b64encode(data).decode()}\n" for address, data in rows)
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_tick_arrays_are_grouped_under_their_pools(tmp_path: Path) -> None:
    accounts = whirlpool_accounts([(-64, 64, 5), (-9_600, 9_600, 7)], dynamic=True)
    stranger = (key(9), tick_array(0, {}, pool=key(10)))
    rows = [(address, data) for address, _, data in reversed(accounts)] + [stranger, (key(11), b"position")]
    [pool] = load_snapshot(write(tmp_path / "whirlpool-snapshot-123.csv.gz", rows))
    assert (pool.address, pool.slot) == (POOL, 123)
    assert pool.accounts[0] == accounts[0]
    assert sorted(pool.accounts) == sorted(accounts)
    [pool] = load_snapshot(write(tmp_path / "other.csv.gz", rows))
    assert pool.slot == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"pubkey,base64\n", "gzipped"),
        (gzip.compress(b"", mtime=0), "no Whirlpool account"),
        (gzip.compress(b"pubkey\n", mtime=0), "line 1"),
        (gzip.compress(b"a,b,c\n", mtime=0), "line 1"),
        (gzip.compress(b"a,AAAA\nb,not base64!\n", mtime=0), "line 2"),
        (gzip.compress(b"a,AAAA\n", mtime=0), "no Whirlpool account"),
        (gzip.compress(b"\xff\xfe\n", mtime=0), "line 1"),
        (gzip.compress(b"a,AAAA\n" * 9_999, mtime=0)[:-20], "line"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file.csv.gz"
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match=words):
        load_snapshot(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError):
        load_snapshot(tmp_path / "absent.csv.gz")
    with pytest.raises(SnapshotError):
        load_snapshot(tmp_path)


def test_a_truncated_tick_array_is_an_error_not_a_crash(tmp_path: Path) -> None:
    [first, *_] = whirlpool_accounts([])
    rows = [(first[0], first[2]), (key(9), bytes.fromhex("4561bdbe6e0742bb"))]
    with pytest.raises(SnapshotError):
        load_snapshot(write(tmp_path / "file.csv.gz", rows))
