"""A worker for the tests: appends each message's id to a file, and dies by SIGKILL at a chosen message."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from pipeline.bus import Bus, Delivery
from pipeline.config import load_config
from pipeline.messages import Opportunity


async def main(url: str, log: Path, die_at: str) -> None:
    bus = await Bus.connect(
        load_config({"nats.url": url, "nats.ack_wait_s": 0.5}, environment={}).nats, name="crashing"
    )

    async def handle(message: Opportunity, delivery: Delivery) -> None:
        with log.open("a") as file:
            file.write(f"{message.id} {delivery.attempt}\n")
        await asyncio.sleep(0.01)
        if message.id == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    await bus.consume(
        "OPPORTUNITIES", "opportunity.found", durable="crashing", handler=handle, max_in_flight=8, max_attempts=3
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
