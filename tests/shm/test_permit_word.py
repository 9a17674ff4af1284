"""The permit word: halted unless everything speaks for more."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from shm_processes import Processes, halt

from pipeline.shm import PermitWord, PermitWordWriter, SharedMemoryError

HALTED, REDUCING, ACTIVE = 0, 1, 2


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_a_lease_is_read_and_runs_out(folder: Path) -> None:
    manager = PermitWordWriter(folder / "permit")
    word = PermitWord(folder / "permit")
    assert word.read() == (0, 0, 0, 0, 0, 0)
    assert word.state() == HALTED
    before = boottime_ns()
    manager.renew(ACTIVE, 7, 60_000_000_000, 0)
    reading = word.read()
    assert reading is not None
    state, epoch, renewed_ns, lease_ns, halts, lifted = reading
    assert (state, epoch, lease_ns, halts, lifted) == (ACTIVE, 7, 60_000_000_000, 0, 0)
    assert before <= renewed_ns <= boottime_ns()
    assert word.state() == word.state(renewed_ns + lease_ns - 1) == ACTIVE
    assert word.state(renewed_ns + lease_ns) == HALTED
    assert word.state(renewed_ns - 1_000_000_000) == HALTED, "renewed in the future is not believed"
    manager.renew(REDUCING, 8, 60_000_000_000, 0)
    assert word.state() == REDUCING
    manager.renew(ACTIVE, 9, 20_000_000, 0)
    time.sleep(0.03)
    assert word.state() == HALTED
    with pytest.raises(SharedMemoryError, match="no permit state 3"):
        manager.renew(3, 9, 1, 0)


def test_a_halt_by_any_process_outlives_renewals(folder: Path, processes: Processes) -> None:
    manager = PermitWordWriter(folder / "permit")
    word = PermitWord(folder / "permit")
    manager.renew(ACTIVE, 1, 10**11, 0)
    assert word.state() == ACTIVE
    assert processes.start(halt, folder / "permit").hear() == 1
    assert word.state() == HALTED
    manager.renew(ACTIVE, 1, 10**11, 0)
    assert word.state() == HALTED, "a renewal does not lift a halt"
    assert word.halt() == 2
    manager.renew(ACTIVE, 2, 10**11, 1)
    assert word.state() == HALTED, "the second halt was not lifted"
    assert manager.halts == 2
    manager.renew(ACTIVE, 2, 10**11, manager.halts)
    assert word.state() == ACTIVE
    manager.renew(ACTIVE, 2, 10**11, 3)
    assert word.state() == HALTED, "a halt cannot be lifted before it is given"
    assert manager.halt() == 3
    del manager
    # A new manager lifts nothing by starting.
    successor = PermitWordWriter(folder / "permit")
    assert successor.halts == 3
    successor.halt()
    assert word.state() == HALTED
