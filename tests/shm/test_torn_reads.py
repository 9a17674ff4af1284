"""A writer at full speed: the protocol gives no torn reads, and the same read without it does."""

from __future__ import annotations

from pathlib import Path

from shm_processes import Processes, hammer, inspect

SECONDS = 2.0


def test_no_read_is_torn(folder: Path, processes: Processes) -> None:
    path = folder / "quotes"
    writer = processes.start(hammer, path, SECONDS + 1)
    assert writer.hear() == "ready"
    readers = [processes.start(inspect, path, SECONDS, True) for _ in range(2)]
    results = [reader.hear() for reader in readers]
    assert writer.hear() > 1_000_000
    for whole, torn, _busy in results:
        assert torn == 0
        assert whole > 1_000_000


def test_without_the_protocol_reads_are_torn(folder: Path, processes: Processes) -> None:
    for attempt in range(5):
        path = folder / f"quotes-{attempt}"
        writer = processes.start(hammer, path, SECONDS + 1)
        assert writer.hear() == "ready"
        _whole, torn, _busy = processes.start(inspect, path, SECONDS, False).hear()
        writer.kill()
        if torn:
            return
    raise AssertionError("no torn read was seen: the test above would not see one either")
