"""What runs in the other process of a two-process test: small programs that talk through a pipe."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipeline._core import _shm_hammer, _shm_inspect
from pipeline.shm import PermitWord, PoolBlobTable, PoolBlobWriter, QuoteTable, QuoteTableWriter, open_when_there

_spawn = multiprocessing.get_context("spawn")


class Other:
    """A process, and the pipe to it."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe

    def tell(self, value: object = None) -> None:
        self.pipe.send(value)

    def hear(self, timeout_s: float = 30) -> Any:
        assert self.pipe.poll(timeout_s), "the other process says nothing"
        return self.pipe.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


class Processes:
    def __init__(self) -> None:
        self._started: list[Other] = []

    def start(self, program: Callable[..., None], *arguments: object) -> Other:
        here, there = _spawn.Pipe()
        process = _spawn.Process(target=program, args=(there, *arguments), daemon=True)
        process.start()
        there.close()
        self._started.append(Other(process, here))
        return self._started[-1]

    def stop(self) -> None:
        for other in self._started:
            if other.process.is_alive():
                other.kill()


def table_of(path: Path, entries: int = 4, **options: Any) -> QuoteTableWriter:
    """A writer with `entries` entries, each of its own pool, written and committed once."""
    writer = QuoteTableWriter(path, **options)
    token_in, token_out = writer.intern("token", "SOL"), writer.intern("token", "USDC")
    for number in range(entries):
        index = writer.entry(writer.intern("pool", f"pool-{number}"), token_in, token_out)
        writer.write(index, 1_000, 2_000 + number, 5, 50)
    writer.commit(5, 50)
    return writer


def write_when_told(pipe: Connection, path: Path) -> None:
    """Make a table; at each number heard, write entry 0 with it and commit; say when that was."""
    writer = table_of(path)
    pipe.send("ready")
    while (number := pipe.recv()) is not None:
        writer.write(0, number, number, number, number)
        before = time.monotonic_ns()
        writer.commit(number, number)
        pipe.send(before)


def hold(pipe: Connection, path: Path) -> None:
    """Own a table until told otherwise."""
    writer = table_of(path)
    pipe.send(os.getpid())
    pipe.recv()
    writer.close()


def die_inside_a_write(pipe: Connection, path: Path, index: int) -> None:
    """Open a batch, write one entry whole, leave another half-written, and wait to be killed."""
    writer = QuoteTableWriter(path)
    writer.write(0, 77, 77, 77, 77)
    writer._tear(index)
    pipe.send("torn")
    pipe.recv()


def die_inside_a_blob(pipe: Connection, path: Path, pool_id: int) -> None:
    writer = PoolBlobWriter(path)
    writer._tear(pool_id)
    pipe.send("torn")
    pipe.recv()


def write_without_end(pipe: Connection, path: Path) -> None:
    """Write and commit for ever, batches of all entries with one number each."""
    writer = table_of(path, 16)
    pipe.send("ready")
    number = 0
    while True:
        number += 1
        for index in range(16):
            writer.write(index, number, number, number, number)
        writer.commit(number, number)


def hammer(pipe: Connection, path: Path, seconds: float) -> None:
    writer = table_of(path)
    pipe.send("ready")
    pipe.send(_shm_hammer(writer, 0, seconds))


def inspect(pipe: Connection, path: Path, seconds: float, protected: bool) -> None:
    table = open_when_there(QuoteTable, path, 10)
    pipe.send(_shm_inspect(table, 0, seconds, protected))


def blobs_without_end(pipe: Connection, path: Path) -> None:
    """Write blobs of changing length and content: each is one byte, repeated."""
    writer = PoolBlobWriter(path)
    number = 0
    while True:
        number += 1
        writer.write(3, bytes([number % 251]) * (1 + number * 37 % 20_000), number)
        if number == 1:
            pipe.send("ready")


def read_blobs(pipe: Connection, path: Path, pool_id: int) -> None:
    blob = open_when_there(PoolBlobTable, path, 10).read(pool_id)
    pipe.send(None if blob is None else (blob.data, blob.slot, blob.write_version, blob.observed_ns))


def halt(pipe: Connection, path: Path) -> None:
    pipe.send(PermitWord(path).halt())


def open_as_nobody(pipe: Connection, opener: Callable[[Path], object], path: Path) -> None:
    """Open a file as a user who owns nothing, and tell what that raised."""
    os.setgid(65534)
    os.setuid(65534)
    try:
        opened = opener(path)
    except Exception as error:
        pipe.send((type(error).__name__, str(error)))
        return
    if isinstance(opened, PermitWord):
        try:
            opened.halt()
        except Exception as error:
            pipe.send((type(error).__name__, str(error)))
            return
    pipe.send(("", ""))
