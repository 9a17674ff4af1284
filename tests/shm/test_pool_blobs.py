"""Pool snapshots: variable length, whole, never older than before."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from shm_processes import Processes, blobs_without_end, read_blobs

from pipeline.shm import PoolBlobTable, PoolBlobWriter, SharedMemoryError, SharedMemoryFull


def test_any_length_is_kept(folder: Path, processes: Processes) -> None:
    writer = PoolBlobWriter(folder / "pools")
    table = PoolBlobTable(folder / "pools")
    for slot, length in enumerate([1, 7, 8, 9, 4095, 4096, 4097, 65_535, 65_536, 3], start=1):
        data = bytes(number * 31 % 256 for number in range(length))
        assert writer.write(511, data, slot, 2, -3)
        blob = table.read(511)
        assert blob is not None
        assert (blob.data, blob.slot, blob.write_version, blob.observed_ns) == (data, slot, 2, -3)
    assert processes.start(read_blobs, folder / "pools", 511).hear() == (data, slot, 2, -3)
    assert table.read(0) is None
    assert table.read(512) is None
    assert table.version(10**6) is None


def test_an_older_state_never_overwrites_a_newer_one(folder: Path) -> None:
    writer = PoolBlobWriter(folder / "pools")
    table = PoolBlobTable(folder / "pools")
    assert writer.write(1, b"a", 10, 5)
    for slot, version in [(10, 5), (10, 4), (9, 6), (0, 0)]:
        assert not writer.write(1, b"b", slot, version)
    assert table.version(1) == (10, 5)
    assert writer.write(1, b"c", 10, 6)
    assert writer.write(1, b"d", 11, 0)
    del writer
    successor = PoolBlobWriter(folder / "pools")
    assert not successor.write(1, b"e", 10, 9)
    successor.remove(1)
    assert table.read(1) is None
    assert successor.write(1, b"f", 1)
    successor.clear()
    assert table.read(1) is None


def test_limits_are_refused(folder: Path) -> None:
    writer = PoolBlobWriter(folder / "pools", slots=8, slot_bytes=4096)
    with pytest.raises(SharedMemoryFull, match="pool id 8"):
        writer.write(8, b"x", 1)
    for data in (b"", b"x" * 4097):
        with pytest.raises(SharedMemoryError, match="1 to 4096 bytes"):
            writer.write(1, data, 1)
    for slots, slot_bytes in [(0, 4096), (8, 0), (8, 100), (8, 2**25), (10**9, 4096)]:
        with pytest.raises(SharedMemoryError, match="whole pages"):
            PoolBlobWriter(folder / "other", slots, slot_bytes)


def test_room_is_taken_when_it_is_used(folder: Path) -> None:
    writer = PoolBlobWriter(folder / "pools")
    path = folder / "pools"
    empty = path.stat().st_blocks * 512
    assert empty <= 64 * 1024 < path.stat().st_size
    writer.write(100, b"x" * 10_000, 1)
    assert path.stat().st_blocks * 512 - empty == 12_288


def test_no_torn_blob_while_another_process_writes(folder: Path, processes: Processes) -> None:
    other = processes.start(blobs_without_end, folder / "pools")
    assert other.hear() == "ready"
    table = PoolBlobTable(folder / "pools")
    slots = set()
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        blob = table.read(3)
        if blob is None:
            continue
        assert blob.data == bytes([blob.slot % 251]) * (1 + blob.slot * 37 % 20_000)
        slots.add(blob.slot)
    assert len(slots) > 50
