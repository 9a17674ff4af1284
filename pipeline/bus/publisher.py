"""Publishing that is acknowledged or fails loudly: many on their way at once, repeated over reconnects, bounded."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from typing import Any, NamedTuple

from pipeline.bus.client import LeanClient
from pipeline.bus.counters import Counters
from pipeline.bus.delivery import status_of
from pipeline.bus.errors import Backlogged, PublishFailed

log = logging.getLogger(__name__)

# Errors of the server that no repetition mends: wrong stream for the subject, message too large, bad request,
# header too large, stream sealed, wrong last sequence.
_PERMANENT = frozenset({10060, 10054, 10003, 10097, 10109, 10071, 10164, 10070})
_EXPECTED = frozenset({10071, 10164})  # another write came first: an answer, not a failure
_SWEEP_S = 0.1
_REFUSED_WAIT_S = 0.1


class Stored(NamedTuple):
    """The server's acknowledgement: the message is on its disk."""

    stream: str
    sequence: int
    duplicate: bool


class _Publish:
    """One publish on its way."""

    __slots__ = ("again_at", "command", "deadline", "future", "last_error", "stream", "subject")

    def __init__(
        self,
        future: asyncio.Future[Stored],
        command: bytes,
        *,
        subject: str,
        stream: str,
        again_at: float,
        deadline: float,
    ) -> None:
        self.future = future
        self.command = command
        self.subject = subject
        self.stream = stream
        self.again_at = again_at
        self.deadline = deadline
        self.last_error = ""


class Publisher:
    """Send messages to their streams and match the acknowledgements."""

    def __init__(
        self, client: LeanClient, counters: Counters, *, max_pending: int, repeat_s: float, deadline_s: float
    ) -> None:
        self.max_pending = max_pending
        self._client = client
        self._counters = counters
        self._repeat_s = repeat_s
        self._deadline_s = deadline_s
        self._prefix = ""
        self._token = 0
        self._outstanding: dict[int, _Publish] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def pending(self) -> int:
        """Return how many publishes wait for their acknowledgement."""
        return len(self._outstanding)

    async def start(self) -> None:
        """Subscribe to the acknowledgements."""
        inbox = self._client.new_inbox()
        self._prefix = inbox + "."
        await self._client.subscribe_direct(inbox + ".*", self._on_reply)

    async def room(self) -> None:
        """Wait until another publish may be sent."""
        while len(self._outstanding) >= self.max_pending:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    def send(
        self,
        subject: str,
        stream: str,
        message_id: str,
        payload: bytes,
        *,
        headers: str = "",
        deadline_s: float | None = None,
    ) -> asyncio.Future[Stored]:
        """Send now, or as soon as the connection is back; `headers` are whole lines."""
        if len(self._outstanding) >= self.max_pending:
            raise Backlogged(
                f"{self.max_pending} publishes wait for their acknowledgement",
                "await bus.publish(), which waits for room, or raise nats.max_pending",
            )
        if len(payload) > self._client.max_payload:
            raise PublishFailed(
                f"{subject}: {len(payload)} bytes are more than the server takes ({self._client.max_payload})",
                "raise max_payload in nats.conf, or send less",
            )
        self._token += 1
        token = self._token
        head = f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\nNats-Expected-Stream: {stream}\r\n{headers}\r\n".encode()
        size = len(head)
        command = b"HPUB %b %b%d %d %d\r\n%b%b\r\n" % (
            *(subject.encode(), self._prefix.encode(), token, size, size + len(payload)),
            *(head, payload),
        )
        now = time.monotonic()
        future: asyncio.Future[Stored] = self._loop.create_future()
        self._outstanding[token] = _Publish(
            future,
            command,
            subject=subject,
            stream=stream,
            again_at=now + self._repeat_s,
            deadline=now + (deadline_s or self._deadline_s),
        )
        self._client.send(command)  # while disconnected it waits in _outstanding for `resend`
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        return future

    async def drained(self, timeout_s: float) -> bool:
        """Wait until nothing is on its way; return whether that came in time."""
        if self._outstanding:
            futures = [publish.future for publish in self._outstanding.values()]
            await asyncio.wait(futures, timeout=max(0.0, timeout_s))
        return not self._outstanding

    def resend(self) -> None:
        """Send everything outstanding again, in order; the server drops what it already has by its id."""
        now = time.monotonic()
        for publish in self._outstanding.values():
            self._again(publish, now)

    def close(self, reason: str) -> None:
        """Fail what is still outstanding."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for token in list(self._outstanding):
            self._fail(token, reason)
        for waiter in self._waiting:
            waiter.cancel()

    def _again(self, publish: _Publish, now: float) -> None:
        publish.again_at = now + self._repeat_s
        if self._client.send(publish.command):
            self._counters.publish_retries += 1

    def _sweep(self) -> None:
        """Repeat what was not acknowledged in time, fail what is past its deadline."""
        now = time.monotonic()
        for token, publish in list(self._outstanding.items()):
            if publish.future.done():  # its caller was cancelled
                self._forget(token)
            elif now >= publish.deadline:
                self._fail(token, publish.last_error or "no acknowledgement")
            elif now >= publish.again_at:
                self._again(publish, now)
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep) if self._outstanding else None

    def _on_reply(self, subject: bytes, _reply: bytes, data: bytes, headers: bytes | None) -> None:
        token = int(subject[subject.rfind(b".") + 1 :])
        publish = self._outstanding.get(token)
        if publish is None:
            return  # acknowledged before, or given up
        if status := status_of(headers):
            self._refused(publish, "no stream took it" if status.startswith("503") else status)
            return
        try:
            answer: dict[str, Any] = json.loads(data)
            error = answer.get("error")
            if error is None:
                stored = Stored(answer["stream"], answer["seq"], answer.get("duplicate", False))
        except (ValueError, KeyError, AttributeError) as unreadable:
            self._refused(publish, f"unreadable acknowledgement: {unreadable}")
            return
        if error is not None:
            self._refused(publish, str(error.get("description", error)))
            code = error.get("err_code", 0)
            if code in _PERMANENT:
                self._fail(token, publish.last_error, code)
            return
        self._forget(token)
        self._counters.published += 1
        if not publish.future.done():
            publish.future.set_result(stored)

    def _refused(self, publish: _Publish, reason: str) -> None:
        publish.last_error = reason
        publish.again_at = time.monotonic() + _REFUSED_WAIT_S

    def _forget(self, token: int) -> None:
        del self._outstanding[token]
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break

    def _fail(self, token: int, reason: str, code: int = 0) -> None:
        publish = self._outstanding[token]
        self._forget(token)
        if code not in _EXPECTED:
            self._counters.publish_failed += 1
            log.error("publish to %s failed: %s", publish.subject, reason)
        if publish.future.done():
            return
        fix = "see that the server runs and its disk has room; publishing again is harmless"
        if reason == "no stream took it":
            fix = "run `pipeline init-streams`"
        what = f"{publish.subject} was not stored in {publish.stream}: {reason}"
        publish.future.set_exception(PublishFailed(what, fix, code=code))
