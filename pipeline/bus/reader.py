"""Reading what a stream holds, in order: for catching up, for rebuilding, for looking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from nats import errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from pipeline.bus.delivery import Delivery, parse_reply
from pipeline.bus.errors import ReadFailed, growing_delay_s
from pipeline.errors import CheckFailed

if TYPE_CHECKING:
    from pipeline.bus.connection import Bus

_BATCH = 256
_FOLLOW_WAIT_S = 1.0
_ANSWER_S = 5.0
_FAILURES = 6  # in a row, before a reader that does not follow gives up
_RETRY_S = 0.05
_RETRY_MAX_S = 1.0
_NO_STREAM = 10059
_BAD_REQUEST = 400


async def read_raw(
    bus: Bus,
    stream: str,
    subject: str,
    *,
    start_sequence: int = 0,
    last: int = 0,
    last_per_subject: bool = False,
    follow: bool = False,
) -> AsyncIterator[tuple[Delivery, bytes]]:
    """Yield (delivery, payload) in stream order; end at the present end, or follow for ever.

    A reader that loses its connection or its consumer goes on after the last message it yielded; with
    `last_per_subject` it begins again.
    """
    next_sequence = await _last_start(bus, stream, subject, last) if last else start_sequence
    failures = 0
    began = False
    while True:
        try:
            if began and not last_per_subject:
                next_sequence = await _still_there(bus, stream, next_sequence)
            policy = DeliverPolicy.LAST_PER_SUBJECT if last_per_subject else DeliverPolicy.ALL
            async with aclosing(_read_on(bus, stream, subject, policy, next_sequence, follow=follow)) as messages:
                async for delivery, payload in messages:
                    failures, began = 0, True
                    if not last_per_subject:
                        next_sequence = delivery.sequence + 1
                    yield delivery, payload
            return
        except NotFoundError as error:
            if error.err_code == _NO_STREAM and not began:
                raise CheckFailed(f"there is no stream {stream}", "run `pipeline init-streams`") from error
        except (APIError, ServiceUnavailableError) as error:
            if error.code == _BAD_REQUEST:
                raise CheckFailed(f"{stream} cannot be read at {subject}: {error.description}") from error
        except (errors.Error, TimeoutError):
            pass
        failures += 1
        if failures > _FAILURES and not follow:
            raise ReadFailed(f"{stream} stopped answering", "see that the server runs: `pipeline doctor`")
        await asyncio.sleep(growing_delay_s(failures, _RETRY_S, _RETRY_MAX_S))


async def _read_on(
    bus: Bus, stream: str, subject: str, policy: DeliverPolicy, start: int, *, follow: bool
) -> AsyncGenerator[tuple[Delivery, bytes], None]:
    """Read through one short-lived consumer; raise where a message was lost on the way."""
    config = ConsumerConfig(
        description=f"{bus.name} reads {subject}",
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE if start else policy,
        opt_start_seq=start or None,
        ack_policy=AckPolicy.NONE,
        filter_subject=subject,
        inactive_threshold=30.0,
        mem_storage=True,
        num_replicas=1,
    )
    info = await bus.js.add_consumer(stream, config)
    if not info.num_pending and not follow:
        return
    pull = await bus.js.pull_subscribe_bind(stream=stream, consumer=info.name)
    expected = 1
    try:
        while True:
            try:
                batch: list[Msg] = await pull.fetch(_BATCH, timeout=_FOLLOW_WAIT_S if follow else _ANSWER_S)
            except errors.TimeoutError:
                if not follow:
                    raise  # the rest may have aged away: look again
                await bus.js.consumer_info(stream, info.name)  # raises where it is gone
                continue
            for message in batch:
                known = parse_reply(message.reply.encode())
                if known is None or known.consumer_sequence != expected:
                    raise errors.Error("a message was lost on the way")
                expected += 1
                delivery = Delivery.now(message.subject.encode(), stream, None, sequence=known.sequence)
                delivery.set_headers(message.headers)
                yield delivery, message.data
                if known.pending == 0 and not follow:
                    return
    finally:
        with suppress(errors.Error, TimeoutError):  # the server removes what is left after its idle time
            await pull.unsubscribe()
            if bus.connected:
                await bus.js.delete_consumer(stream, info.name)


async def _still_there(bus: Bus, stream: str, next_sequence: int) -> int:
    """Return where to go on: from the start where the stream itself began anew (memory storage)."""
    state = (await bus.js.stream_info(stream)).state
    return next_sequence if next_sequence <= state.last_seq + 1 else 0


async def _last_start(bus: Bus, stream: str, subject: str, count: int) -> int:
    """Return the sequence from which `count` messages of the subject are left, or 0 for all of them."""
    try:
        info = await bus.js.stream_info(stream)
    except NotFoundError as error:
        raise CheckFailed(f"there is no stream {stream}", "run `pipeline init-streams`") from error
    low, high = info.state.first_seq, info.state.last_seq
    if info.state.messages <= count:
        return low
    # The number of messages from a sequence on falls with the sequence: halve.
    while low < high:
        middle = (low + high + 1) // 2
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=middle,
            ack_policy=AckPolicy.NONE,
            filter_subject=subject,
            mem_storage=True,
            inactive_threshold=5.0,
            num_replicas=1,
        )
        probe = await bus.js.add_consumer(stream, config)
        await bus.js.delete_consumer(stream, probe.name)
        if (probe.num_pending or 0) >= count:
            low = middle
        else:
            high = middle - 1
    return low
