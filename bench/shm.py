"""Shared memory: write, read, "nothing changed", snapshot of 2,000, wake-up across processes, torn reads.

Ours against pure Python (`mmap` + `struct`, the same seqlock, as far as Python can have one) and iceoryx2 (blackboard,
event; left out where it is not installed), in turn, round after round. A figure is the median of its rounds, per
operation, the loop included. Ours writes a quote from 7 Python integers and floats and reads it into an object whose
fields become Python objects when they are asked for; pure Python packs and unpacks the same 15 words; iceoryx2 copies a
ctypes structure that is ready beforehand and gives bytes. A snapshot of ours is one object with a read-only buffer.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import socket
import struct
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import repeat
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.report import Report, Row, row
from bench.shm_torn import torn_reads_rows
from pipeline.shm import PermitWord, PermitWordWriter, QuoteTable, QuoteTableWriter

ENTRIES = 2_000
ROUNDS = 15
WAKE_UPS = 400
TORN_SECONDS = 6.0
GOALS_NS = {"write": 60.0, "read": 100.0, "nothing changed": 60.0, "snapshot of 2,000": 15_000.0, "permit word": 100.0}
WAKE_GOAL_US = 15.0
TORN_READS_GOAL = 10**8
AMOUNT, SLOT, QUOTED_NS = 1_000_000_000, 300_000_000, 1_760_000_000_000_000_000

Operation = Callable[[int], Any]
_spawn = multiprocessing.get_context("spawn")


def _place() -> Path:
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="pipeline-bench-", dir=memory if memory.is_dir() else None))


def _table(path: Path, entries: int = ENTRIES) -> QuoteTableWriter:
    writer = QuoteTableWriter(path)
    one, other = writer.intern("token", "one"), writer.intern("token", "other")
    for number in range(entries):
        entry = writer.entry(writer.intern("pool", f"pool {number}"), one, other)
        writer.write(entry, number, number, number, number)
    writer.commit(1, 1)
    return writer


def _ours(folder: Path) -> dict[str, Operation]:
    writer = _table(folder / "quotes")
    table = QuoteTable(folder / "quotes")
    cursor = table.cursor()
    permit_writer = PermitWordWriter(folder / "permit")
    permit_writer.renew(2, 1, 10**12, 0)
    permit = PermitWord(folder / "permit")
    write, read, poll, state = writer.write, table.read, cursor.poll, permit.state

    amount, slot, quoted_ns = AMOUNT, SLOT, QUOTED_NS

    def writing(times: int) -> None:
        for _ in repeat(None, times):
            write(7, amount, amount, slot, quoted_ns, 1.5, 0.9)

    def reading(times: int) -> None:
        for _ in repeat(None, times):
            read(7)

    def polling(times: int) -> None:
        for _ in repeat(None, times):
            poll()

    def scanning(times: int) -> None:
        for _ in repeat(None, times):
            table.snapshot()

    def permitting(times: int) -> None:
        for _ in repeat(None, times):
            state()

    writing(10)
    entry = read(7)
    assert entry is not None
    assert (entry.amount_in, entry.amount_out, entry.confidence) == (AMOUNT, AMOUNT, 0.9)
    assert poll() == ()
    writer.commit(2, 2)
    assert poll() == (7,)
    snapshot = table.snapshot()
    assert len(snapshot) == ENTRIES
    assert snapshot[7] == entry
    assert snapshot.whole
    assert state() == 2
    return {
        "write": writing,
        "read": reading,
        "nothing changed": polling,
        "snapshot of 2,000": scanning,
        "permit word": permitting,
    }


def _pure_python(folder: Path) -> dict[str, Operation]:
    path = folder / "pure-python"
    path.write_bytes(bytes(64 + ENTRIES * 128))
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    word, body, entry = struct.Struct("<Q"), struct.Struct("<4Qq2d8Q"), struct.Struct("<5Qq2d8Q")
    at = 64 + 7 * 128
    amount, slot, quoted_ns = AMOUNT, SLOT, QUOTED_NS
    put_word, put_body, get_word, get_body = word.pack_into, body.pack_into, word.unpack_from, body.unpack_from

    def writing(times: int) -> None:
        for _ in repeat(None, times):
            (sequence,) = get_word(memory, at)
            put_word(memory, at, sequence + 1)
            put_body(memory, at + 8, 1, 2, amount, amount, quoted_ns, 1.5, 0.9, slot, 0, 0, 0, 0, 0, 0, 0)
            put_word(memory, at, sequence + 2)

    def reading(times: int) -> Any:
        value = None
        for _ in repeat(None, times):
            before = get_word(memory, at)
            value = get_body(memory, at + 8)
            assert before == get_word(memory, at)
        return value

    def polling(times: int) -> None:
        (seen,) = get_word(memory, 0)
        for _ in repeat(None, times):
            (head,) = get_word(memory, 0)
            assert head == seen

    def scanning(times: int) -> Any:
        found = None
        for _ in repeat(None, times):
            found = list(entry.iter_unpack(memory[64:]))
        return found

    writing(10)
    assert reading(1)[2:4] == (AMOUNT, AMOUNT)
    assert len(scanning(1)) == ENTRIES
    return {"write": writing, "read": reading, "nothing changed": polling, "snapshot of 2,000": scanning}


class _Value(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint64 * 16)]


def _iceoryx2(name: str) -> tuple[dict[str, Operation], list[Any]]:
    """Return the operations, and what must be kept alive meanwhile."""
    import iceoryx2 as iox

    iox.set_log_level(iox.LogLevel.Error)
    node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
    creator = node.service_builder(iox.ServiceName.new(name)).blackboard_creator(ctypes.c_uint64)
    for number in range(ENTRIES):
        creator = creator.add(ctypes.c_uint64(number), _Value())
    service = creator.create()
    writer, reader = service.writer_builder().create(), service.reader_builder().create()
    target = writer.entry(ctypes.c_uint64(7), _Value)
    handles = [reader.entry(ctypes.c_uint64(number), _Value) for number in range(ENTRIES)]
    source, value = handles[7], _Value()

    def writing(times: int) -> None:
        for _ in repeat(None, times):
            target.update_with_copy(value)

    def reading(times: int) -> None:
        for _ in repeat(None, times):
            source.get()

    def polling(times: int) -> None:
        seen = source.get()
        for _ in repeat(None, times):
            assert source.is_up_to_date(seen)

    def scanning(times: int) -> None:
        for _ in repeat(None, times):
            [handle.get() for handle in handles]

    value.words[3] = AMOUNT
    writing(10)
    assert source.get().decode_as(_Value).words[3] == AMOUNT
    operations: dict[str, Operation] = {
        "write": writing,
        "read": reading,
        "nothing changed": polling,
        "snapshot of 2,000": scanning,
    }
    return operations, [node, service, writer, reader]


def _timed(contenders: dict[str, dict[str, Operation]], rounds: int) -> dict[tuple[str, str], float]:
    """Return nanoseconds per operation, by operation and contender: medians of rounds timed in turn."""
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name in GOALS_NS:
            for contender, operations in contenders.items():
                if name not in operations:
                    continue
                times = 40 if "snapshot" in name else 20_000
                begun = time.perf_counter_ns()
                operations[name](times)
                taken.setdefault((name, contender), []).append((time.perf_counter_ns() - begun) / times)
    return {key: median(values) for key, values in taken.items()}


def _operations(folder: Path, rounds: int) -> list[Row]:
    contenders = {"ours": _ours(folder), "mmap + struct": _pure_python(folder)}
    keep: list[Any] = []
    if find_spec("iceoryx2"):
        contenders["iceoryx2 blackboard"], keep = _iceoryx2(f"bench/{folder.name}")
    measured = _timed(contenders, rounds)
    rows = []
    for name, goal in GOALS_NS.items():
        unit, scale, text = ("us", 1e3, f"<= {goal / 1e3:.0f} us") if goal > 1e3 else ("ns", 1.0, f"<= {goal:.0f} ns")
        ours, met = measured[name, "ours"], measured[name, "ours"] <= goal
        others = [contender for contender in contenders if contender != "ours" and (name, contender) in measured]
        if not others:
            rows.append(row(name, unit, ours / scale, goal=text, met=met))
        for place, other in enumerate(others):
            value = measured[name, other] / scale
            mark: dict[str, Any] = {"goal": text, "met": met} if place == 0 else {}
            rows.append(row(name, unit, ours / scale, other, value, **mark))
    keep.clear()
    return rows


def _waker(pipe: Connection, folder: Path, count: int, with_iceoryx2: bool) -> None:
    """Wake the other process by each means in turn; tell at the end when each was."""
    writer = _table(folder / "wake", 4)
    notifier: Any = None
    if with_iceoryx2:
        import iceoryx2 as iox

        node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
        event = node.service_builder(iox.ServiceName.new(f"wake/{folder.name}")).event().open_or_create()
        notifier = event.notifier_builder().create()
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    pipe.send("ready")
    pipe.recv()
    sender.connect(str(folder / "socket"))
    at: dict[str, list[int]] = {"ours": [], "Unix socket": [], "iceoryx2 event": []}
    for number in range(count):
        time.sleep(0.002)
        at["ours"].append(time.monotonic_ns())
        writer.write(number % 4, number, number, number, number)
        writer.commit(number, number)
        time.sleep(0.002)
        at["Unix socket"].append(time.monotonic_ns())
        sender.send(b"x")
        if notifier is not None:
            time.sleep(0.002)
            at["iceoryx2 event"].append(time.monotonic_ns())
            notifier.notify()
    pipe.send(at)
    pipe.recv()


def _wake_ups(folder: Path, count: int) -> list[Row]:
    with_iceoryx2 = find_spec("iceoryx2") is not None
    here, there = _spawn.Pipe()
    other = _spawn.Process(target=_waker, args=(there, folder, count, with_iceoryx2), daemon=True)
    other.start()
    assert here.recv() == "ready"
    table = QuoteTable(folder / "wake")
    cursor = table.cursor()
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(folder / "socket"))
    listener: Any = None
    if with_iceoryx2:
        import iceoryx2 as iox

        node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
        event = node.service_builder(iox.ServiceName.new(f"wake/{folder.name}")).event().open_or_create()
        listener = event.listener_builder().create()
        patience = iox.Duration.from_secs(5)
    woken: dict[str, list[int]] = {"ours": [], "Unix socket": [], "iceoryx2 event": []}
    here.send("go")
    burnt, begun = time.thread_time_ns(), time.monotonic_ns()
    for number in range(count):
        assert cursor.wait(5)
        woken["ours"].append(time.monotonic_ns())
        assert cursor.poll() == (number % 4,)
        assert receiver.recv(1) == b"x"
        woken["Unix socket"].append(time.monotonic_ns())
        if listener is not None:
            assert listener.timed_wait(patience)
            woken["iceoryx2 event"].append(time.monotonic_ns())
    share = (time.thread_time_ns() - burnt) / (time.monotonic_ns() - begun)
    assert share < 0.25, f"the waiting thread used {share:.0%} of a core"
    at = here.recv()
    here.send("done")
    other.join()
    delays = {
        name: [(end - start) / 1e3 for start, end in zip(at[name], ends, strict=True)] for name, ends in woken.items()
    }
    rows = []
    p50 = median(delays["ours"])
    p99 = quantiles(delays["ours"], n=100)[98]
    for place, name in enumerate(name for name in ("Unix socket", "iceoryx2 event") if delays[name]):
        goal: dict[str, Any] = {"goal": f"<= {WAKE_GOAL_US:.0f} us", "met": p50 <= WAKE_GOAL_US} if place == 0 else {}
        rows.append(row("commit -> other process awake, p50", "us", p50, name, median(delays[name]), **goal))
        other_p99 = quantiles(delays[name], n=100)[98]
        rows.append(row("commit -> other process awake, p99", "us", p99, name, other_p99))
    return sorted(rows, key=lambda item: item["name"])


def run(
    rounds: int = ROUNDS, wake_ups: int = WAKE_UPS, torn_reads: int = TORN_READS_GOAL, torn_s: float = TORN_SECONDS
) -> Report:
    """Measure, after asserting that every contender reads back what was written."""
    import shutil

    folder = _place()
    try:
        rows = _operations(folder, rounds)
        rows += _wake_ups(folder, wake_ups)
        torn, note = torn_reads_rows(folder, torn_reads, torn_s)
        rows += torn
    finally:
        shutil.rmtree(folder)
    notes = [note]
    if not find_spec("iceoryx2"):
        notes.append("iceoryx2 is not installed; its rows are left out.")
    return {
        "bench": "shm",
        "what": f"{ENTRIES:,} entries of 128 bytes; medians of {rounds} rounds",
        "rows": rows,
        "notes": notes,
    }
