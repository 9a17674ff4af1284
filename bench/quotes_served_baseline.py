"""The other side of `pipeline bench quotes`: a service as nats-py's documentation writes it, with a constant answer.

Run as `python -m bench.quotes_served_baseline URL BYTES`.
"""

from __future__ import annotations

import asyncio
import sys

import nats
import nats.micro
import uvloop
from nats.micro.request import Request


async def main(url: str, size: int) -> None:
    """Answer until killed."""
    client = await nats.connect(url)
    service = await nats.micro.add_service(client, name="baseline", version="1.0.0")
    answer = bytes(size)

    async def handle(request: Request) -> None:
        await request.respond(answer)

    await service.add_endpoint(name="get", subject="baseline.get", handler=handle)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
