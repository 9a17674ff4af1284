"""Publishing that is acknowledged or fails loudly: many on their way at once, repeated over reconnects, bounded.

Every message has a number, its token, which is the last part of its acknowledgement's subject; a batch has one too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import deque
from typing import Any

from pipeline.bus.client import LeanClient
from pipeline.bus.counters import Counters
from pipeline.bus.delivery import COMMIT, status_of
from pipeline.bus.errors import Backlogged, PublishFailed
from pipeline.bus.lanes import DUPLICATE, How, Lane, Publish, Stored
from pipeline.subjects import commit_subject

log = logging.getLogger(__name__)

# Errors of the server that no repetition mends: wrong stream for the subject, message too large, bad request,
# header too large, stream sealed, wrong last sequence.
_PERMANENT = frozenset({10060, 10054, 10003, 10097, 10109, 10071, 10164, 10070})
_EXPECTED = frozenset({10071, 10164})  # another write came first: an answer, not a failure
_SWEEP_S = 0.1
_REFUSED_WAIT_S = 0.1


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
        self._prefix = b""
        self._batch_prefix = uuid.uuid4().bytes.hex().encode() + b"."
        self._batches: dict[int, str] = {}  # committed ones and their streams
        self._repeat_batch_at: dict[int, float] = {}
        self._token = 0
        self._outstanding: dict[int, Publish] = {}
        self._lanes: dict[str, Lane] = {}
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
        self._prefix = inbox.encode() + b"."
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
        alone: bool = False,
    ) -> asyncio.Future[Stored]:
        """Send now, or as soon as the connection is back; `headers` are whole lines, `alone` means never in a batch."""
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
        head = f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\nNats-Expected-Stream: {stream}\r\n{headers}".encode()
        now = time.monotonic()
        future: asyncio.Future[Stored] = self._loop.create_future()
        publish = self._outstanding[token] = Publish(future, subject, stream, head, payload)
        publish.again_at = now + self._repeat_s
        publish.deadline = now + (deadline_s or self._deadline_s)
        if alone:
            self.send_one(token)
        else:
            self._lane(stream).add(token)
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
        for lane in self._lanes.values():
            lane.restart()
        self._batches.clear()
        self._repeat_batch_at.clear()
        for token, publish in self._outstanding.items():
            self._again(token, publish, lost=True)

    def close(self, reason: str) -> None:
        """Fail what is still outstanding."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for token in list(self._outstanding):
            self._fail(token, reason)
        for waiter in self._waiting:
            waiter.cancel()

    def _lane(self, stream: str) -> Lane:
        lane = self._lanes.get(stream)
        if lane is None:
            lane = self._lanes[stream] = Lane(stream, self, self._outstanding)
        return lane

    def send_one(self, token: int) -> None:
        """Send a message by itself; while disconnected it waits in _outstanding for `resend`."""
        self._client.send(self._outstanding[token].command(b"%b%d" % (self._prefix, token)))

    def open_batch(self) -> int:
        """Return the number of a new batch."""
        self._token += 1
        return self._token

    def send_member(self, token: int, batch: int, number: int) -> None:
        """Send a message as the batch's next."""
        head = b"Nats-Batch-Id: %b%d\r\nNats-Batch-Sequence: %d\r\n" % (self._batch_prefix, batch, number)
        self._client.send(self._outstanding[token].command(b"", head))

    def commit(self, stream: str, batch: int, number: int) -> None:
        """End a batch; the server acknowledges it for all its messages, and does not store the end itself."""
        self._batches[batch] = stream
        self._repeat_batch_at[batch] = time.monotonic() + self._repeat_s
        head = b"NATS/1.0\r\nNats-Batch-Id: %b%d\r\nNats-Batch-Sequence: %d\r\n%b\r\n\r\n" % (
            *(self._batch_prefix, batch, number),
            COMMIT,
        )
        subject = commit_subject(stream).encode()
        size = len(head)
        self._client.send(b"HPUB %b %b%d %d %d\r\n%b\r\n" % (subject, self._prefix, batch, size, size, head))

    def _again(self, token: int, publish: Publish, *, lost: bool = False) -> None:
        """Send a message again by itself; `lost` where its lane has forgotten it."""
        publish.again_at = time.monotonic() + self._repeat_s
        self._counters.publish_retries += 1
        if lost and publish.how is not How.ALONE:
            self._lane(publish.stream).send_single(token)
        else:
            self.send_one(token)

    def _sweep(self) -> None:
        """Repeat what was not acknowledged in time, fail what is past its deadline."""
        now = time.monotonic()
        for token, publish in list(self._outstanding.items()):
            if publish.future.done():  # its caller was cancelled
                self._forget(token)
            elif now >= publish.deadline:
                self._fail(token, publish.last_error or "no acknowledgement")
            elif now >= publish.again_at and publish.how in (How.ALONE, How.SINGLE) and self._client.is_connected:
                self._again(token, publish)
        for batch, again_at in list(self._repeat_batch_at.items()):
            if now >= again_at and self._client.is_connected:
                self._dissolve(batch)
        for lane in self._lanes.values():
            lane.go_on()
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep) if self._outstanding else None

    def _dissolve(self, batch: int, code: int = 0) -> None:
        """Send the messages of a batch that was refused or not answered one by one."""
        stream = self._batches[batch]
        lane = self._take(batch)
        for token in lane.take_batch(batch):
            publish = self._outstanding.get(token)
            if publish is not None:
                self._again(token, publish, lost=True)
        if code not in _EXPECTED | {0, DUPLICATE}:
            log.info("%s takes no batches (error %d): messages go one by one", stream, code)
            lane.refuse_batches()
        lane.go_on()

    def _take(self, batch: int) -> Lane:
        del self._repeat_batch_at[batch]
        return self._lane(self._batches.pop(batch))

    def _on_batch_reply(self, batch: int, data: bytes, status: str) -> None:
        try:
            answer: dict[str, Any] = json.loads(data or b"{}")
            code = (answer.get("error") or {}).get("err_code", 0)
            last = 0 if status or code else int(answer["seq"])
        except (ValueError, KeyError, AttributeError):
            code = last = 0
        if not last:
            self._dissolve(batch, code)
            return
        lane = self._take(batch)
        tokens = lane.take_batch(batch)
        first = last - len(tokens) + 1  # a batch is stored without a gap
        for number, token in enumerate(tokens):
            if token in self._outstanding:
                self._stored(token, Stored(answer["stream"], first + number, False))
        lane.go_on()

    def _on_reply(self, subject: bytes, _reply: bytes, data: bytes, headers: bytes | None) -> None:
        token = int(subject[subject.rfind(b".") + 1 :])
        if token in self._batches:
            self._on_batch_reply(token, data, status_of(headers))
            return
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
        self._stored(token, stored)
        self._lane(publish.stream).go_on()

    def _stored(self, token: int, stored: Stored) -> None:
        future = self._outstanding[token].future
        self._forget(token)
        self._counters.published += 1
        if not future.done():
            future.set_result(stored)

    def _refused(self, publish: Publish, reason: str) -> None:
        publish.last_error = reason
        publish.again_at = time.monotonic() + _REFUSED_WAIT_S

    def _forget(self, token: int) -> None:
        publish = self._outstanding[token]
        if publish.how is not How.ALONE:
            self._lane(publish.stream).remove(token)
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
