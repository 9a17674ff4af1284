"""A worker process whose way of ending is chosen by FAKE_MODE; run by the tests."""

import asyncio
import os
import sys
import time

from pipeline.config import load_config
from pipeline.errors import UsageFailure
from pipeline.parent import end_with
from pipeline.worker import WorkerContext, run_worker


async def run(context: WorkerContext) -> None:
    match os.environ.get("FAKE_MODE", "ok"):
        case "finish":
            return
        case "fail":
            raise RuntimeError("nats://user:hunter22@example.org is on fire")
        case "refuse":
            raise UsageFailure("the recorded file is not there", "set market.recorded_path")
        case "stubborn":
            context.stopping.is_set()
            await asyncio.Event().wait()
        case "blocking":
            context.stopping.is_set()
            time.sleep(60)  # noqa: ASYNC251 - a loop that is blocked is what is tested
        case "slow":
            await context.stopping.wait()
            await asyncio.sleep(0.5)
            context.log.info("finished what was begun")
    await context.stopping.wait()


if __name__ == "__main__":
    name, parent = sys.argv[1], int(sys.argv[2])
    if parent:
        end_with(parent)
    sys.exit(run_worker(name, load_config(), run))
