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
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pipeline.bus.delivery import Delivery, message_id, parse_reply, replay_target, status_of
from pipeline.bus.errors import Outcome, Reject, Retry, Stale, growing_delay_s
from pipeline.bus.memory import FORGET_S, UNKNOWN, Entry, Memory, State
from pipeline.bus.suspects import PATIENCE, Suspects
from pipeline.bus.verify import Unfit, verify
from pipeline.messages import Message

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

    from pipeline.bus.connection import Bus

Handler = Callable[[Any, Delivery], Awaitable[Any] | Iterable[asyncio.Future[Any]] | None]

log = logging.getLogger(__name__)

_MAX_AHEAD = 4_096  # live copies that may run ahead of their durable copies
_DEAD_LETTER_WAIT_S = 5.0
_DETAIL_LENGTH = 1_000


class Consumer:
    """One durable consumer of this process; made by `Bus.consume`."""

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
        live: bool,
    ) -> None:
        self.stream = stream
        self.subject = subject
        self.durable = durable
        self.deliver_subject = f"deliver.{stream}.{durable}"
        self.max_in_flight = max_in_flight
        self.ack_wait_s = ack_wait_s
        self.memory = Memory()
        self.last_active = time.monotonic()
        """when the durable consumer was last heard of"""
        self._bus = bus
        self._client = bus.client
        self._counters = bus.counters
        self._handler = handler
        self._is_async = inspect.iscoroutinefunction(handler)
        self._max_attempts = max_attempts
        self._live = live
        self._behind = True
        self._open: dict[bytes, Entry] = {}
        self._queue: deque[Entry] = deque()
        self._suspects = Suspects(self._begin, lambda: self._running == 0)
        self._running = 0
        self._pumping = False
        self._stopping = False
        self._next_look = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()

    async def start(self, *, backlog: bool) -> None:
        """Subscribe; with a backlog the durable consumer goes first."""
        self._behind = backlog
        if self._live:
            self._subscriptions.append(await self._client.subscribe_direct(self.subject, self._on_live, self.durable))
        self._subscriptions.append(
            await self._client.subscribe_direct(self.deliver_subject, self._on_durable, self.durable)
        )

    async def stop(self, timeout_s: float) -> bool:
        """Take nothing more, wait for the running handlers, hand the rest back; return whether all finished in time."""
        self._stopping = True
        subscriptions, self._subscriptions = self._subscriptions, []  # stopped again, there is nothing to do
        for subscription in subscriptions:
            await self._client.unsubscribe_direct(subscription)
        for entry in self._queue:
            self._answer(entry, b"-NAK")
        self._queue.clear()
        self._suspects.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
                if self._tasks:  # dead letters on their way
                    await asyncio.wait(self._tasks)
        unfinished = list(self._tasks)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        return self._running == 0 and not unfinished

    def catch_up(self) -> None:
        """After a reconnect: let the durable consumer go first, and look soon whether the server still knows it."""
        self._behind = True
        self.last_active = 0.0

    def extend(self) -> None:
        """Tell the server that what is open is being worked on; called several times within the ack wait."""
        for entry in self._open.values():
            self._answer(entry, b"+WPI")
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + FORGET_S / 4
            self.memory.forget_lost()

    # Arrival

    def _on_live(self, subject: bytes, _reply: bytes, data: bytes, raw: bytes | None) -> None:
        if self._behind or self._stopping:
            return  # its durable copy will come in its turn
        key = message_id(raw)
        if key and key in self.memory:
            self._counters.duplicates += 1
            return
        if self._running >= self.max_in_flight or self.memory.ahead >= _MAX_AHEAD:
            self._behind = True
            return
        if (target := replay_target(raw)) is not None and target != self.durable:
            return
        delivery = Delivery.now(subject, self.stream, raw)
        message = verify(data, delivery.subject)
        if isinstance(message, Unfit):
            return  # the durable copy knows the sequence that the dead letter needs
        entry = Entry(key or message.id.encode(), data, delivery, b"")
        if not key and entry.key in self.memory:
            self._counters.duplicates += 1
            return
        self.memory.add(entry)
        self._run(entry, message)

    def _on_durable(self, subject: bytes, reply: bytes, data: bytes, raw: bytes | None) -> None:
        self.last_active = time.monotonic()
        known = parse_reply(reply)
        if known is None:
            if not status_of(raw).startswith("100"):
                log.warning("%s: a message without an acknowledgement subject was ignored", self.deliver_subject)
            return
        if self._stopping:
            return
        after = known.sequence + 1
        self.memory.next_sequence = after if known.attempt == 1 else max(self.memory.next_sequence, after)
        if known.pending == 0:
            self._behind = False
        key = message_id(raw)
        message: Message | Unfit | None = None
        if not key:
            message = verify(data, subject.decode())
            key = b"%d" % known.sequence if isinstance(message, Unfit) else message.id.encode()
        entry = self.memory.find(key)
        if entry is None:
            self._counters.duplicates += 1
            self._client.send(b"PUB %b 4\r\n+ACK\r\n" % reply)
            return
        if entry is not UNKNOWN:
            self._repeat(entry, reply, known.sequence, known.attempt)
            return
        delivery = Delivery.now(subject, self.stream, raw, sequence=known.sequence, attempt=known.attempt)
        entry = Entry(key, data, delivery, reply)
        self.memory.add(entry)
        if (target := replay_target(raw)) is not None and target != self.durable:
            self._finish(entry)
        else:
            self._admit(entry, message)

    def _repeat(self, entry: Entry, reply: bytes, sequence: int, attempt: int) -> None:
        """Take another copy of a known message."""
        if not self.memory.see_durable(entry):
            self._counters.duplicates += 1
        entry.reply = reply
        entry.delivery.sequence = sequence
        seen, entry.attempt = entry.attempt, max(entry.attempt, attempt)
        match entry.state:  # queued and running messages are answered when the handler is done
            case State.HANDLED:
                self._answer(entry, b"+ACK")
            case State.RETRYING:
                remaining = entry.retry_at - time.monotonic()
                if attempt > seen or remaining <= 0:
                    entry.delivery.attempt = entry.attempt
                    self._admit(entry, None)
                else:
                    self._send_back(entry, remaining)
            case State.DEAD:
                self._report(entry)

    def _admit(self, entry: Entry, message: Message | Unfit | None) -> None:
        """Run the handler now, or queue behind the ones that run."""
        if entry.attempt > PATIENCE * self._max_attempts:
            self._give_up(entry, "too_many_attempts", f"delivered {entry.attempt} times without an answer")
            return
        if entry.attempt > self._max_attempts:
            entry.state = State.QUEUED
            self._open[entry.key] = entry
            self._suspects.add(entry)
            return
        if self._running >= self.max_in_flight:
            entry.state = State.QUEUED
            self._open[entry.key] = entry
            self._queue.append(entry)
            return
        self._begin(entry, message)

    def _begin(self, entry: Entry, message: Message | Unfit | None = None) -> None:
        checked = message if message is not None else verify(entry.payload, entry.delivery.subject)
        if isinstance(checked, Unfit):
            self._counters.invalid += 1
            self._give_up(entry, checked.reason, checked.detail)
        else:
            self._run(entry, checked)

    # Handling

    def _run(self, entry: Entry, message: Message) -> None:
        entry.state = State.RUNNING
        entry.started = time.perf_counter_ns()
        self._open[entry.key] = entry
        self._running += 1
        self._counters.in_flight += 1
        self._counters.received += 1
        self._idle.clear()
        if self._is_async:
            self._start(self._run_async(entry, message))
            return
        try:
            tracing = self._bus.tracing
            with nullcontext() if tracing is None else tracing.handling(message, entry.delivery):
                answer = self._handler(message, entry.delivery)
        except Exception as error:
            self._done(entry, error)
            return
        futures: list[Any] = []
        if answer is not None:
            futures = [answer] if asyncio.isfuture(answer) or inspect.isawaitable(answer) else list(answer)
        if not futures:
            self._done(entry, None)
        entry.waiting = len(futures)
        for future in futures:
            asyncio.ensure_future(future).add_done_callback(partial(self._part_done, entry))

    async def _run_async(self, entry: Entry, message: Message) -> None:
        try:
            tracing = self._bus.tracing
            with nullcontext() if tracing is None else tracing.handling(message, entry.delivery):
                await cast(Awaitable[Any], self._handler(message, entry.delivery))
        except asyncio.CancelledError:
            self._abandon(entry)
            raise
        except Exception as error:
            self._done(entry, error)
        else:
            self._done(entry, None)

    def _part_done(self, entry: Entry, future: asyncio.Future[Any]) -> None:
        """Count one of the futures that a handler returned; the first failure decides."""
        entry.waiting -= 1
        if future.cancelled():
            if entry.state is State.RUNNING:
                self._abandon(entry)
            return
        error = future.exception()
        if entry.state is State.RUNNING and (error is not None or entry.waiting == 0):
            self._done(entry, error)

    def _done(self, entry: Entry, error: BaseException | None) -> None:
        self._counters.latencies_ns.append(time.perf_counter_ns() - entry.started)
        match error:
            case None:
                self._counters.handled += 1
                self._finish(entry)
            case Stale():
                self._counters.expired += 1
                self._finish(entry)
            case Reject():
                self._counters.failed += 1
                self._give_up(entry, "handler_error", error.reason)
            case _:
                self._counters.failed += 1
                self._failed(entry, error)
        self._release()

    def _failed(self, entry: Entry, error: BaseException) -> None:
        detail = error.reason if isinstance(error, Outcome) else f"{type(error).__name__}: {error}"
        if not isinstance(error, Outcome):
            log.error("handler of %s failed on %r", self.durable, entry.delivery, exc_info=error)
        if entry.attempt >= self._max_attempts:
            self._give_up(entry, "too_many_attempts", f"{entry.attempt} attempts, the last: {detail}")
            return
        settings = self._bus.settings
        delay = error.delay_s if isinstance(error, Retry) else None
        if delay is None:
            delay = growing_delay_s(entry.attempt - 1, settings.retry_wait_s, settings.retry_wait_max_s)
        self._counters.retried += 1
        entry.retry_at = time.monotonic() + delay
        self._close(entry, State.RETRYING)
        self._send_back(entry, delay)

    def _finish(self, entry: Entry) -> None:
        self._close(entry, State.HANDLED)
        self._answer(entry, b"+ACK")
        self.memory.settle(entry)

    def _give_up(self, entry: Entry, reason: str, detail: str) -> None:
        entry.reason, entry.detail = reason, detail[:_DETAIL_LENGTH]
        self._close(entry, State.DEAD)
        if entry.reply:
            self._report(entry)

    def _report(self, entry: Entry) -> None:
        """Publish the dead letter, then terminate the message; on failure it comes back and is reported then."""
        entry.state = State.RUNNING  # further copies wait for the answer
        self._open[entry.key] = entry
        self._start(self._report_and_terminate(entry))

    async def _report_and_terminate(self, entry: Entry) -> None:
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
            entry.retry_at = time.monotonic() + _DEAD_LETTER_WAIT_S
            self._close(entry, State.DEAD)
            self._send_back(entry, _DEAD_LETTER_WAIT_S)
            return
        self._close(entry, State.HANDLED)
        self._answer(entry, b"+TERM")
        self.memory.settle(entry)

    def _abandon(self, entry: Entry) -> None:
        """Let go of a cancelled message without an answer: it is delivered again."""
        self._close(entry, State.RETRYING)
        self._release()

    def _close(self, entry: Entry, state: State) -> None:
        entry.state = state
        self._open.pop(entry.key, None)
        if state is State.HANDLED:
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

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Answers

    def _send_back(self, entry: Entry, delay_s: float) -> None:
        self._answer(entry, b'-NAK {"delay": %d}' % int(delay_s * 1e9))

    def _answer(self, entry: Entry, word: bytes) -> None:
        """Answer the durable copy, where it is here; an answer lost with the connection brings the message again."""
        if entry.reply:
            self._client.send(b"PUB %b %d\r\n%b\r\n" % (entry.reply, len(word), word))
