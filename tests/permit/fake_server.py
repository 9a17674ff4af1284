"""A server under the test's control, for what the gate does when one misbehaves."""

from __future__ import annotations

import base64
import json
import socket
import threading
from contextlib import suppress

from permit_stage import eventually

from pipeline.messages import KillSwitch, Permit, PermitState
from pipeline.permit import Gate, Refused, RefusedBy

HALTED, ACTIVE = PermitState.HALTED, PermitState.ACTIVE


def switch(state: int, epoch: int, actor: str = "ada") -> bytes:
    return KillSwitch(id=f"k{epoch}", state=state, epoch=epoch, actor=actor, reason="test").encode()


def permit(state: int = ACTIVE, epoch: int = 1, lease_ms: int = 500) -> bytes:
    return Permit(id="p", state=state, epoch=epoch, lease_ns=lease_ms * 1_000_000, actor="ada", reason="test").encode()


class FakeServer:
    """As much of a NATS server as the gate sees, under the test's control."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"nats://127.0.0.1:{self.listener.getsockname()[1]}"
        self.connection: socket.socket | None = None
        self.latch: bytes | None = switch(ACTIVE, 1)
        self.latch_reply: bytes | None = None
        self.greeting = b'INFO {"server_id":"fake"}\r\n'
        self.answer_pings = True
        self.accepted = 0
        self.received = b""
        self.pings = 0
        self._stop = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._stop:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        pending = b""
        with suppress(OSError):
            connection.sendall(self.greeting)
            while data := connection.recv(4096):
                self.received += data
                pending += data
                *lines, pending = pending.split(b"\r\n")
                for line in lines:
                    if line == b"PING":
                        self.pings += 1
                        if self.answer_pings:
                            connection.sendall(b"PONG\r\n")
                    elif line.startswith(b"PUB "):
                        connection.sendall(frame("_INBOX.x", 3, self._latch_reply()))
                        self.connection = connection

    def _latch_reply(self) -> bytes:
        if self.latch_reply is not None:
            return self.latch_reply
        if self.latch is None:
            return json.dumps({"error": {"code": 404, "err_code": 10037, "description": "no message found"}}).encode()
        return json.dumps({"message": {"seq": 1, "data": base64.b64encode(self.latch).decode()}}).encode()

    def send(self, data: bytes) -> None:
        eventually(lambda: self.connection is not None)
        assert self.connection is not None
        self.connection.sendall(data)

    def renew(self, **fields: int) -> None:
        self.send(frame("system.permit", 2, permit(**fields)))

    def close(self) -> None:
        self._stop = True
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def frame(subject: str, sid: int, payload: bytes) -> bytes:
    return b"MSG %s %d %d\r\n%s\r\n" % (subject.encode(), sid, len(payload), payload)


def why(gate: Gate) -> RefusedBy:
    verdict = gate.check()
    assert isinstance(verdict, Refused), verdict
    return verdict.reason
