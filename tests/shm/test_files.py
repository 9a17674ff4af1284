"""Files that are not what they should be, are owned by others, or do not fit: refused, with the reason."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shm_processes import Processes, hold, open_as_nobody, table_of
from small_disk import small_disk

from pipeline.shm import (
    PermitWord,
    PermitWordWriter,
    PoolBlobTable,
    PoolBlobWriter,
    QuoteTable,
    QuoteTableWriter,
    SharedMemoryFull,
    SharedMemoryIncompatible,
    SharedMemoryMissing,
    SharedMemoryOwned,
)

KINDS: list[tuple[Callable[[Path], object], Callable[[Path], object]]] = [
    (QuoteTableWriter, QuoteTable),
    (PoolBlobWriter, PoolBlobTable),
    (PermitWordWriter, PermitWord),
]
each_kind = pytest.mark.parametrize(("writer", "reader"), KINDS, ids=["quotes", "pools", "permit"])


def both_refuse(writer: Callable[[Path], object], reader: Callable[[Path], object], path: Path, match: str) -> None:
    before = path.read_bytes()
    for opener in (writer, reader):
        with pytest.raises(SharedMemoryIncompatible, match=match) as caught:
            opener(path)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == before, "a refused file is left as it is"
    assert os.listdir(path.parent) == [path.name], "nothing else is left beside it"


def patch(path: Path, word: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(word * 8)
        file.write(struct.pack("<Q", value))


@each_kind
def test_a_truncated_file(writer: Callable[[Path], object], reader: Callable[[Path], object], folder: Path) -> None:
    path = folder / "file"
    writer(path)
    size = path.stat().st_size
    for left in (size - 8, size - 1, size // 2, 128):
        os.truncate(path, left)
        both_refuse(writer, reader, path, "truncated")
    for left in (127, 0):
        os.truncate(path, left)
        both_refuse(writer, reader, path, f"a file of {left} bytes")


@each_kind
def test_another_version(writer: Callable[[Path], object], reader: Callable[[Path], object], folder: Path) -> None:
    path = folder / "file"
    writer(path)
    patch(path, 1, 99)
    both_refuse(writer, reader, path, "layout 99; layout [12] expected")


@each_kind
def test_another_kind_of_file(writer: Callable[[Path], object], reader: Callable[[Path], object], folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"#!/bin/sh\n" * 1000)
    both_refuse(writer, reader, path, "begins with .*is the path right")
    other = next(make for make, _ in KINDS if make is not writer)
    path.unlink()
    other(path)
    both_refuse(writer, reader, path, "begins with")


@pytest.mark.parametrize("word", [3, 4, 5, 6])
def test_parameters_that_do_not_fit_the_size(word: int, folder: Path) -> None:
    path = folder / "file"
    table_of(path)
    for value in (0, 1, 48, 2**32, 2**64 - 1):
        patch(path, word, value)
        with pytest.raises(Exception, match=r"expected|quote table has|ring is"):
            QuoteTable(path)


@each_kind
def test_a_second_writer(
    writer: Callable[[Path], object], reader: Callable[[Path], object], folder: Path, processes: Processes
) -> None:
    path = folder / "file"
    first = writer(path)
    with pytest.raises(SharedMemoryOwned, match=f"process {os.getpid()} is writing it"):
        writer(path)
    reader(path)
    del first
    writer(path)


def test_a_second_writer_in_another_process(folder: Path, processes: Processes) -> None:
    path = folder / "file"
    other = processes.start(hold, path)
    pid = other.hear()
    for options in ({}, {"replace": True}, {"replace": True, "capacity": 16}):
        with pytest.raises(SharedMemoryOwned, match=f"process {pid} is writing it"):
            QuoteTableWriter(path, **options)
    assert QuoteTable(path).writer_alive
    other.kill()
    QuoteTableWriter(path)


def test_another_size_is_refused_or_takes_the_name(folder: Path) -> None:
    path = folder / "file"
    writer = table_of(path)
    old = QuoteTable(path)
    cursor = old.cursor()
    del writer
    with pytest.raises(SharedMemoryIncompatible, match=r"parameters \[2048, .*\[4096, "):
        QuoteTableWriter(path, capacity=4096)
    assert not old.replaced
    new_writer = QuoteTableWriter(path, capacity=4096, replace=True)
    assert old.replaced
    assert not old.writer_alive
    # Who still looks at the old file sees what stood there.
    assert cursor.poll() == ()
    assert len(old.snapshot()) == len(old) == 4
    new = QuoteTable(path)
    assert (new.capacity, len(new), new.writer_alive) == (4096, 0, True)
    assert len(new_writer) == 0
    assert os.listdir(folder) == ["file"]


def test_a_foreign_file_is_never_replaced(folder: Path) -> None:
    path = folder / "file"
    path.write_text("mine\n" * 100)
    with pytest.raises(SharedMemoryIncompatible):
        QuoteTableWriter(path, replace=True)
    assert path.read_text() == "mine\n" * 100


def test_a_truncated_file_can_be_replaced(folder: Path) -> None:
    path = folder / "file"
    table_of(path)
    os.truncate(path, 5_000)
    QuoteTableWriter(path, replace=True)
    assert QuoteTable(path).capacity == 2048


def test_a_removed_file(folder: Path) -> None:
    path = folder / "file"
    writer = table_of(path)
    table = QuoteTable(path)
    path.unlink()
    assert table.replaced
    assert table.read(0) is not None
    with pytest.raises(SharedMemoryMissing):
        QuoteTable(path)
    # The name is free for another writer; the old one writes into a file that has none.
    table_of(path)
    writer.write(0, 1, 1, 1, 1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@each_kind
def test_no_permission(
    writer: Callable[[Path], object], reader: Callable[[Path], object], folder: Path, processes: Processes
) -> None:
    folder.chmod(0o755)
    path = folder / "file"
    keep = writer(path)
    assert path.stat().st_mode & 0o777 == 0o600
    for opener in (reader, writer):
        name, text = processes.start(open_as_nobody, opener, path).hear()
        assert name == "SharedMemoryDenied", text
        assert "not permitted" in text
    name, text = processes.start(open_as_nobody, writer, folder / "new").hear()
    assert name == "SharedMemoryDenied", text
    # Readable, not writable: reading is allowed; halting is not, and says so.
    path.chmod(0o644)
    name, text = processes.start(open_as_nobody, reader, path).hear()
    assert name == ("SharedMemoryDenied" if reader is PermitWord else ""), text
    del keep


@pytest.fixture
def full_soon(folder: Path) -> Iterator[Path]:
    with small_disk(folder / "small", "256k") as place:
        yield place


def test_a_full_disk_at_creation(full_soon: Path) -> None:
    with pytest.raises(SharedMemoryFull, match="no room for"):
        QuoteTableWriter(full_soon / "quotes")
    assert os.listdir(full_soon) == [], "a file that could not be made leaves nothing"
    QuoteTableWriter(full_soon / "quotes", capacity=64, names=64)


def test_a_full_disk_while_pools_are_written(full_soon: Path) -> None:
    writer = PoolBlobWriter(full_soon / "pools")
    table = PoolBlobTable(full_soon / "pools")
    written: list[int] = []

    def write_all() -> None:
        for pool_id in range(1, 512):
            writer.write(pool_id, bytes([pool_id % 256]) * 16_000, 1)
            written.append(pool_id)

    with pytest.raises(SharedMemoryFull, match="no room for"):
        write_all()
    assert written
    for pool_id in written:
        blob = table.read(pool_id)
        assert blob is not None
        assert blob.data == bytes([pool_id % 256]) * 16_000
    assert table.read(written[-1] + 1) is None
    # What has its room already can be written again.
    assert writer.write(written[0], b"new", 2)


def test_a_directory_that_cannot_be_made(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(Exception, match="file"):
        QuoteTableWriter(folder / "file" / "quotes")
    with pytest.raises(Exception, match="not a file"):
        QuoteTable(folder)
    QuoteTableWriter(folder / "made" / "too" / "quotes")
