"""The bus: one connection, on which a worker publishes, consumes, watches and reads typed messages."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nats import errors
from nats.aio.client import Server
from nats.js import JetStreamContext
from nats.js.api import DeliverPolicy

from pipeline.bus.client import LeanClient
from pipeline.bus.consumer import Consumer, Handler
from pipeline.bus.counters import Counters
from pipeline.bus.delivery import TRACEPARENT, Delivery
from pipeline.bus.durable import HEARTBEAT_S, await_unbound, consumer_config, ensure_consumer, restore_streams
from pipeline.bus.errors import ServerUnreachable, growing_delay_s
from pipeline.bus.lanes import Stored
from pipeline.bus.publisher import Publisher
from pipeline.bus.reader import read_raw
from pipeline.bus.verify import Unfit, verify
from pipeline.bus.watch import Watch, WatchHandler
from pipeline.bus.within import within
from pipeline.clock import wall_ns
from pipeline.ids import deterministic_id, payload_digest
from pipeline.messages import DeadLetter, InvalidMessage, Message, decode
from pipeline.nats_options import client_options
from pipeline.redact import hide_password
from pipeline.sections import NatsSection
from pipeline.streams import spec_of
from pipeline.subjects import stream_of, subject_of

if TYPE_CHECKING:
    from pipeline.telemetry import Tracing

log = logging.getLogger(__name__)

_BOUND_TIMEOUT_S = 8.0


class Bus:
    """Publish, consume, watch and read; made by `Bus.connect`."""

    def __init__(self, settings: NatsSection, name: str, tracing: Tracing | None = None) -> None:
        self.name = name
        self.settings = settings
        self.client = LeanClient()
        self.counters = Counters()
        self.tracing = tracing
        self.problems: dict[str, str] = {}
        """what does not work at present, by part: the detail of a degraded worker"""
        self.on_reconnect: list[Callable[[], None]] = []
        """called after every reconnect: what was published to streams in memory may be gone"""
        self.js: JetStreamContext = self.client.jetstream(timeout=5.0)
        self._publisher = Publisher(
            self.client,
            self.counters,
            max_pending=settings.max_pending,
            repeat_s=settings.publish_timeout_s,
            deadline_s=settings.publish_deadline_s,
        )
        self._consumers: list[tuple[Consumer, Callable[[], Any]]] = []
        self._watches: list[Watch] = []
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_error = ""
        self._closing = False

    @classmethod
    async def connect(
        cls,
        settings: NatsSection,
        *,
        name: str,
        tracing: Tracing | None = None,
        timeout_s: float | None = None,
    ) -> Bus:
        """Connect, or raise ServerUnreachable after `timeout_s` (default: nats.connect_timeout_s).

        Once connected the bus reconnects for ever, with growing pauses; publishes wait meanwhile.
        """
        bus = cls(settings, name, tracing)
        limit = timeout_s if timeout_s is not None else settings.connect_timeout_s
        try:
            await within(limit, bus._connect())
        except (TimeoutError, errors.Error, OSError) as error:
            bus._closing = True
            with suppress(OSError, errors.Error):
                await bus.client.close()
            raise bus._unreachable(bus._last_error or str(error) or "no answer") from error
        await bus._publisher.start()
        bus._keeper = asyncio.create_task(bus._keep())
        return bus

    @property
    def connected(self) -> bool:
        """Tell whether the connection stands now."""
        return self.client.is_connected

    @property
    def pending_publishes(self) -> int:
        """Return how many publishes wait for their acknowledgement."""
        return self._publisher.pending

    # Publishing

    async def publish(self, message: Message, *, timeout_s: float | None = None) -> Stored:
        """Return once the message is stored; raise PublishFailed when it is not before the deadline."""
        await self._publisher.room()
        return await self.publish_soon(message, timeout_s=timeout_s)

    def publish_soon(self, message: Message, *, timeout_s: float | None = None) -> asyncio.Future[Stored]:
        """Send now and return the future of the acknowledgement; raise Backlogged where too many are on their way."""
        subject = subject_of(message)
        headers = ""
        if self.tracing is not None and (traceparent := self.tracing.traceparent(message)):
            headers = f"{TRACEPARENT}: {traceparent}\r\n"
        return self._publisher.send(
            subject, stream_of(subject), message.id, message.encode(), headers=headers, deadline_s=timeout_s
        )

    async def publish_bytes(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        stream: str | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float | None = None,
        alone: bool = True,
    ) -> Stored:
        """Store a payload as it is under an id of the caller's choice: for claims and replays.

        With `alone=False` it may share a sync with others; a batch that one of its conditions breaks is sent again one
        by one.
        """
        await self._publisher.room()
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        return await self._publisher.send(
            subject, stream or stream_of(subject), message_id, payload, headers=lines, deadline_s=timeout_s, alone=alone
        )

    async def dead_letter(
        self,
        *,
        stream: str,
        subject: str,
        sequence: int,
        consumer: str,
        reason: str,
        detail: str,
        attempts: int,
        payload: bytes,
    ) -> Stored:
        """Report a message as given up; given up again by the same consumer, it is the same dead letter."""
        digest = payload_digest(payload)
        cause, correlation = "", ""
        try:
            original = decode(payload)
            cause, correlation = original.id, original.correlation_id
        except InvalidMessage:
            pass
        letter = DeadLetter(
            id=deterministic_id("dead_letter", stream, sequence, consumer, digest),
            correlation_id=correlation,
            causation_id=cause,
            created_ns=wall_ns(),
            producer=self.name,
            stream=stream,
            subject=subject,
            stream_sequence=sequence,
            consumer=consumer,
            reason=reason,
            detail=detail[:1_000],
            attempts=attempts,
            digest=digest,
            size=len(payload),
        )
        stored = await self.publish(letter)
        if not stored.duplicate:
            self.counters.dead_lettered += 1
        log.error("dead letter: %s:%d %s from %s: %s: %s", stream, sequence, subject, consumer, reason, detail[:200])
        return stored

    # Consuming

    async def consume(
        self,
        stream: str,
        subject: str,
        *,
        durable: str,
        handler: Handler,
        description: str = "",
        max_in_flight: int | None = None,
        max_attempts: int | None = None,
        ack_wait_s: float | None = None,
        live: bool = True,
        deliver: DeliverPolicy = DeliverPolicy.ALL,
    ) -> Consumer:
        """Handle every message of a subject once in effect; see docs/delivery.md.

        The handler is `def` or `async def handler(message, delivery)`. A plain function is called from the read loop,
        in the order of arrival over all consumers and watches of this bus, and may return futures (of `publish_soon`):
        the message is acknowledged when they are done. With `live=False` messages come from the durable consumer
        alone, in stream order. `deliver` says where a consumer that the server does not know yet begins.
        """
        consumer = Consumer(
            self,
            stream=stream,
            subject=subject,
            durable=durable,
            handler=handler,
            max_in_flight=max_in_flight or self.settings.max_in_flight,
            max_attempts=max_attempts or self.settings.max_attempts,
            ack_wait_s=ack_wait_s or self.settings.ack_wait_s,
            live=live,
        )

        async def ensure() -> int:
            wanted = consumer_config(consumer, description or f"{durable} handles {subject}", self.name, deliver)
            info = await ensure_consumer(self.js, stream, wanted, consumer.memory.resume_sequence())
            return (info.num_pending or 0) + (info.num_ack_pending or 0)

        await await_unbound(self.js, stream, durable, _BOUND_TIMEOUT_S)
        backlog = await ensure()
        await consumer.start(backlog=backlog > 0)
        self._consumers.append((consumer, ensure))
        return consumer

    async def watch(self, subject: str, handler: WatchHandler) -> Watch:
        """Hand every message published from now on to a handler: live only, nothing is acknowledged or repeated.

        A plain function is called from the read loop in the order of arrival; an `async def` runs in a task of its
        own, and messages are dropped and counted while `nats.max_in_flight` of them run.
        """
        watch = Watch(self, subject, handler)
        await watch.start()
        self._watches.append(watch)
        return watch

    # Reading

    async def read(
        self,
        stream: str,
        subject: str | None = None,
        *,
        start_sequence: int = 0,
        last: int = 0,
        follow: bool = False,
    ) -> AsyncIterator[tuple[Message | InvalidMessage, Delivery]]:
        """Yield what a stream holds, in order: from a sequence, or the last N, to the present end or following.

        A payload that does not verify is yielded as the InvalidMessage itself.
        """
        async for delivery, payload in read_raw(
            self,
            stream,
            subject or spec_of(stream).subjects[0],
            start_sequence=start_sequence,
            last=last,
            follow=follow,
        ):
            yield _decoded(payload), delivery

    async def last(self, subject: str) -> list[tuple[str, Message]]:
        """Return the last message of each subject that the pattern covers; what does not verify is left out."""
        found: dict[str, Message] = {}
        async for delivery, payload in read_raw(self, stream_of(subject), subject, last_per_subject=True):
            message = verify(payload, delivery.subject)
            if isinstance(message, Unfit):
                self.counters.invalid += 1
                log.warning("%r does not verify: %s", delivery, message.detail)
            else:
                found[delivery.subject] = message
        return list(found.items())

    # Life

    async def close(self, timeout_s: float = 5.0) -> bool:
        """Stop consuming, let handlers and publishes finish, close; return whether everything finished in time."""
        deadline = time.monotonic() + timeout_s
        self._closing = True
        stops = [consumer.stop(max(0.0, deadline - time.monotonic())) for consumer, _ in self._consumers]
        finished = all(await asyncio.gather(*stops))
        finished = await self._publisher.drained(deadline - time.monotonic()) and finished
        for watch in self._watches:
            await watch.stop()
        for task in [*self._tasks, *([self._keeper] if self._keeper is not None else [])]:
            task.cancel()
        try:
            if self.client.is_connected:
                await self.client.flush(timeout=1)
        except errors.Error:
            finished = False
        self._publisher.close("the connection was closed")
        with suppress(OSError, errors.Error):  # a connection that is lost already
            await self.client.close()
        return finished

    async def _connect(self) -> None:
        await self.client.connect(
            **client_options(self.settings, self.name),
            max_reconnect_attempts=-1,
            reconnect_to_server_handler=self._next_server,
            ping_interval=2,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
        )

    def _unreachable(self, words: str) -> ServerUnreachable:
        where = hide_password(self.settings.url)
        if "authorization" in words.lower() or "authentication" in words.lower():
            fix = "set nats.user and nats.password, nats.token or nats.credentials_file as the server wants them"
            return ServerUnreachable(f"the NATS server at {where} does not let us in: {words}", fix)
        fix = "start one (`pipeline up` brings its own), or name another with PIPELINE_NATS__URL"
        return ServerUnreachable(f"no NATS server answers at {where}: {words}", fix)

    def _next_server(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
        """Choose the server that failed least and a pause that grows with its failures."""
        server = min(servers, key=lambda candidate: candidate.reconnects)
        settings = self.settings
        return server, growing_delay_s(server.reconnects, settings.reconnect_wait_s, settings.reconnect_wait_max_s)

    async def _on_error(self, error: Exception) -> None:
        self._last_error = str(error) or type(error).__name__
        log.debug("nats: %s", self._last_error)

    async def _on_disconnected(self) -> None:
        if self._closing:
            return
        self.problems["nats"] = "not connected"
        log.warning("connection to the NATS server lost; reconnecting")

    async def _on_reconnected(self) -> None:
        self.problems.pop("nats", None)
        self.counters.reconnects += 1
        log.info("reconnected to %s", self.client.connected_url.netloc if self.client.connected_url else "?")
        for consumer, _ in self._consumers:
            consumer.catch_up()
        self._publisher.resend()
        self._background(restore_streams(self.js))
        for callback in self.on_reconnect:
            callback()

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self) -> None:
        """Extend what handlers work on, and bring back consumers that the server lost."""
        shortest = min((consumer.ack_wait_s for consumer, _ in self._consumers), default=self.settings.ack_wait_s)
        while True:
            await asyncio.sleep(min(shortest, self.settings.ack_wait_s) / 3)
            if not self.client.is_connected:
                continue
            for consumer, ensure in self._consumers:
                consumer.extend()
                if time.monotonic() - consumer.last_active < 3 * HEARTBEAT_S:
                    continue
                part = f"consumer {consumer.stream}/{consumer.durable}"
                try:
                    await ensure()
                except Exception as error:
                    self.problems[part] = str(error)
                    log.error("%s is gone and cannot be brought back: %s", part, error)
                else:
                    consumer.last_active = time.monotonic()
                    if self.problems.pop(part, None):
                        log.info("%s is back", part)


def _decoded(payload: bytes) -> Message | InvalidMessage:
    try:
        return decode(payload)
    except InvalidMessage as error:
        return error
