"""Quote tables: what is written is what is read, in this process and in others."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

import numpy as np
import pytest
from shm_processes import Processes, table_of, write_when_told

from pipeline.messages import ConfidenceBand
from pipeline.shm import (
    QUOTE_VOID,
    QuoteTable,
    QuoteTableWriter,
    SharedMemoryError,
    SharedMemoryFull,
    SharedMemoryIncompatible,
    Watch,
    as_array,
    open_when_there,
)


def test_an_entry_keeps_every_field(folder: Path) -> None:
    with QuoteTableWriter(folder / "quotes") as writer:
        pool = writer.intern("pool", "pool")
        sol, usdc = writer.intern("token", "SOL"), writer.intern("token", "USDC")
        pair, local = writer.intern("pair", "SOL/USDC"), writer.intern("provider", "local")
        index = writer.entry(pool, sol, usdc, pair=pair, provider=local, protocol=3, amount_index=7)
        table = QuoteTable(folder / "quotes")
        fresh = table.read(index)
        assert fresh is not None
        assert fresh.void
        assert fresh.staleness == QUOTE_VOID
        writer.write(
            index,
            2**64 - 1,
            2**63,
            11,
            -12,
            -0.5,
            0.75,
            2,
            13,
            14,
            2**63 + 1,
            2**64 - 2,
            3,
            (1, 0.8, 0.0, 0.5, 1 / 4095),
        )
        writer.commit(11, -12)
        entry = table.read(index)
        assert entry is not None
        fields = {name: getattr(entry, name) for name in dir(entry) if not name.startswith("_")}
        assert fields == {
            "index": 0, "void": False, "pool": pool, "pair": pair, "token_in": sol, "token_out": usdc,
            "provider": local, "protocol": 3, "staleness": 2, "amount_index": 7, "amount_in": 2**64 - 1,
            "amount_out": 2**63, "slot": 11, "write_version": 13, "quoted_ns": -12, "price_impact_bps": -0.5,
            "confidence": 0.75, "oracle_amount_out": 2**63 + 1, "route": 2**64 - 2, "fee_amount": 14, "hops": 3,
            "batch": 1, "factors": (1.0, 3276 / 4095, 0.0, 2048 / 4095, 1 / 4095), "band": ConfidenceBand.VERIFY,
        }  # fmt: skip
        snapshot = table.snapshot()
        assert snapshot[index] == entry == snapshot[-1]
        record = as_array(snapshot)[index]
        for name in set(fields) - {"index", "void", "band", "factors"}:
            assert record[name] == fields[name], name
        assert [int(record["factors"]) >> 12 * place & 4095 for place in range(6)] == [4095, 3276, 0, 2048, 1, 0]
        assert table.find(pool=pool) == table.find(token_in=sol, token_out=usdc, amount_index=7) == [index]
        assert table.find(token_in=usdc) == []


def test_factors_are_five_shares_or_refused(folder: Path) -> None:
    writer = table_of(folder / "quotes", 1)
    table = QuoteTable(folder / "quotes")
    writer.write(0, 1, 1, 1, 1, factors=(0.0, 0.25, 0.5, 0.75, 1.0))
    first = table.read(0)
    assert first is not None
    assert first.factors == pytest.approx((0, 0.25, 0.5, 0.75, 1), abs=0.5 / 4095)
    packed = int(as_array(table.snapshot())[0]["factors"])
    writer.write(0, 1, 1, 1, 1, factors=packed)
    again = table.read(0)
    assert again is not None
    assert again.factors == first.factors
    for bad in ((1.001, 0, 0, 0, 0), (0, -1e-9, 0, 0, 0), (0, 0, 0, 0, math.nan)):
        with pytest.raises(ValueError, match="factors are 0 to 1"):
            writer.write(0, 1, 1, 1, 1, factors=bad)
    assert table.read(0) == again


@pytest.mark.parametrize(
    ("confidence", "band"),
    [
        (1.0, ConfidenceBand.EXECUTE), (0.9, ConfidenceBand.EXECUTE), (math.nextafter(0.9, 0), ConfidenceBand.VERIFY),
        (0.7, ConfidenceBand.VERIFY), (math.nextafter(0.7, 0), ConfidenceBand.CAUTIOUS), (0.5, ConfidenceBand.CAUTIOUS),
        (math.nextafter(0.5, 0), ConfidenceBand.SKIP), (0.0, ConfidenceBand.SKIP), (math.nan, ConfidenceBand.SKIP),
    ],
)  # fmt: skip
def test_bands(confidence: float, band: ConfidenceBand, folder: Path) -> None:
    writer = table_of(folder / "quotes", 1)
    writer.write(0, 1, 1, 1, 1, confidence=confidence)
    entry = QuoteTable(folder / "quotes").read(0)
    assert entry is not None
    assert entry.band == band


def test_a_refresh_changes_what_is_said_of_a_quote_and_not_the_quote(folder: Path) -> None:
    writer = table_of(folder / "quotes", 3)
    writer.write(1, 10, 20, 30, 40, 1.5, 0.9, 0, 2, 3, 4, 5, 6, (1, 1, 1, 1, 1))
    writer.write(2, 10, 20, 30, 40, staleness=QUOTE_VOID)
    writer.commit(5, 50)
    table = QuoteTable(folder / "quotes")
    assert writer.refresh(1, 45, 0.5, 1, (0.5, 1, 1, 1, 1), 7)
    assert not writer.refresh(2, 45, 0.5, 1, 0, 7), "a void entry has no news"
    before = {"amount_in": 10, "amount_out": 20, "slot": 30, "quoted_ns": 45, "price_impact_bps": 1.5}
    before |= {"write_version": 2, "fee_amount": 3, "oracle_amount_out": 7, "route": 5, "hops": 6}
    entry, void = table.read(1), table.read(2)
    assert entry is not None
    assert void is not None
    assert {name: getattr(entry, name) for name in before} == before
    assert (entry.confidence, entry.staleness, entry.factors[0]) == (0.5, 1, 2048 / 4095)
    assert void.void
    assert (void.quoted_ns, void.confidence, void.oracle_amount_out) == (45, 0.0, 7)
    with pytest.raises(SharedMemoryError, match="no entry 3"):
        writer.refresh(3, 1, 0.5, 1, 0, 7)


def test_a_refresh_is_told_only_when_staleness_or_band_change(folder: Path) -> None:
    writer = table_of(folder / "quotes", 3)
    table = QuoteTable(folder / "quotes")
    for index in range(3):
        writer.write(index, 1, 1, 1, 1, confidence=0.95)
    writer.commit(6, 60)
    cursor = table.cursor()
    assert not writer.refresh(0, 2, 0.91, 0, 0, 7)
    assert writer.refresh(1, 2, 0.89, 0, 0, 7)
    assert writer.refresh(2, 2, 0.95, 1, 0, 7)
    assert not table.snapshot().whole, "a refresh is part of a batch too"
    writer.commit(7, 70)
    assert cursor.poll() == (1, 2)
    assert not writer.refresh(0, 3, 0.92, 0, 0, 7)
    writer.commit(8, 80)
    assert cursor.poll() == ()
    # A silent refresh does not hide a write in the same batch.
    assert not writer.refresh(0, 4, 0.93, 0, 0, 7)
    writer.write(0, 5, 5, 5, 5)
    writer.commit(9, 90)
    assert cursor.poll() == (0,)


def test_a_table_of_an_earlier_layout_is_replaced_when_told(folder: Path) -> None:
    path = folder / "quotes"
    table_of(path).close()
    with path.open("r+b") as file:
        file.seek(8)
        file.write((1).to_bytes(8, "little"))
    with pytest.raises(SharedMemoryIncompatible, match="layout 1; layout 2 expected"):
        QuoteTableWriter(path)
    writer = QuoteTableWriter(path, replace=True)
    assert len(writer) == len(QuoteTable(path)) == 0


def test_the_same_key_is_the_same_entry(folder: Path) -> None:
    writer = table_of(folder / "quotes", 2)
    assert writer.entry(1, 1, 2) == 0
    assert writer.entry(2, 1, 2) == 1
    assert [writer.entry(1, 2, 1), writer.entry(1, 1, 2, amount_index=1), writer.entry(1, 1, 2, provider=0)] == [
        2,
        3,
        0,
    ]
    assert len(writer) == len(QuoteTable(folder / "quotes")) == 4


def test_names_are_shared(folder: Path) -> None:
    writer = QuoteTableWriter(folder / "quotes")
    table = QuoteTable(folder / "quotes")
    assert table.name("pool", 1) is None
    longest = "ü" * 60
    assert [writer.intern("pool", name) for name in ("a", "b", "a", longest)] == [1, 2, 1, 3]
    assert writer.intern("token", "a") == 1
    assert table.names("pool") == ["a", "b", longest]
    assert (table.id("pool", "b"), table.id("token", "b"), table.name("pool", 3)) == (2, None, longest)
    assert table.name("pool", 0) is None
    for bad in ("", "x" * 121):
        with pytest.raises(SharedMemoryError, match="1 to 120 bytes"):
            writer.intern("pool", bad)
    with pytest.raises(SharedMemoryError, match="token, pair, pool or provider"):
        writer.intern("venue", "x")


def test_limits_are_refused(folder: Path) -> None:
    writer = QuoteTableWriter(folder / "quotes", capacity=2, ring=16, names=4)
    ids = [writer.intern("token", name) for name in "abcd"]
    with pytest.raises(SharedMemoryFull, match="directory is full: 4"):
        writer.intern("token", "e")
    writer.entry(0, ids[0], ids[1])
    writer.entry(0, ids[1], ids[0])
    with pytest.raises(SharedMemoryFull, match="quote table is full: 2"):
        writer.entry(0, ids[0], ids[2])
    with pytest.raises(SharedMemoryError, match="not in the directory"):
        writer.entry(9, ids[0], ids[1])
    with pytest.raises(SharedMemoryError, match="no entry 2"):
        writer.write(2, 1, 1, 1, 1)
    with pytest.raises(OverflowError):
        writer.write(0, -1, 1, 1, 1)
    with pytest.raises(OverflowError):
        writer.write(0, 2**64, 1, 1, 1)
    table = QuoteTable(folder / "quotes")
    with pytest.raises(IndexError):
        table.read(2)
    with pytest.raises(IndexError):
        table.snapshot()[2]
    for capacity, ring, names in [(0, 512, 8), (8, 17, 8), (8, 0, 8), (8, 512, 1)]:
        with pytest.raises(SharedMemoryError):
            QuoteTableWriter(folder / "other", capacity, ring, names)


def test_a_batch_is_announced_once_and_whole(folder: Path) -> None:
    writer = table_of(folder / "quotes")
    table = QuoteTable(folder / "quotes")
    one, two = table.cursor(), table.cursor()
    assert one.poll() == ()
    for index in (3, 1, 3):
        writer.write(index, 9, 9, 6, 60)
    assert one.poll() == ()
    assert not one.wait(0)
    assert not table.snapshot().whole
    assert (table.slot, table.market_ns) == (5, 50)
    writer.commit(6, 60)
    assert one.wait(0)
    assert one.poll() == (1, 3)
    assert one.poll() == ()
    assert table.snapshot().whole
    assert (table.slot, table.market_ns) == (6, 60)
    assert abs(table.committed_ns - time.time_ns()) < 10**10
    writer.write(0, 9, 9, 7, 70)
    writer.commit(7, 70)
    assert two.poll() == (0, 1, 3)


def test_an_empty_batch_wakes_readers(folder: Path) -> None:
    writer = table_of(folder / "quotes")
    table = QuoteTable(folder / "quotes")
    cursor = table.cursor()
    writer.commit(6, 60)
    assert cursor.wait(0)
    assert cursor.poll() == ()
    assert not cursor.wait(0)
    assert table.slot == 6


def test_a_lapped_reader_knows_it(folder: Path) -> None:
    writer = table_of(folder / "quotes", 40, ring=32)
    table = QuoteTable(folder / "quotes")
    cursor = table.cursor()
    for number in range(32):
        writer.write(number % 4, number, number, number, number)
        writer.commit(number, number)
    assert cursor.poll() == (0, 1, 2, 3)
    for number in range(33):
        writer.write(number % 4, number, number, number, number)
        writer.commit(number, number)
    assert cursor.poll() is None
    assert cursor.laps == 1
    assert cursor.poll() == ()
    # One batch larger than the ring.
    for index in range(40):
        writer.write(index, 1, 1, 99, 99)
    writer.commit(99, 99)
    assert cursor.poll() is None
    assert {entry.slot for index in range(40) if (entry := table.read(index))} == {99}
    writer.write(7, 1, 1, 100, 100)
    writer.commit(100, 100)
    assert cursor.poll() == (7,)


def test_a_cursor_tells_the_pools_that_changed_and_how_far_behind_it_is(folder: Path) -> None:
    writer = table_of(folder / "quotes", 4, ring=32)
    again = writer.entry(2, 2, 1)
    table = QuoteTable(folder / "quotes")
    cursor = table.cursor()
    assert (cursor.poll_pools(), cursor.behind) == ((), 0)
    for index in (3, 1, again):
        writer.write(index, 9, 9, 6, 60)
    writer.commit(6, 60)
    assert cursor.behind == 3
    assert cursor.poll_pools() == (2, 4)
    assert (cursor.poll_pools(), cursor.behind) == ((), 0)
    for _ in range(40):
        writer.write(0, 9, 9, 6, 60)
        writer.commit(6, 60)
    assert cursor.behind == 40 > table.ring
    assert cursor.poll_pools() is None
    assert (cursor.laps, cursor.behind) == (1, 0)


def test_two_thousand_entries(folder: Path) -> None:
    writer = table_of(folder / "quotes", 2_000)
    table = QuoteTable(folder / "quotes")
    snapshot = table.snapshot()
    assert len(snapshot) == len(table) == 2_000
    assert snapshot.whole
    assert snapshot.busy == []
    array = as_array(snapshot)
    assert array.itemsize == 128
    assert not array.flags.writeable
    assert (array["amount_out"] == np.arange(2_000, 4_000)).all()
    # A later snapshot does not change an earlier one that is still looked at.
    writer.write(0, 1, 1, 1, 1)
    later = table.snapshot()
    del snapshot
    assert table.snapshot()[0] == later[0]
    assert array["amount_out"][0] == 2_000


def test_a_waiting_reader_in_another_process_wakes(folder: Path, processes: Processes) -> None:
    path = folder / "quotes"
    other = processes.start(write_when_told, path)
    assert other.hear() == "ready"
    table = QuoteTable(path)
    cursor = table.cursor()
    delays = []
    for number in range(100, 120):
        other.tell(number)
        assert cursor.wait(10)
        woken = time.monotonic_ns()
        assert cursor.poll() == (0,)
        entry = table.read(0)
        assert entry is not None
        assert entry.amount_in == number == table.slot
        delays.append(woken - other.hear())
    assert min(delays) < 5_000_000
    start = time.process_time()
    assert not cursor.wait(0.3)
    assert time.process_time() - start < 0.1, "waiting burns no processor time"
    assert table.writer_alive
    assert table.writer_pid == other.process.pid


async def test_a_watch_wakes_the_event_loop(folder: Path) -> None:
    writer = table_of(folder / "quotes")
    table = QuoteTable(folder / "quotes")
    cursor = table.cursor()
    watch = Watch(table)
    try:
        assert not await watch.wait(0.05)
        waiting = asyncio.create_task(watch.wait(10))
        await asyncio.sleep(0.05)
        for _ in range(3):
            writer.write(1, 1, 1, 1, 1)
            writer.commit(6, 60)
        assert await waiting
        await asyncio.sleep(0.05)
        assert cursor.poll() == (1,)
    finally:
        watch.close()


def test_a_reader_may_come_before_its_writer(folder: Path, processes: Processes) -> None:
    path = folder / "quotes"
    with pytest.raises(SharedMemoryError, match="writer has not started"):
        QuoteTable(path)
    with pytest.raises(SharedMemoryError, match="writer has not started"):
        open_when_there(QuoteTable, path, 0.05)
    processes.start(write_when_told, path)
    assert len(open_when_there(QuoteTable, path, 20)) >= 0


def test_the_reader_is_the_package_s_own_name() -> None:
    import pipeline

    assert pipeline.QuoteTable is QuoteTable
    with pytest.raises(AttributeError, match="no attribute 'QuoteTables'"):
        pipeline.QuoteTables  # noqa: B018 - the look itself raises
