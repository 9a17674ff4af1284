"""Reading what a stream holds, in order: for catching up, for rebuilding, for looking."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from nats import errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from pipeline.bus.delivery import Delivery, parse_reply
from pipeline.bus.errors import ReadFailed
from pipeline.errors import CheckFailed

if TYPE_CHECKING:
    from pipeline.bus.connection import Bus

_BATCH = 256
_FOLLOW_WAIT_S = 1.0
_ANSWER_S = 5.0
_GIVE_UP_S = 15.0


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

    A reader that loses its connection or its consumer goes on after the last message it yielded.
    """
    if last:
        start_sequence, last_per_subject = await _last_start(bus, stream, subject, last), False
    next_sequence = start_sequence
    quiet_since = time.monotonic()
    while True:
        policy = DeliverPolicy.LAST_PER_SUBJECT if last_per_subject else DeliverPolicy.ALL
        if next_sequence:
            policy = DeliverPolicy.BY_START_SEQUENCE
        config = ConsumerConfig(
            description=f"{bus.name} reads {subject}",
            deliver_policy=policy,
            opt_start_seq=next_sequence or None,
            ack_policy=AckPolicy.NONE,
            filter_subject=subject,
            inactive_threshold=30.0,
            mem_storage=True,
            num_replicas=1,
        )
        try:
            info = await bus.js.add_consumer(stream, config)
            if not info.num_pending and not follow:
                return
            pull = await bus.js.pull_subscribe_bind(stream=stream, consumer=info.name)
            try:
                expected = 1
                while True:
                    try:
                        batch: list[Msg] = await pull.fetch(_BATCH, timeout=_FOLLOW_WAIT_S if follow else _ANSWER_S)
                    except errors.TimeoutError:
                        if not follow:
                            break  # the rest may have aged away: look again
                        await bus.js.consumer_info(stream, info.name)  # raises where it is gone
                        continue
                    for message in batch:
                        known = parse_reply(message.reply.encode())
                        assert known is not None
                        if known.consumer_sequence != expected:
                            raise errors.Error("a message was lost on the way")
                        expected += 1
                        next_sequence = known.sequence + 1
                        delivery = Delivery(
                            message.subject,
                            stream,
                            sequence=known.sequence,
                            attempt=1,
                            received_ns=time.time_ns(),
                            raw=None,
                        )
                        delivery.set_headers(message.headers)
                        quiet_since = time.monotonic()
                        yield delivery, message.data
                        if known.pending == 0 and not follow:
                            return
            finally:
                await _discard(bus, stream, info.name)
        except NotFoundError as error:
            if error.err_code == 10059:  # the stream itself
                raise CheckFailed(f"there is no stream {stream}", "run `pipeline init-streams`") from error
        except (APIError, ServiceUnavailableError) as error:
            if error.err_code in (10093, 10012, 10100):
                raise CheckFailed(f"{stream} cannot be read at {subject}: {error.description}") from error
        except (errors.Error, TimeoutError):
            pass
        if not follow and time.monotonic() - quiet_since > _GIVE_UP_S:
            raise ReadFailed(f"{stream} stopped answering", "see that the server runs: `pipeline doctor`")


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
        await _discard(bus, stream, probe.name)
        if (probe.num_pending or 0) >= count:
            low = middle
        else:
            high = middle - 1
    return low


async def _discard(bus: Bus, stream: str, name: str) -> None:
    try:
        if bus.client.is_connected:
            await bus.js.delete_consumer(stream, name)
    except (errors.Error, TimeoutError):
        pass  # the server removes it after its idle time
