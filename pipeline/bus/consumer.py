"""Durable consumption at the speed of a plain subscription.

Two subscriptions feed one handler. The *live* one is a core subscription on the stream's subject: it delivers first,
and only what is published now. Behind it stands the *durable* push consumer: it delivers everything, again if need be,
and takes the acknowledgements. A message is handled once, by whichever copy comes first, and recognised by its id when
the other one comes. What a live copy cannot do (a negative acknowledgement, a dead letter) waits for the durable copy.

Acknowledged is what was handled: after the handler has returned and the futures it returned are done.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.bus.delivery import Delivery, message_id, parse_reply, replay_target, status_of
from pipeline.bus.errors import Outcome, Reject, Retry, Stale
from pipeline.messages import InvalidMessage, Message, decode
from pipeline.streams import subject_of

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

    from pipeline.bus.connection import Bus

Handler = Callable[[Any, Delivery], Awaitable[Any] | Iterable[asyncio.Future[Any]] | None]

log = logging.getLogger(__name__)

_REMEMBERED = 16_384  # ids of handled messages
_AHEAD = _REMEMBERED // 4  # live copies that may run ahead of their durable copies
_FORGET_S = 60.0
_DEAD_LETTER_WAIT_S = 5.0
_DETAIL_LENGTH = 1_000


class _Unfit(NamedTuple):
    """Why a payload is no message for its subject."""

    reason: str
    detail: str


class _State(Enum):
    RUNNING = auto()
    QUEUED = auto()
    HANDLED = auto()
    """acknowledged, or waiting for the durable copy to acknowledge"""
    RETRYING = auto()
    """sent back, or waiting for the durable copy to send back"""
    DEAD = auto()
    """to be reported as a dead letter once its durable copy is here"""


class _Entry:
    """What is known about one message, by id."""

    __slots__ = (
        *("attempt", "delivery", "detail", "durable_seen", "key", "payload", "reason", "reply", "retry_at", "started"),
        *("state", "waiting"),
    )

    def __init__(self, key: bytes, payload: bytes, delivery: Delivery, reply: bytes) -> None:
        self.key = key
        self.payload = payload
        self.delivery = delivery
        self.reply = reply
        self.durable_seen = bool(reply)
        self.attempt = delivery.attempt
        self.state = _State.QUEUED
        self.started = 0
        self.waiting = 0
        self.retry_at = 0.0
        self.reason = ""
        self.detail = ""


class Consumer:
    """One durable consumer of this process."""

    def __init__(
        self,
        bus: Bus,
        *,
        stream: str,
        subject: str,
        durable: str,
        handler: Handler,
        max_in_flight: int,
        max_attempts: int,
        ack_wait_s: float,
        retry_wait_s: float,
        retry_wait_max_s: float,
        live: bool,
    ) -> None:
        self.stream = stream
        self.subject = subject
        self.durable = durable
        self.max_in_flight = max_in_flight
        self.ack_wait_s = ack_wait_s
        self.last_active = time.monotonic()
        self.next_sequence = 0
        """where to go on should the server lose the consumer; 0 where nothing was delivered yet"""
        self._bus = bus
        self._client = bus.client
        self._counters = bus.counters
        self._handler = handler
        self._is_async = inspect.iscoroutinefunction(handler)
        self._max_attempts = max_attempts
        self._retry_wait_s = retry_wait_s
        self._retry_wait_max_s = retry_wait_max_s
        self._live = live
        self._behind = True
        self._entries: dict[bytes, _Entry] = {}
        self._settled: deque[bytes] = deque()
        self._open: dict[bytes, _Entry] = {}
        self._queue: deque[_Entry] = deque()
        self._ahead = 0
        self._running = 0
        self._pumping = False
        self._next_look = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()

    @property
    def deliver_subject(self) -> str:
        """Return where the server pushes to."""
        return f"deliver.{self.stream}.{self.durable}"

    @property
    def running(self) -> int:
        """Return how many handlers run now."""
        return self._running

    async def start(self, *, backlog: bool) -> None:
        """Subscribe; with a backlog, live copies are left alone until the durable consumer has caught up."""
        self._behind = backlog
        if self._live:
            self._subscriptions.append(await self._client.subscribe_direct(self.subject, self._on_live, self.durable))
        self._subscriptions.append(
            await self._client.subscribe_direct(self.deliver_subject, self._on_durable, self.durable)
        )

    async def stop(self, timeout_s: float) -> bool:
        """Take nothing more, wait for the running handlers, hand the rest back; return whether all finished in time."""
        self._stopping = True
        for subscription in self._subscriptions:
            await self._client.unsubscribe_direct(subscription)
        for entry in self._queue:
            self._answer(entry, b"-NAK")
        self._queue.clear()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            for task in self._tasks:
                task.cancel()
            return False
        finally:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        return True

    def extend(self) -> None:
        """Tell the server that what is open is being worked on."""
        for entry in self._open.values():
            self._answer(entry, b"+WPI")
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _FORGET_S / 4
            self._forget_lost()

    def _forget_lost(self) -> None:
        """Let go of messages whose next copy never came: never stored, or gone from the stream."""
        now = time.monotonic()
        limit_ns = time.time_ns() - int(_FORGET_S * 1e9)
        for entry in list(self._entries.values()):
            old = entry.delivery.received_ns < limit_ns
            if old and not entry.durable_seen:
                entry.durable_seen = True
                self._ahead -= 1
            if old and entry.state in (_State.RETRYING, _State.DEAD) and entry.retry_at + _FORGET_S < now:
                del self._entries[entry.key]

    # Arrival

    def _on_live(self, subject: bytes, _reply: bytes, data: bytes, raw: bytes | None) -> None:
        if self._behind or self._stopping:
            return  # its durable copy will come in its turn
        key = message_id(raw)
        if key and key in self._entries:
            self._counters.duplicates += 1
            return
        if self._running >= self.max_in_flight or self._ahead >= _AHEAD:
            self._behind = True
            return
        if raw is not None and (target := replay_target(raw)) is not None and target != self.durable:
            return
        delivery = Delivery(subject.decode(), self.stream, sequence=0, attempt=1, received_ns=time.time_ns(), raw=raw)
        message = self._verify(data, delivery.subject)
        if isinstance(message, _Unfit):
            return  # the durable copy knows the sequence that the dead letter needs
        entry = _Entry(key or message.id.encode(), data, delivery, b"")
        if not key and entry.key in self._entries:
            self._counters.duplicates += 1
            return
        self._ahead += 1
        self._entries[entry.key] = entry
        self._run(entry, message)

    def _on_durable(self, subject: bytes, reply: bytes, data: bytes, raw: bytes | None) -> None:
        self.last_active = time.monotonic()
        if self._stopping:
            return
        known = parse_reply(reply)
        if known is None:
            if not status_of(raw).startswith("100"):
                log.warning("%s: a message without an acknowledgement subject was ignored", self.deliver_subject)
            return
        self.next_sequence = max(self.next_sequence, known.sequence + 1)
        if known.pending == 0:
            self._behind = False
        key = message_id(raw)
        message: Message | _Unfit | None = None
        if not key:
            message = self._verify(data, subject.decode())
            key = b"%d" % known.sequence if isinstance(message, _Unfit) else message.id.encode()
        entry = self._entries.get(key)
        if entry is None:
            delivery = Delivery(
                subject.decode(),
                self.stream,
                sequence=known.sequence,
                attempt=known.attempt,
                received_ns=time.time_ns(),
                raw=raw,
            )
            entry = self._entries[key] = _Entry(key, data, delivery, reply)
            if (target := replay_target(raw)) is not None and target != self.durable:
                self._finish(entry, _State.HANDLED)
            else:
                self._admit(entry, message)
            return
        self._repeat(entry, reply, known.sequence, known.attempt)

    def _repeat(self, entry: _Entry, reply: bytes, sequence: int, attempt: int) -> None:
        """Take another copy of a known message."""
        if entry.durable_seen:
            self._counters.duplicates += 1
        else:
            entry.durable_seen = True
            self._ahead -= 1
        entry.reply = reply
        entry.delivery.sequence = sequence
        seen, entry.attempt = entry.attempt, max(entry.attempt, attempt)
        match entry.state:
            case _State.HANDLED:
                self._answer(entry, b"+ACK")
            case _State.RETRYING:
                remaining = entry.retry_at - time.monotonic()
                if attempt > seen or remaining <= 0:
                    entry.delivery.attempt = entry.attempt
                    self._admit(entry, None)
                else:
                    self._send_back(entry, remaining)
            case _State.DEAD:
                self._report(entry)
            case _:
                pass  # running: answered when the handler is done

    def _admit(self, entry: _Entry, message: Message | _Unfit | None) -> None:
        """Run the handler now, or queue behind the ones that run."""
        if entry.attempt > self._max_attempts:
            # The handler never answered: it took the process down, or blocked it, every time.
            self._give_up(entry, "too_many_attempts", f"delivered {entry.attempt} times without an answer")
            return
        if self._running >= self.max_in_flight:
            entry.state = _State.QUEUED
            self._open[entry.key] = entry
            self._queue.append(entry)
            return
        checked = message if message is not None else self._verify(entry.payload, entry.delivery.subject)
        if isinstance(checked, _Unfit):
            self._counters.invalid += 1
            self._give_up(entry, checked.reason, checked.detail)
        else:
            self._run(entry, checked)

    def _verify(self, data: bytes, subject: str) -> Message | _Unfit:
        try:
            message = decode(data)
            expected = subject_of(message)
        except InvalidMessage as error:
            return _Unfit("invalid_message", f"{error.reason}: {error}")
        except ValueError as error:  # a field that makes no subject
            return _Unfit("invalid_message", str(error))
        if expected != subject:
            return _Unfit("wrong_type", f"{type(message).__name__} belongs on {expected}, not on {subject}")
        return message

    # Handling

    def _run(self, entry: _Entry, message: Message) -> None:
        entry.state = _State.RUNNING
        entry.started = time.perf_counter_ns()
        self._open[entry.key] = entry
        self._running += 1
        self._counters.in_flight += 1
        self._counters.received += 1
        self._idle.clear()
        if self._is_async:
            task = self._loop.create_task(self._run_async(entry, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        try:
            tracing = self._bus.tracing
            with tracing.handling(message, entry.delivery) if tracing is not None else nullcontext():
                answer = self._handler(message, entry.delivery)
        except Exception as error:
            self._done(entry, error)
            return
        if answer is None:
            self._done(entry, None)
            return
        futures = [answer] if asyncio.isfuture(answer) or inspect.isawaitable(answer) else list(answer)
        entry.waiting = len(futures)
        if not futures:
            self._done(entry, None)
        for future in futures:
            asyncio.ensure_future(future).add_done_callback(partial(self._part_done, entry))

    async def _run_async(self, entry: _Entry, message: Message) -> None:
        try:
            tracing = self._bus.tracing
            with tracing.handling(message, entry.delivery) if tracing is not None else nullcontext():
                await self._handler(message, entry.delivery)  # type: ignore[misc]
        except asyncio.CancelledError:
            self._abandon(entry)
            raise
        except Exception as error:
            self._done(entry, error)
        else:
            self._done(entry, None)

    def _part_done(self, entry: _Entry, future: asyncio.Future[Any]) -> None:
        """Count one of the futures that a handler returned; the first failure decides."""
        entry.waiting -= 1
        if future.cancelled():
            if entry.state is _State.RUNNING:
                self._abandon(entry)
            return
        error = future.exception()
        if entry.state is _State.RUNNING and (error is not None or entry.waiting == 0):
            self._done(entry, error)

    def _done(self, entry: _Entry, error: BaseException | None) -> None:
        self._counters.latencies_ns.append(time.perf_counter_ns() - entry.started)
        match error:
            case None:
                self._counters.handled += 1
                self._finish(entry, _State.HANDLED)
            case Stale():
                self._counters.expired += 1
                self._finish(entry, _State.HANDLED)
            case Reject():
                self._counters.failed += 1
                self._give_up(entry, "handler_error", error.reason)
            case _:
                self._counters.failed += 1
                self._failed(entry, error)
        self._release()

    def _failed(self, entry: _Entry, error: BaseException) -> None:
        detail = error.reason if isinstance(error, Outcome) else f"{type(error).__name__}: {error}"
        if not isinstance(error, Outcome):
            log.error("handler of %s failed on %r", self.durable, entry.delivery, exc_info=error)
        if entry.attempt >= self._max_attempts:
            self._give_up(entry, "too_many_attempts", f"{entry.attempt} attempts, the last: {detail}")
            return
        delay = error.delay_s if isinstance(error, Retry) and error.delay_s is not None else self._delay(entry.attempt)
        self._counters.retried += 1
        entry.retry_at = time.monotonic() + delay
        self._close(entry, _State.RETRYING)
        self._send_back(entry, delay)

    def _delay(self, attempt: int) -> float:
        """Return a growing delay, spread so that messages that failed together do not come back together."""
        longest = min(self._retry_wait_max_s, self._retry_wait_s * 2.0 ** min(attempt - 1, 30))
        return longest * random.uniform(0.75, 1.0)

    def _finish(self, entry: _Entry, state: _State) -> None:
        self._close(entry, state)
        self._answer(entry, b"+ACK")
        self._settled.append(entry.key)
        if len(self._settled) > _REMEMBERED:
            forgotten = self._entries.pop(self._settled.popleft(), None)
            if forgotten is not None and not forgotten.durable_seen:
                self._ahead -= 1

    def _give_up(self, entry: _Entry, reason: str, detail: str) -> None:
        entry.reason, entry.detail = reason, detail[:_DETAIL_LENGTH]
        self._close(entry, _State.DEAD)
        if entry.reply:
            self._report(entry)

    def _report(self, entry: _Entry) -> None:
        """Publish the dead letter, then terminate the message; on failure it comes back and is reported then."""
        reply = entry.reply
        entry.state = _State.RUNNING  # further copies wait for the answer
        self._open[entry.key] = entry

        async def report() -> None:
            try:
                await self._bus.dead_letter(
                    stream=self.stream,
                    subject=entry.delivery.subject,
                    sequence=entry.delivery.sequence,
                    consumer=self.durable,
                    reason=entry.reason,
                    detail=entry.detail,
                    attempts=entry.attempt,
                    payload=entry.payload,
                )
            except Exception as error:
                log.error("dead letter for %r was not stored: %s", entry.delivery, error)
                self._close(entry, _State.DEAD)
                self._send_back(entry, _DEAD_LETTER_WAIT_S)
                return
            self._close(entry, _State.HANDLED)
            self._client.send(b"PUB %b 5\r\n+TERM\r\n" % reply)
            self._settled.append(entry.key)

        task = self._loop.create_task(report())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _abandon(self, entry: _Entry) -> None:
        """Let go of a cancelled message without an answer: it is delivered again."""
        self._close(entry, _State.RETRYING)
        self._release()

    def _close(self, entry: _Entry, state: _State) -> None:
        entry.state = state
        self._open.pop(entry.key, None)
        if state is _State.HANDLED:
            entry.payload = b""

    def _release(self) -> None:
        """Give a handler's place to the next in the queue."""
        self._running -= 1
        self._counters.in_flight -= 1
        if not self._pumping:  # else the loop below is further up the stack
            self._pumping = True
            while self._queue and self._running < self.max_in_flight and not self._stopping:
                self._admit(self._queue.popleft(), None)
            self._pumping = False
        if self._running == 0:
            self._idle.set()

    # Answers

    def _send_back(self, entry: _Entry, delay_s: float) -> None:
        self._answer(entry, b'-NAK {"delay": %d}' % int(delay_s * 1e9))

    def _answer(self, entry: _Entry, word: bytes) -> None:
        """Answer the durable copy, where it is here; an answer lost with the connection brings the message again."""
        if entry.reply:
            self._client.send(b"PUB %b %d\r\n%b\r\n" % (entry.reply, len(word), word))
