"""What must stand on the server: durable consumers, held by one process each, and streams that it may have lost."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from nats import errors
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy, ReplayPolicy
from nats.js.errors import APIError, NotFoundError

from pipeline.bus.errors import AlreadyConsumed
from pipeline.errors import CheckFailed
from pipeline.streams import TABLE

if TYPE_CHECKING:
    from pipeline.bus.consumer import Consumer

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
_UPDATED = (
    *("description", "ack_wait", "max_deliver", "max_ack_pending", "idle_heartbeat", "metadata", "deliver_subject"),
)


def consumer_config(consumer: Consumer, description: str, owner: str, deliver_policy: DeliverPolicy) -> ConsumerConfig:
    """Return the server's form of a consumer."""
    return ConsumerConfig(
        name=consumer.durable,
        durable_name=consumer.durable,
        description=description,
        deliver_subject=consumer.deliver_subject,
        deliver_group=consumer.durable,
        deliver_policy=deliver_policy,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=consumer.ack_wait_s,
        max_deliver=-1,  # the server would fall silent about the message; we count and report
        max_ack_pending=consumer.max_in_flight,
        filter_subject=consumer.subject,
        replay_policy=ReplayPolicy.INSTANT,
        idle_heartbeat=HEARTBEAT_S,
        metadata={"worker": owner},
    )


async def ensure_consumer(
    js: JetStreamContext, stream: str, wanted: ConsumerConfig, next_sequence: int
) -> ConsumerInfo:
    """Create the durable consumer, or bring an existing one up to date; where it stands in the stream is kept.

    One that the server lost begins at `next_sequence`, or anew where the stream itself began anew (memory storage).
    """
    assert wanted.durable_name is not None
    try:
        info: ConsumerInfo = await js.consumer_info(stream, wanted.durable_name)
    except NotFoundError as missing:
        try:
            state = (await js.stream_info(stream)).state
        except NotFoundError:
            raise CheckFailed(f"there is no stream {stream}", "run `pipeline init-streams`") from missing
        if next_sequence and next_sequence <= state.last_seq + 1:
            wanted = wanted.evolve(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=next_sequence)
        elif next_sequence:
            wanted = wanted.evolve(deliver_policy=DeliverPolicy.ALL)
        return await js.add_consumer(stream, wanted)
    different = [name for name in _UPDATED if getattr(info.config, name) != getattr(wanted, name)]
    server_keys = {key: value for key, value in (info.config.metadata or {}).items() if key.startswith("_nats.")}
    if different == ["metadata"] and info.config.metadata == {**server_keys, **(wanted.metadata or {})}:
        return info
    if not different and info.config.filter_subject == wanted.filter_subject:
        return info
    values = {name: getattr(wanted, name) for name in (*_UPDATED, "filter_subject", "deliver_group", "ack_policy")}
    values["metadata"] = {**server_keys, **(wanted.metadata or {})}
    try:
        return await js.add_consumer(stream, info.config.evolve(**values))
    except APIError as error:
        raise CheckFailed(
            f"consumer {wanted.durable_name} of {stream} cannot be brought up to date: {error.description}",
            f"`nats consumer rm {stream} {wanted.durable_name}` while nothing runs; messages are delivered again",
        ) from error


async def await_unbound(js: JetStreamContext, stream: str, durable: str, timeout_s: float) -> None:
    """Wait until no other process holds the consumer: one that was killed lets go when the server notices."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            info: ConsumerInfo = await js.consumer_info(stream, durable)
        except NotFoundError:
            return
        if not info.push_bound:
            return
        if time.monotonic() >= deadline:
            raise AlreadyConsumed(
                f"another process consumes {stream} as {durable}",
                "stop it: `nats server report connections` names it (one process per worker; two would both act)",
            )
        await asyncio.sleep(0.1)


async def restore_streams(js: JetStreamContext) -> None:
    """Make the streams in memory again: a single server that restarts has forgotten them."""
    for spec in (spec for spec in TABLE if spec.storage == "memory"):
        try:
            await js.stream_info(spec.name)
        except NotFoundError:
            try:
                replicas = (await js.stream_info("METRICS")).config.num_replicas or 1
                await js.add_stream(spec.config(replicas))
                log.warning("stream %s was lost with the server and made again, empty", spec.name)
            except (errors.Error, TimeoutError) as error:
                log.error("stream %s was lost with the server and could not be made again: %s", spec.name, error)
        except (errors.Error, TimeoutError) as error:
            log.warning("stream %s could not be looked at: %s", spec.name, error)
