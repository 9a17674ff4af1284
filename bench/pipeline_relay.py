"""The baseline of the pipeline's benchmark: one hop of a relay as nats-py's own documentation writes it.

Pull consumer, `fetch(10)`, awaited publish of the next message, acknowledgement. No codec, no checks. Run as a
process: URL, number of the hop, size of the payload that it publishes. The last hop keeps what arrived and tells it
when asked.
"""

from __future__ import annotations

import struct
import sys
import time

import nats
import uvloop
from nats.aio.msg import Msg

HOPS = 3
COLLECT = "relay.collect"
ARRIVED = struct.Struct("<QQQ")
"""Number of the message, wall-clock time of the change and of the arrival at the last hop."""
HEAD = struct.Struct("<QQ")


def stream(hop: int) -> str:
    """Return the stream that a hop reads."""
    return f"RELAY_{hop}"


def subject(hop: int) -> str:
    """Return the subject that a hop reads."""
    return f"relay.hop.{hop}"


async def relay(url: str, hop: int, size: int) -> None:
    """Pass messages on until ended."""
    nc = await nats.connect(url, name=f"relay {hop}")
    js = nc.jetstream()
    arrived: list[bytes] = []
    filling = bytes(size)

    async def collect(request: Msg) -> None:
        await request.respond(b"".join(arrived[: 1000 * 32]))
        del arrived[: 1000 * 32]

    if hop == HOPS - 1:
        await nc.subscribe(COLLECT, cb=collect)
    subscription = await js.pull_subscribe(subject(hop), durable=f"relay-{hop}", stream=stream(hop))
    while True:
        try:
            messages = await subscription.fetch(10, timeout=1)
        except TimeoutError:
            continue
        for message in messages:
            head = message.data[: HEAD.size]
            if hop == HOPS - 1:
                arrived.append(head + time.time_ns().to_bytes(8, "little"))
            else:
                await js.publish(subject(hop + 1), head + filling)
            await message.ack()


if __name__ == "__main__":
    uvloop.run(relay(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
