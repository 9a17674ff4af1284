"""The gate and the word in shared memory: obeyed from the moment it is there, and closed where it cannot be read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_server import ACTIVE, FakeServer, why
from permit_stage import closed, eventually, opened

from pipeline.permit import Allowed, Gate, Refused, RefusedBy
from pipeline.permit.state import boottime_ns
from pipeline.permit.word import word_path
from pipeline.shm import PermitWord, PermitWordWriter


def test_a_gate_that_requires_the_word_is_closed_without_it(
    server: FakeServer, make: Callable[..., Gate], tmp_path: Path
) -> None:
    path = word_path(tmp_path)
    gate = make(word=path, shared_memory="required")
    lenient = make(word=path)
    for each in (gate, lenient):
        assert each.wait_ready(5)
    server_renews(server, 2)
    assert why(gate) is RefusedBy.WORD_MISSING
    assert "missing" in lenient.view().word


def server_renews(server: FakeServer, times: int) -> None:
    for _ in range(times):
        server.renew()
        time.sleep(0.02)


def test_the_word_is_obeyed_from_the_moment_it_is_there(
    server: FakeServer, make: Callable[..., Gate], tmp_path: Path
) -> None:
    gate = make(word=word_path(tmp_path))
    assert gate.wait_ready(5)
    server.renew()
    eventually(opened(gate))
    writer = PermitWordWriter(word_path(tmp_path))
    eventually(lambda: (server.renew(), why_or_none(gate))[1] is RefusedBy.WORD_STALE)
    writer.renew(int(ACTIVE), 1, 10**9, 0)
    server.renew()
    eventually(opened(gate))
    assert PermitWord(word_path(tmp_path)).halt() == 1
    assert why(gate) is RefusedBy.WORD_HALTED
    writer.renew(int(ACTIVE), 1, 10**9, 0)  # a renewal lifts nothing
    assert why(gate) is RefusedBy.WORD_HALTED
    writer.renew(int(ACTIVE), 1, 10**9, 1)
    server.renew()
    eventually(opened(gate))


def why_or_none(gate: Gate) -> RefusedBy | None:
    verdict = gate.check()
    return verdict.reason if isinstance(verdict, Refused) else None


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 4096, b"PLPERMIT" + b"\xff" * 4088])
def test_a_file_that_is_no_word_keeps_it_closed(
    server: FakeServer, make: Callable[..., Gate], tmp_path: Path, content: bytes
) -> None:
    word_path(tmp_path).write_bytes(content)
    gate = make(word=word_path(tmp_path))
    assert gate.wait_ready(5)
    server_renews(server, 2)
    assert why(gate) is RefusedBy.WORD_UNREADABLE


def test_a_word_whose_writer_died_in_the_middle_keeps_it_closed(
    server: FakeServer, make: Callable[..., Gate], tmp_path: Path
) -> None:
    writer = PermitWordWriter(word_path(tmp_path))
    writer.renew(int(ACTIVE), 1, 10**9, 0)
    gate = make(word=word_path(tmp_path))
    assert gate.wait_ready(5)
    server.renew()
    eventually(opened(gate))
    writer._tear()
    assert why(gate) is RefusedBy.WORD_UNREADABLE


def test_a_word_that_was_made_anew_is_found(server: FakeServer, make: Callable[..., Gate], tmp_path: Path) -> None:
    path = word_path(tmp_path)
    writer = PermitWordWriter(path)
    writer.renew(int(ACTIVE), 1, 10**9, 0)
    gate = make(word=path)
    assert gate.wait_ready(5)
    server.renew()
    eventually(opened(gate))
    path.unlink()
    fresh = PermitWordWriter(path)

    def renewed() -> bool:
        server.renew()
        fresh.renew(int(ACTIVE), 1, 10**9, 0)
        time.sleep(0.02)
        return opened(gate)()

    eventually(lambda: (server.renew(), time.sleep(0.02), closed(gate)())[2], within_s=3)
    eventually(renewed, within_s=3)
    PermitWord(path).halt()
    assert why(gate) is RefusedBy.WORD_HALTED


def test_the_check_is_cheap(server: FakeServer, make: Callable[..., Gate], tmp_path: Path) -> None:
    writer = PermitWordWriter(word_path(tmp_path))
    gate = make(word=word_path(tmp_path))
    assert gate.wait_ready(5)
    best = float("inf")
    for _ in range(20):
        writer.renew(int(ACTIVE), 1, 10**9, 0)
        server.renew()
        eventually(opened(gate))
        began = boottime_ns()
        for _ in range(500):
            verdict = gate.check()
        best = min(best, (boottime_ns() - began) / 500)
        assert isinstance(verdict, Allowed)
    assert best < 50_000  # measured 3 us; the bound only catches what is out of all proportion
