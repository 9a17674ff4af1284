"""The gate against a server that misbehaves: it stays closed, and comes back by itself."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_server import ACTIVE, HALTED, FakeServer, frame, permit, switch, why
from permit_stage import closed, eventually, opened

from pipeline.messages import Command
from pipeline.permit import Allowed, Gate, Refused, RefusedBy
from pipeline.permit.link import Login
from pipeline.permit.state import boottime_ns


def test_closed_before_it_is_started() -> None:
    gate = Gate(Login("nats://127.0.0.1:1", "test"), word=None)
    assert why(gate) is RefusedBy.NOT_CONNECTED


def test_closed_until_a_permit_comes_and_after_it_was_closed(server: FakeServer, make: Callable[..., Gate]) -> None:
    gate = make()
    assert gate.wait_ready(5)
    assert why(gate) is RefusedBy.NO_PERMIT
    server.renew()
    eventually(opened(gate))
    gate.close()
    assert why(gate) is RefusedBy.CLOSED


def test_a_halt_in_the_buffer_is_read_by_the_check_itself(server: FakeServer, gate: Gate) -> None:
    with gate._lock:  # the gate's own thread cannot read
        server.send(frame("system.kill_switch", 1, switch(HALTED, 2)))
        time.sleep(0.05)
    assert why(gate) is RefusedBy.HALTED


def test_half_a_halt_is_completed_by_its_other_half(server: FakeServer, gate: Gate) -> None:
    data = frame("system.kill_switch", 1, switch(HALTED, 2))
    server.answer_pings = False  # an answer must not come in the middle of a frame
    time.sleep(0.05)
    for index in range(len(data) - 1):
        server.send(data[index : index + 1])
    time.sleep(0.02)
    assert isinstance(gate.check(), Allowed)
    server.send(data[-1:])
    eventually(closed(gate), within_s=0.3)
    assert why(gate) is RefusedBy.HALTED


def test_a_stale_epoch_is_ignored(server: FakeServer, gate: Gate) -> None:
    server.send(frame("system.kill_switch", 1, switch(HALTED, 5)))
    eventually(closed(gate))
    server.send(frame("system.kill_switch", 1, switch(ACTIVE, 4)))
    server.renew(epoch=4)
    server.renew(epoch=1)
    eventually(lambda: gate.view().stale == 3)
    assert why(gate) is RefusedBy.HALTED
    server.send(frame("system.kill_switch", 1, switch(ACTIVE, 6)))
    time.sleep(0.02)
    assert why(gate) is RefusedBy.NO_PERMIT  # resumed, but under no permit yet
    server.renew(epoch=6)
    eventually(opened(gate))


def test_an_old_permit_does_not_open_a_gate_that_slept(server: FakeServer, brief: Gate) -> None:
    # Permits lie in the buffer while the process sleeps longer than a lease; the manager may be long dead by now.
    with brief._lock:
        for _ in range(5):
            server.renew()
            time.sleep(0.15)
    assert why(brief) is RefusedBy.LEASE_EXPIRED
    # The next one, after the server has answered us again, counts.
    eventually(lambda: server.pings > 1)
    time.sleep(0.05)
    eventually(lambda: (server.renew(), time.sleep(0.02), opened(brief)())[2])


def test_a_server_that_answers_no_ping_gives_no_lease(server: FakeServer, brief: Gate) -> None:
    server.answer_pings = False
    began = time.monotonic()
    while time.monotonic() - began < 0.8:
        server.renew()
        time.sleep(0.05)
    assert why(brief) is RefusedBy.LEASE_EXPIRED


def test_a_pong_speaks_for_what_comes_after_it_only(server: FakeServer, make: Callable[..., Gate]) -> None:
    gate = make(max_lease_s=2.0)
    assert gate.wait_ready(5)
    server.answer_pings = False
    proven = gate._link.proven_ns if gate._link is not None else 0
    eventually(lambda: server.pings == 2)  # sent, not answered
    eventually(lambda: boottime_ns() > proven + 2_050_000_000)
    # The network delivers what it held up: a permit from before our ping, and the answer to the ping behind it.
    server.send(frame("system.permit", 2, permit(lease_ms=2000)) + b"PONG\r\n")
    eventually(lambda: gate.view().permits == 1)
    assert why(gate) is RefusedBy.LEASE_EXPIRED


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage\r\n",
        b"\x00\xff" * 50 + b"\r\n",
        b"MSG system.permit 2 999999999\r\n",
        b"MSG nothing 9 2\r\nhi\r\n",
        frame("system.kill_switch", 1, b"not a flatbuffer"),
        frame("system.kill_switch", 1, b""),
        frame("system.kill_switch", 1, Command(id="c").encode()),
        b"-ERR 'Stale Connection'\r\n",
    ],
)
def test_garbage_closes_the_gate_until_the_latch_was_read_again(server: FakeServer, gate: Gate, garbage: bytes) -> None:
    server.latch = switch(HALTED, 2)
    server.send(garbage)
    eventually(closed(gate), within_s=1)
    eventually(lambda: gate.view().connects == 2)
    assert why(gate) is RefusedBy.HALTED
    assert gate.view().epoch == 2


@pytest.mark.parametrize("garbage", [b"", b"no", b"PERM" * 20, Command(id="c").encode()])
def test_garbage_on_the_permit_renews_nothing(server: FakeServer, brief: Gate, garbage: bytes) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 0.7:
        server.send(frame("system.permit", 2, garbage))
        time.sleep(0.05)
    assert why(brief) is RefusedBy.LEASE_EXPIRED
    assert brief.view().invalid > 5
    assert server.accepted == 1


def test_a_flood_keeps_the_gate_closed_until_it_is_read(server: FakeServer, gate: Gate) -> None:
    noise = frame("system.permit", 2, b"x" * 1000) * 2000
    assert server.connection is not None
    server.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
    with gate._lock:
        sender = threading.Thread(target=server.send, args=(noise,))
        sender.start()
        time.sleep(0.2)
    verdicts = {type(gate.check()) for _ in range(3)}
    sender.join()
    server.renew()
    eventually(opened(gate))
    assert verdicts <= {Refused, Allowed}


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"not json", "makes no sense"),
        (b'{"message":{"data":"###"}}', "makes no sense"),
        (b'{"message":{"data":"' + base64.b64encode(b"no flatbuffer") + b'"}}', "no kill switch"),
        (b'{"error":{"err_code":10008,"description":"insufficient resources"}}', "insufficient resources"),
        (b"[]", "makes no sense"),
    ],
)
def test_without_the_latch_it_stays_closed(
    server: FakeServer, make: Callable[..., Gate], reply: bytes, words: str
) -> None:
    server.latch_reply = reply
    gate = make()
    eventually(lambda: server.accepted > 2)
    server_saw = gate.check()
    assert isinstance(server_saw, Refused)
    assert server_saw.reason is RefusedBy.NOT_CONNECTED
    assert words in server_saw.detail
    assert not gate.view().ready
    server.latch_reply = None
    assert gate.wait_ready(5)


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 200 OK\r\n", b"INFO nonsense\r\n", b"PING\r\n", b"-ERR 'no'\r\n", b""])
def test_something_else_on_the_port_keeps_it_closed(
    server: FakeServer, make: Callable[..., Gate], greeting: bytes
) -> None:
    server.greeting = greeting
    gate = make()
    eventually(lambda: server.accepted > (0 if greeting == b"" else 1))
    assert why(gate) is RefusedBy.NOT_CONNECTED


def test_nothing_latched_yet_is_halted_until_the_manager_speaks(server: FakeServer, make: Callable[..., Gate]) -> None:
    server.latch = None
    gate = make()
    assert gate.wait_ready(5)
    assert why(gate) is RefusedBy.NO_PERMIT
    server.renew(epoch=1)
    eventually(opened(gate))


def test_a_server_that_vanishes_is_noticed_and_returned_to(server: FakeServer, gate: Gate) -> None:
    assert server.connection is not None
    server.connection.shutdown(socket.SHUT_RDWR)
    eventually(closed(gate), within_s=0.2)
    eventually(lambda: gate.view().connects == 2)
    assert why(gate) is RefusedBy.NO_PERMIT  # a lease does not outlive the connection it came by
    server.renew()
    eventually(opened(gate))


def test_it_logs_in_and_shows_no_password(server: FakeServer, tmp_path: Path) -> None:
    gate = Gate(Login(server.url.replace("//", "//bob:hunter2@"), "t", timeout_s=0.5), word=None)
    with gate:
        assert gate.wait_ready(5)
        assert b'"user": "bob", "pass": "hunter2"' in server.received
        server.close()
        assert server.connection is not None
        server.connection.shutdown(socket.SHUT_RDWR)
        eventually(lambda: "cannot connect" in gate.view().trouble)
        assert "hunter2" not in gate.view().trouble


def test_other_schemes_are_refused_by_name() -> None:
    with Gate(Login("ws://127.0.0.1:80", "t"), word=None) as gate:
        eventually(lambda: "ws://" in gate.view().trouble)
        assert why(gate) is RefusedBy.NOT_CONNECTED
