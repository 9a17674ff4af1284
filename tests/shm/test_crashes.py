"""Writers that die, at any moment, and their successors."""

from __future__ import annotations

import time
from pathlib import Path

from shm_processes import (
    Processes,
    die_inside_a_blob,
    die_inside_a_write,
    table_of,
    write_without_end,
)

from pipeline.shm import PermitWord, PermitWordWriter, PoolBlobTable, PoolBlobWriter, QuoteTable, QuoteTableWriter


def test_a_writer_killed_inside_a_write(folder: Path, processes: Processes) -> None:
    path = folder / "quotes"
    table_of(path)
    table = QuoteTable(path)
    cursor = table.cursor()
    other = processes.start(die_inside_a_write, path, 2)
    assert other.hear() == "torn"
    assert cursor.poll() is None, "a new writer began"
    other.kill()
    # Bounded: the entry is busy, the others are there, a snapshot says what it lacks.
    start = time.monotonic()
    assert table.read(2) is None
    assert time.monotonic() - start < 0.5
    assert table.busy == 1
    snapshot = table.snapshot()
    assert snapshot.busy == [2]
    assert snapshot[2] is None
    assert not snapshot.whole
    assert snapshot[1] == table.read(1)
    assert cursor.poll() == (), "what was not committed was not announced"

    successor = QuoteTableWriter(path)
    assert successor.repaired == 1
    assert table.epoch == successor.epoch == 3
    assert cursor.wait(0)
    assert cursor.poll() is None, "everything is looked at again"
    repaired = table.read(2)
    assert repaired is not None
    assert repaired.void
    assert (repaired.pool, repaired.token_in, repaired.token_out) == (3, 1, 2)
    written = table.read(0)
    assert written is not None
    assert written.amount_in == 77, "written whole, though never committed"
    assert table.snapshot().whole
    # Ids, names and entries go on.
    assert (successor.intern("pool", "pool-2"), successor.entry(3, 1, 2)) == (3, 2)
    successor.write(2, 8, 8, 8, 8)
    successor.commit(8, 80)
    assert cursor.poll() == (2,)
    entry = table.read(2)
    assert entry is not None
    assert (entry.void, entry.amount_in) == (False, 8)


def test_a_writer_killed_at_full_speed_again_and_again(folder: Path, processes: Processes) -> None:
    path = folder / "quotes"
    table: QuoteTable | None = None
    for round_ in range(4):
        other = processes.start(write_without_end, path)
        assert other.hear() == "ready"
        table = table or QuoteTable(path)
        cursor = table.cursor()
        assert cursor.wait(10)
        time.sleep(0.02 * round_)
        other.kill()
        assert table.writer_pid == other.process.pid
        snapshot = table.snapshot()
        if snapshot.whole:
            assert {entry.amount_in for entry in (snapshot[i] for i in range(16)) if entry} == {snapshot.slot}
        position = cursor.position
        successor = QuoteTableWriter(path)
        assert table.sequence > position
        healed = table.snapshot()
        assert healed.whole
        assert healed.busy == []
        assert len(healed) == 16
        del successor
    assert table is not None
    assert table.epoch == 8


def test_a_closed_and_a_silent_writer(folder: Path) -> None:
    writer = table_of(folder / "quotes")
    table = QuoteTable(folder / "quotes")
    assert table.writer_alive
    assert table.heartbeat_age_ns < 2_000_000_000
    writer.close()
    assert not table.writer_alive
    writer.heartbeat()
    assert not table.writer_alive, "closed is closed"
    del writer
    again = QuoteTableWriter(folder / "quotes")
    assert table.writer_alive
    assert len(again) == 4


def test_a_writer_without_heartbeat_counts_as_dead(folder: Path) -> None:
    writer = table_of(folder / "quotes")
    table = QuoteTable(folder / "quotes")
    time.sleep(2.1)
    assert not table.writer_alive
    writer.heartbeat()
    assert table.writer_alive


def test_a_pool_writer_killed_inside_a_write(folder: Path, processes: Processes) -> None:
    path = folder / "pools"
    writer = PoolBlobWriter(path)
    writer.write(1, b"one", 1)
    writer.write(2, b"two", 1)
    del writer
    table = PoolBlobTable(path)
    other = processes.start(die_inside_a_blob, path, 2)
    assert other.hear() == "torn"
    other.kill()
    assert table.read(2) is None
    assert table.busy == 1
    successor = PoolBlobWriter(path)
    assert successor.repaired == 1
    assert table.read(2) is None
    assert table.version(1) == (1, 0)
    assert table.version(2) is None
    assert successor.write(2, b"anew", 1)
    blob = table.read(2)
    assert blob is not None
    assert blob.data == b"anew"


def test_a_manager_killed_inside_a_renewal(folder: Path) -> None:
    path = folder / "permit"
    manager = PermitWordWriter(path)
    manager.renew(2, 7, 10**10, 0)
    word = PermitWord(path)
    assert word.state() == 2
    manager._tear()
    assert word.state() == 0
    assert word.read() is None
    del manager
    successor = PermitWordWriter(path)
    assert word.state() == 0
    successor.renew(2, 8, 10**10, 0)
    assert word.state() == 2
