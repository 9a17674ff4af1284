"""Quotes over NATS: services that `nats micro ls` finds, and subscriptions told on subjects of their own.

Requests are FlatBuffers (`schemas/services.fbs`), or JSON where the payload begins with `{`; what is asked in JSON is
answered in JSON. A subscription is a lease: it ends when it is not renewed, and it waits when its subscriber does not
say that it received what was told.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import nats.micro
from nats.aio.subscription import Subscription as NatsSubscription
from nats.micro.service import Endpoint, EndpointConfig, Service

from pipeline.bus import Bus
from pipeline.bus.client import LeanClient
from pipeline.context import WorkerContext
from pipeline.errors import Unreachable
from pipeline.messages import (
    InvalidMessage,
    Message,
    PoolAnswer,
    PoolRequest,
    Problem,
    QuoteAnswer,
    QuoteChanges,
    QuoteRequest,
    SubscribeAnswer,
    SubscribeRequest,
)
from pipeline.tasks import end_tasks
from workers.quote_core.desk import NotUnderstood
from workers.quote_core.served import json_form
from workers.quote_core.served.clerk import NOT_READY, Clerk
from workers.quote_core.served.subscriptions import Hub, Subscription

NAME = "quotes"
VERSION = "1.0.0"
QUEUE = "quotes"
STREAM_SUBJECT = "quotes.stream."
_NAME = re.compile(r"[A-Za-z0-9_-]{8,64}")
_CODES = {Problem.BAD_REQUEST: 400, Problem.UNKNOWN_TOKEN: 404, Problem.UNKNOWN_POOL: 404, Problem.NO_QUOTE: 404}
_CODES |= {Problem.TOO_MANY: 429, Problem.NOT_READY: 503, Problem.UNKNOWN_SUBSCRIPTION: 404, Problem.INTERNAL: 500}
JANITOR_S = 0.25
MAX_TASKS = 1024

Handle = Callable[[bytes, bytes], None]
"""Payload and where to reply."""
Answer = QuoteAnswer | PoolAnswer | SubscribeAnswer


class DirectEndpoint(Endpoint):
    """A service's endpoint whose requests are handled in the read loop: a third of the time of one task per request.

    It stands in the service's information and statistics like any other.
    """

    def __init__(self, service: Service, client: LeanClient, config: EndpointConfig, handle: Handle) -> None:
        """Prepare; `handle` answers by itself."""
        super().__init__(service, config)
        self._lean = client
        self._handle = handle
        self._direct: NatsSubscription | None = None

    async def _start(self) -> None:
        self._direct = await self._lean.subscribe_direct(self._subject, self._on_request, queue=self._queue_group)

    async def _stop(self) -> None:
        if self._direct is not None:
            await self._lean.unsubscribe_direct(self._direct)
            self._direct = None

    def _on_request(self, _subject: bytes, reply: bytes, payload: bytes, _headers: bytes | None) -> None:
        if not reply:
            return
        began = time.perf_counter_ns()
        self._handle(payload, reply)
        self._num_requests += 1
        self._processing_time += time.perf_counter_ns() - began
        self._average_processing_time = self._processing_time // self._num_requests

    def failed(self, words: str) -> None:
        """Count a request that was answered with a problem."""
        self._num_errors += 1
        self._last_error = words  # type: ignore[assignment]  # nats-py sets a text there itself, but types it None


@dataclass(slots=True)
class _Told:
    """One subscription over NATS."""

    subscription: Subscription
    as_json: bool
    until_ns: int
    received: int = 0
    task: asyncio.Task[None] | None = None

    @property
    def subject(self) -> str:
        return STREAM_SUBJECT + self.subscription.name


class NatsServices:
    """The services, on a connection of their own."""

    def __init__(self, context: WorkerContext, clerk: Clerk, hub: Hub) -> None:
        """Prepare; nothing is served before `run`."""
        self.context = context
        self.clerk = clerk
        self.hub = hub
        self.settings = context.config.serve
        self._client: LeanClient | None = None
        self._told: dict[str, _Told] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._endpoints: dict[str, DirectEndpoint] = {}

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            Unreachable: if the connection is lost for good.
        """
        bus = await Bus.connect(self.context.config.nats, name=f"{self.context.name}-quotes")
        self._client = bus.client
        service = await nats.micro.add_service(
            bus.client,
            name=NAME,
            version=VERSION,
            description="Quotes of pools and providers: FlatBuffers (schemas/services.fbs) or JSON",
            metadata={"example": 'nats req quotes.get \'{"pair":"SOL/USDC","amount":"1000000000"}\''},
            queue_group=QUEUE,
        )
        try:
            for name, handle in (
                ("get", self._quotes),
                ("batch", self._quotes),
                ("pool", self._pool),
                ("subscribe", self._subscribe),
            ):
                config = EndpointConfig(name=name, handler=_never, subject=f"{NAME}.{name}", queue_group=QUEUE)
                endpoint = DirectEndpoint(service, bus.client, config, self._guarded(name, handle))
                await endpoint._start()
                # nats-py makes its own endpoints only; a test holds this to the version in use.
                service._endpoints.append(endpoint)
                self._endpoints[name] = endpoint
            while not bus.client.is_closed:
                self._end_leases()
                await asyncio.sleep(JANITOR_S)
            raise Unreachable("the connection for serving quotes was closed", "it is made again")
        finally:
            for name in list(self._told):
                self._end(name, "stopped")
            await end_tasks(self._tasks)
            self._client = None
            await bus.close(1.0)

    def _guarded(self, name: str, handle: Callable[[str, bytes, bytes], None]) -> Handle:
        def guarded(payload: bytes, reply: bytes) -> None:
            try:
                handle(name, payload, reply)
            except Exception:  # one request's fault must not leave its client waiting
                self.context.log.exception("a request failed", service=name)
                words = "a fault of the quote core; its log says more"
                self._reply(name, reply, QuoteAnswer(problem=Problem.INTERNAL, detail=words), payload[:1] == b"{")

        return guarded

    def _quotes(self, name: str, payload: bytes, reply: bytes) -> None:
        as_json = payload[:1] == b"{"
        try:
            request = json_form.quote_request(payload) if as_json else QuoteRequest.decode(payload)
        except (json_form.NotJson, InvalidMessage) as error:
            self._reply(name, reply, self.clerk.bad("", _unreadable("QuoteRequest", error)), as_json)
            return
        if name == "get" and len(request.pairs) > 1:
            answer = self.clerk.bad(request.id, f"{len(request.pairs)} pairs; ask quotes.batch for more than one")
            self._reply(name, reply, answer, as_json)
        elif self.clerk.at_once(request):
            self._reply(name, reply, self.clerk.quotes_now(request), as_json)
        elif len(self._tasks) >= MAX_TASKS:
            self.clerk.count(Problem.TOO_MANY)
            words = f"{MAX_TASKS} requests are being answered; ask again later"
            answer = QuoteAnswer(correlation_id=request.id, problem=Problem.TOO_MANY, detail=words)
            self._reply(name, reply, answer, as_json)
        else:
            self._background(self._answer(name, request, reply, as_json))

    async def _answer(self, name: str, request: QuoteRequest, reply: bytes, as_json: bool) -> None:
        self._reply(name, reply, await self.clerk.quotes(request), as_json)

    def _pool(self, name: str, payload: bytes, reply: bytes) -> None:
        as_json = payload[:1] == b"{"
        try:
            request = json_form.pool_request(payload) if as_json else PoolRequest.decode(payload)
        except (json_form.NotJson, InvalidMessage) as error:
            self.clerk.count(Problem.BAD_REQUEST)
            words = _unreadable("PoolRequest", error)
            self._reply(name, reply, PoolAnswer(problem=Problem.BAD_REQUEST, detail=words), as_json)
            return
        self._reply(name, reply, self.clerk.pool(request), as_json)

    def _subscribe(self, name: str, payload: bytes, reply: bytes) -> None:
        as_json = payload[:1] == b"{"
        try:
            request = json_form.subscribe_request(payload) if as_json else SubscribeRequest.decode(payload)
        except (json_form.NotJson, InvalidMessage) as error:
            self._reply(name, reply, self._no(Problem.BAD_REQUEST, _unreadable("SubscribeRequest", error)), as_json)
            return
        answer = self._begin(request, as_json) if request.pairs else self._renew(request)
        self._reply(name, reply, answer.replace(correlation_id=request.id, causation_id=request.id), as_json)

    def _begin(self, request: SubscribeRequest, as_json: bool) -> SubscribeAnswer:
        if _NAME.fullmatch(request.subscription) is None:
            words = 'choose a name of 8 to 64 letters, digits, "-" or "_", and listen on quotes.stream.NAME first'
            return self._no(Problem.BAD_REQUEST, words)
        asked = self.clerk.understand(request.pairs, paired=request.paired)
        if isinstance(asked, NotUnderstood):
            return self._no(asked.problem, asked.detail)
        if not self.clerk.desk.ready:
            return self._no(Problem.NOT_READY, NOT_READY)
        self._end(request.subscription, "replaced")
        subscription = Subscription(request.subscription, asked)
        if not self.hub.add(subscription):
            return self._no(Problem.TOO_MANY, f"{self.hub.limit} subscriptions are served already; try again later")
        told = _Told(subscription, as_json, self._lease_end())
        self._told[subscription.name] = told
        told.task = self._background(self._tell(told))
        return self._ok(told)

    def _renew(self, request: SubscribeRequest) -> SubscribeAnswer:
        told = self._told.get(request.subscription)
        if told is None:
            words = "no such subscription: it ended, or its lease ran out; begin it with its pairs"
            return self._no(Problem.UNKNOWN_SUBSCRIPTION, words)
        if request.end:
            answer = self._ok(told)
            self._end(request.subscription, "ended")
            return answer
        told.until_ns = self._lease_end()
        if request.received > told.received:
            told.received = min(request.received, told.subscription.sequence)
            told.subscription.wake.set()
        if request.snapshot:
            # What was lost cannot be received any more.
            told.received = told.subscription.sequence
            told.subscription.start_over()
        return self._ok(told)

    async def _tell(self, told: _Told) -> None:
        """Tell one subscription what changes, never more than the window ahead of what it received."""
        subscription, client = told.subscription, self._client
        interval_s = self.settings.interval_ms / 1000
        while client is not None and not client.is_closed:
            await subscription.wake.wait()
            if subscription.sequence - told.received >= self.settings.window or not client.is_connected:
                subscription.wake.clear()
                # The renewal wakes it; so does the next change, and this pause keeps that from spinning.
                await asyncio.sleep(max(interval_s, 0.01))
                continue
            changes = self._changes(subscription)
            if changes is not None:
                self._send(told.subject.encode(), changes, told.as_json)
                self.hub.told += 1
            await asyncio.sleep(interval_s)

    def _changes(self, subscription: Subscription) -> QuoteChanges | None:
        desk = self.clerk.desk
        aggregator = desk.aggregator()
        if aggregator is None:
            return None
        return subscription.take(
            desk.answer,
            slot=aggregator.book.slot,
            market_ns=aggregator.now_ns(),
            now_ns=self.context.clock(),
            producer=self.context.name,
        )

    def _end(self, name: str, why: str) -> None:
        told = self._told.pop(name, None)
        if told is not None:
            self.hub.remove(told.subscription, why)
            if told.task is not None:
                told.task.cancel()

    def _end_leases(self) -> None:
        now_ns = time.monotonic_ns()
        for name in [name for name, told in self._told.items() if told.until_ns < now_ns]:
            self._end(name, "lease")

    def _lease_end(self) -> int:
        return time.monotonic_ns() + int(self.settings.lease_s * 1e9)

    def _ok(self, told: _Told) -> SubscribeAnswer:
        return SubscribeAnswer(
            created_ns=self.context.clock(),
            producer=self.context.name,
            subject=told.subject,
            sequence=told.subscription.sequence,
            lease_ns=int(self.settings.lease_s * 1e9),
            window=self.settings.window,
        )

    def _no(self, problem: Problem, words: str) -> SubscribeAnswer:
        self.clerk.count(problem)
        return SubscribeAnswer(
            created_ns=self.context.clock(), producer=self.context.name, problem=problem, detail=words
        )

    def _reply(self, name: str, reply: bytes, answer: Answer, as_json: bool) -> None:
        headers = b""
        if answer.problem:
            words = _one_line(answer.detail)
            code = _CODES.get(Problem(answer.problem), 500)
            headers = f"Nats-Service-Error: {words}\r\nNats-Service-Error-Code: {code}\r\n".encode()
            self._endpoints[name].failed(words)
        self._send(reply, answer, as_json, headers)

    def _send(self, subject: bytes, message: Message, as_json: bool, headers: bytes = b"") -> None:
        if self._client is None:
            return
        payload = json_form.to_json(message) if as_json else message.encode()
        if len(payload) > self._client.max_payload:
            words = f"the answer has {len(payload)} bytes, the server takes {self._client.max_payload}; ask for less"
            self.context.log.warning("an answer was too large", bytes=len(payload))
            small = QuoteAnswer(problem=Problem.TOO_MANY, detail=words)
            payload = json_form.to_json(small) if as_json else small.encode()
        if headers:
            block = b"NATS/1.0\r\n" + headers + b"\r\n"
            self._client.send(
                b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, len(block), len(block) + len(payload), block, payload)
            )
        else:
            self._client.send(b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload))

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.context.log.error("serving a request failed", error=repr(error))


async def _never(_request: object) -> None:
    """Stand where nats-py wants a handler; DirectEndpoint does not call it."""


def _unreadable(what: str, error: Exception) -> str:
    return f"the request is no {what}: {error}"


def _one_line(words: str) -> str:
    """Return words as a header may hold them."""
    return "".join(letter if letter.isprintable() and letter.isascii() else "?" for letter in words)[:512]
