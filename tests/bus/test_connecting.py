"""Connecting to nobody ends in its time, at whatever moment the time is up."""

import asyncio
import random
import time

import pytest

from pipeline.bus import Bus, ServerUnreachable
from pipeline.config import load_config


async def test_an_attempt_ends_when_its_time_is_up() -> None:
    settings = load_config({"nats.url": "nats://127.0.0.1:1"}, environment={}).nats
    moments = random.Random(1)
    until = time.monotonic() + 2

    async def attempts() -> None:
        while time.monotonic() < until:
            with pytest.raises(ServerUnreachable):
                await Bus.connect(settings, name="nobody", timeout_s=moments.uniform(0.001, 0.08))

    async with asyncio.timeout(10):
        await asyncio.gather(*[attempts() for _ in range(20)])


def test_a_server_that_wants_other_credentials_is_told_from_one_that_is_away() -> None:
    settings = load_config({"nats.url": "nats://joe:secret@127.0.0.1:1"}, environment={}).nats
    bus = Bus.__new__(Bus)
    bus.settings = settings
    failure = bus._unreachable("nats: 'Authorization Violation'")
    assert "does not let us in" in failure.what
    assert "nats.token" in failure.fix
    assert "secret" not in str(failure)
