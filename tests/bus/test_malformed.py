"""Malformed messages on every stream: reported once as dead letters, and they stop nobody."""

import asyncio
import os
import random
from typing import Any

import pytest

from pipeline.bus import Bus, Delivery
from pipeline.messages import (
    DeadLetter,
    ExecutionPlan,
    ExecutionResult,
    KillSwitch,
    Opportunity,
    Quote,
    ScanReport,
    SlotUpdate,
)
from tests.bus.test_consume import eventually, settled
from tests.conftest import Connect

STREAMS: list[tuple[str, str, type[Any]]] = [
    ("OPPORTUNITIES", "opportunity.found", Opportunity),
    ("PLANNED", "planned.plan", ExecutionPlan),
    ("EXECUTED", "executed.result", ExecutionResult),
    ("MARKET_DATA", "market_data.slot", SlotUpdate),
    ("METRICS", "metrics.scan", ScanReport),
    ("SYSTEM", "system.kill_switch", KillSwitch),
]


def malformed(good: bytes) -> dict[str, tuple[bytes, str]]:
    """Return payloads that are no message, or not the one of the subject, with the reason of their dead letter."""
    noise = random.Random(7)
    flipped = bytearray(good)
    flipped[0:4] = (0xFFFF).to_bytes(4, "little")
    return {
        "empty": (b"", "invalid_message"),
        "text": (b'{"id": "1"}', "invalid_message"),
        "random": (bytes(noise.randrange(256) for _ in range(200)), "invalid_message"),
        "truncated": (good[: len(good) // 2], "invalid_message"),
        "root outside": (bytes(flipped), "invalid_message"),
        "unknown identifier": (good[:4] + b"NOPE" + good[8:], "invalid_message"),
        "other message": (DeadLetter(id="x").encode(), "wrong_type"),
    }


@pytest.mark.parametrize(("stream", "subject", "kind"), STREAMS, ids=[row[0] for row in STREAMS])
async def test_each_becomes_one_dead_letter_and_the_good_ones_pass(
    bus: Bus, stream: str, subject: str, kind: type[Any]
) -> None:
    seen: list[str] = []
    await bus.consume(stream, subject, durable="worker", handler=lambda message, delivery: seen.append(message.id))
    bad = malformed(kind(id="good").encode())
    await bus.publish(kind(id="first"))
    for name, (payload, _) in bad.items():
        await bus.publish_bytes(subject, payload, message_id=name)
    await bus.client.publish(subject, b"without any header")
    await bus.publish(kind(id="last"))
    await eventually(lambda: settled(bus, "worker", stream))
    await eventually(lambda: bus.counters.dead_lettered == len(bad) + 1)
    assert seen == ["first", "last"]
    letters = [message async for message, _ in bus.read("METRICS", "metrics.dead_letter")]
    found = {letter.stream_sequence: letter for letter in letters if isinstance(letter, DeadLetter)}
    assert [(found[number].reason, found[number].size) for number in sorted(found)][: len(bad)] == [
        (reason, len(payload)) for payload, reason in bad.values()
    ]
    for letter in found.values():
        assert (letter.stream, letter.subject, letter.consumer, letter.attempts) == (stream, subject, "worker", 1)
        assert letter.detail
    assert len(letters) == len(bad) + 1
    info = await bus.js.consumer_info(stream, "worker")
    assert info.num_redelivered == 0, "a message that cannot be read is not tried again"


@pytest.mark.parametrize(("stream", "subject", "kind"), STREAMS, ids=[row[0] for row in STREAMS])
async def test_live_watchers_report_them_too_and_go_on(
    connect: Connect, stream: str, subject: str, kind: type[Any]
) -> None:
    bus, source = await connect("watcher"), await connect("source")
    seen: list[str] = []
    await bus.watch(f"{subject.split('.', maxsplit=1)[0]}.>", lambda message, delivery: seen.append(message.id))
    await source.publish(kind(id="first"))
    await source.publish_bytes(subject, b"no message", message_id="bad")
    await source.publish(kind(id="last"))
    await eventually(lambda: [name for name in seen if name in ("first", "last")] == ["first", "last"])
    await eventually(lambda: bus.counters.dead_lettered == 1)
    ((_, letter),) = await source.last("metrics.dead_letter")
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.stream, letter.stream_sequence) == ("invalid_message", stream, 0)
    assert letter.consumer == "watcher (live)"


async def test_a_flood_of_garbage_is_counted_and_reported_at_a_bounded_rate(connect: Connect) -> None:
    bus, source = await connect("watcher"), await connect("source")
    seen: list[str] = []
    await bus.watch("opportunity.>", lambda message, delivery: seen.append(message.id))
    for _ in range(500):
        await source.client.publish("opportunity.found", os.urandom(64))
    await source.publish(Opportunity(id="still here"))
    await eventually(lambda: seen == ["still here"])
    assert bus.counters.invalid == 500
    await asyncio.sleep(0.1)
    assert 10 <= bus.counters.dead_lettered <= 30


async def test_reading_yields_the_error_in_its_place(bus: Bus) -> None:
    await bus.publish(Opportunity(id="a"))
    await bus.publish_bytes("opportunity.found", b"no message", message_id="bad")
    await bus.publish(Opportunity(id="b"))
    read = [
        (getattr(message, "id", None) or message.reason, delivery.sequence)
        async for message, delivery in bus.read("OPPORTUNITIES")
    ]
    assert read == [("a", 1), ("too_short", 2), ("b", 3)]
    assert await bus.last("opportunity.>")
    await bus.publish_bytes("opportunity.found", Quote(id="c", pool="p").encode(), message_id="other")
    assert await bus.last("opportunity.>") == [], "what its subject does not promise is left out"


async def test_headers_that_lie_or_break_do_not_matter(bus: Bus) -> None:
    seen: list[tuple[str, dict[str, str]]] = []

    def handle(message: Opportunity, delivery: Delivery) -> None:
        seen.append((message.id, delivery.headers))

    await bus.consume("OPPORTUNITIES", "opportunity.found", durable="worker", handler=handle)
    client = bus.client
    payload = Opportunity(id="a").encode()
    for headers in (
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\nX: \xff\xfe\r\n\r\n",
        b"NATS/1.0\r\nX: 1\r\nNats-Msg-Id:   spaced  \r\n\r\n",
    ):
        size = len(headers)
        client.send(b"HPUB opportunity.found %d %d\r\n%b%b\r\n" % (size, size + len(payload), headers, payload))
    await eventually(lambda: settled(bus, "worker"))
    await asyncio.sleep(0.2)
    # By the payload's id the first three are one message; the last says it is another.
    assert [name for name, _ in seen] == ["a", "a"]
    assert seen[-1][1]["Nats-Msg-Id"] == "spaced"
