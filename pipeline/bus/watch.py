"""Live subscriptions: every message published from now on, nothing acknowledged or repeated."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pipeline.bus.delivery import Delivery, ends_batch, message_id, replay_target
from pipeline.bus.verify import Unfit, verify
from pipeline.messages import Message
from pipeline.subjects import stream_of

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

    from pipeline.bus.connection import Bus

WatchHandler = Callable[[Any, Delivery], Any]

log = logging.getLogger(__name__)

_REMEMBERED = 1_024
_DEAD_LETTERS_PER_S = 10


class Watch:
    """One live subscription; made by `Bus.watch`."""

    def __init__(self, bus: Bus, subject: str, handler: WatchHandler) -> None:
        self.subject = subject
        self._bus = bus
        self._handler = handler
        self._is_async = inspect.iscoroutinefunction(handler)
        self._subscription: Subscription | None = None
        self._recent: dict[bytes, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._letters = 0
        self._letters_since = 0.0

    async def start(self) -> None:
        """Subscribe."""
        self._subscription = await self._bus.client.subscribe_direct(self.subject, self._on_message)

    async def stop(self) -> None:
        """Unsubscribe and cancel the handlers that run."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await self._bus.client.unsubscribe_direct(subscription)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_message(self, subject: bytes, _reply: bytes, data: bytes, raw: bytes | None) -> None:
        counters = self._bus.counters
        if not data and ends_batch(data, raw):
            return
        if key := message_id(raw):
            if key in self._recent:
                counters.duplicates += 1
                return
            self._recent[key] = None
            if len(self._recent) > _REMEMBERED:
                del self._recent[next(iter(self._recent))]
        if replay_target(raw) is not None:
            return
        delivery = Delivery.now(subject, "", raw)
        message = verify(data, delivery.subject)
        if isinstance(message, Unfit):
            self._unfit(delivery.subject, message, data)
            return
        counters.received += 1
        if self._is_async:
            if len(self._tasks) >= self._bus.settings.max_in_flight:
                counters.dropped += 1
            else:
                self._start(self._run_async(message, delivery))
            return
        started = time.perf_counter_ns()
        try:
            tracing = self._bus.tracing
            with nullcontext() if tracing is None else tracing.handling(message, delivery):
                self._handler(message, delivery)
        except Exception:
            counters.failed += 1
            log.exception("handler of %s failed on %r", self.subject, delivery)
        else:
            counters.handled += 1
        counters.latencies_ns.append(time.perf_counter_ns() - started)

    async def _run_async(self, message: Message, delivery: Delivery) -> None:
        counters = self._bus.counters
        counters.in_flight += 1
        started = time.perf_counter_ns()
        try:
            tracing = self._bus.tracing
            with nullcontext() if tracing is None else tracing.handling(message, delivery):
                await self._handler(message, delivery)
            counters.handled += 1
        except Exception:
            counters.failed += 1
            log.exception("handler of %s failed on %r", self.subject, delivery)
        finally:
            counters.in_flight -= 1
            counters.latencies_ns.append(time.perf_counter_ns() - started)

    def _unfit(self, subject: str, unfit: Unfit, data: bytes) -> None:
        """Report a payload that does not verify, at most so many a second; all are counted."""
        self._bus.counters.invalid += 1
        now = time.monotonic()
        if now - self._letters_since >= 1.0:
            self._letters, self._letters_since = 0, now
        self._letters += 1
        if self._letters <= _DEAD_LETTERS_PER_S:
            self._start(self._report(subject, unfit, data))

    async def _report(self, subject: str, unfit: Unfit, data: bytes) -> None:
        try:
            await self._bus.dead_letter(
                stream=stream_of(subject),
                subject=subject,
                sequence=0,  # unknown: the message came live
                consumer=f"{self._bus.name} (live)",
                reason=unfit.reason,
                detail=unfit.detail,
                attempts=1,
                payload=data,
            )
        except Exception as error:
            log.error("dead letter for %s was not stored: %s", subject, error)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
