"""A publish is stored or fails loudly, whatever happens to the server."""

import asyncio
import time

import pytest

from pipeline.bus import Backlogged, Bus, PublishFailed, ServerUnreachable
from pipeline.config import load_config
from pipeline.messages import ExecutionPlan, Opportunity
from pipeline.nats_server import EmbeddedNats
from pipeline.streams import reconcile
from tests.conftest import Connect


async def test_the_same_id_is_stored_once(bus: Bus) -> None:
    first = await bus.publish(Opportunity(id="a"))
    again = await bus.publish(Opportunity(id="a"))
    assert (first.duplicate, again.duplicate, again.sequence) == (False, True, first.sequence)
    assert bus.counters.published == 2


async def test_publishes_keep_their_order(bus: Bus) -> None:
    futures = [bus.publish_soon(Opportunity(id=str(number))) for number in range(500)]
    stored = await asyncio.gather(*futures)
    assert [answer.sequence for answer in stored] == list(range(1, 501))
    assert [message.id async for message, _ in bus.read("OPPORTUNITIES")] == [str(number) for number in range(500)]


async def test_outstanding_publishes_are_bounded(connect: Connect) -> None:
    bus = await connect("bounded", max_pending=10)
    futures = [bus.publish_soon(Opportunity(id=str(number))) for number in range(10)]
    with pytest.raises(Backlogged, match="10 publishes wait"):
        bus.publish_soon(Opportunity(id="one too many"))
    await bus.publish(Opportunity(id="waits for room"))
    await asyncio.gather(*futures)
    await asyncio.gather(*(bus.publish(Opportunity(id=f"many {number}")) for number in range(100)))
    assert bus.pending_publishes == 0


async def test_without_a_stream_it_fails_with_advice(connect: Connect) -> None:
    bus = await connect()
    await bus.js.delete_stream("OPPORTUNITIES")
    with pytest.raises(PublishFailed) as failed:
        await bus.publish(Opportunity(id="a"), timeout_s=0.5)
    assert "no stream took it" in failed.value.what
    assert "pipeline init-streams" in failed.value.fix
    assert bus.counters.publish_failed == 1


async def test_a_stream_that_appears_in_time_takes_it(bus: Bus) -> None:
    await bus.js.delete_stream("OPPORTUNITIES")
    future = bus.publish_soon(Opportunity(id="a"), timeout_s=5)
    await asyncio.sleep(0.3)
    assert not future.done()
    await reconcile(bus.js)
    assert (await future).sequence == 1


async def test_another_stream_on_the_subject_is_refused_at_once(bus: Bus) -> None:
    await bus.js.delete_stream("OPPORTUNITIES")
    await bus.js.add_stream(name="FOREIGN", subjects=["opportunity.>"])
    try:
        started = time.monotonic()
        with pytest.raises(PublishFailed, match="expected stream does not match"):
            await bus.publish(Opportunity(id="a"), timeout_s=5)
        assert time.monotonic() - started < 2
    finally:
        await bus.js.delete_stream("FOREIGN")


async def test_too_large_is_refused_before_it_is_sent(bus: Bus) -> None:
    with pytest.raises(PublishFailed, match="more than the server takes"):
        await bus.publish_bytes("opportunity.found", bytes(bus.client.max_payload + 1), message_id="a")


async def test_a_full_store_fails_loudly(bus: Bus) -> None:
    config = (await bus.js.stream_info("OPPORTUNITIES")).config
    await bus.js.update_stream(config.evolve(max_bytes=2_000, discard="new"))
    for number in range(3):
        await bus.publish(Opportunity(id=str(number)))
    with pytest.raises(PublishFailed, match="maximum bytes exceeded"):
        await bus.publish(Opportunity(id="x" * 1_000), timeout_s=0.5)


async def test_a_cancelled_publish_leaves_nothing_behind(bus: Bus) -> None:
    await bus.js.delete_stream("OPPORTUNITIES")
    task = asyncio.create_task(bus.publish(Opportunity(id="a")))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.3)
    assert bus.pending_publishes == 0


async def test_no_server_is_said_in_time() -> None:
    settings = load_config({"nats.url": "nats://user:word@127.0.0.1:1"}, environment={}).nats
    started = time.monotonic()
    with pytest.raises(ServerUnreachable) as failed:
        await Bus.connect(settings, name="test", timeout_s=0.5)
    assert time.monotonic() - started < 3
    assert "word" not in str(failed.value)
    assert "pipeline up" in failed.value.fix


async def test_over_kill_and_restart_of_the_server_nothing_acknowledged_is_lost_and_publishes_wait() -> None:
    with EmbeddedNats() as server:
        settings = load_config({"nats.url": server.url, "nats.publish_timeout_s": 0.5}, environment={}).nats
        bus = await Bus.connect(settings, name="test")
        await reconcile(bus.js)
        stored: dict[str, int] = {}
        stop = False

        async def keep_publishing(lane: int) -> None:
            number = 0
            while not stop:
                message = ExecutionPlan(id=f"{lane}-{number}")
                stored[message.id] = (await bus.publish(message, timeout_s=20)).sequence
                number += 1

        lanes = [asyncio.create_task(keep_publishing(lane)) for lane in range(40)]
        for _ in range(3):
            await asyncio.sleep(0.4)
            before = len(stored)
            assert before, "nothing was stored before the server was killed"
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(0.3)
            held = bus.publish_soon(Opportunity(id=f"while down {before}"))
            await asyncio.sleep(0.1)
            assert not held.done()
            assert bus.problems
            await asyncio.to_thread(server.start)
            assert (await asyncio.wait_for(held, 10)).stream == "OPPORTUNITIES"
        await asyncio.sleep(0.3)
        stop = True
        await asyncio.wait_for(asyncio.gather(*lanes), 10)
        assert not bus.problems
        assert bus.counters.reconnects == 3
        held_by_stream = {message.id: delivery.sequence async for message, delivery in bus.read("PLANNED")}
        assert stored == held_by_stream, "what was acknowledged is there, once, where the acknowledgement said"
        await bus.close()


async def test_the_deadline_holds_while_the_server_is_away() -> None:
    with EmbeddedNats() as server:
        bus = await Bus.connect(load_config({"nats.url": server.url}, environment={}).nats, name="test")
        await reconcile(bus.js)
        await asyncio.to_thread(server.kill)
        started = time.monotonic()
        with pytest.raises(PublishFailed, match="was not stored in OPPORTUNITIES"):
            await bus.publish(Opportunity(id="a"), timeout_s=0.6)
        assert 0.5 < time.monotonic() - started < 2
        await bus.close(0.1)


async def test_under_load_messages_share_a_sync_and_keep_their_order_and_sequences(connect: Connect) -> None:
    bus = await connect("busy", max_pending=5_000)
    sent: list[bytes] = []
    send = bus.client.send

    def note(command: bytes) -> bool:
        sent.append(command)
        return send(command)

    bus.client.send = note
    futures = [bus.publish_soon(Opportunity(id=str(number))) for number in range(3_000)]
    stored = await asyncio.gather(*futures)
    assert [answer.sequence for answer in stored] == list(range(1, 3_001))
    read = [(message.id, delivery.sequence) async for message, delivery in bus.read("OPPORTUNITIES")]
    assert read == [(str(number), number + 1) for number in range(3_000)]
    batches = sum(b"Nats-Batch-Commit" in command for command in sent)
    assert 2_992 // 900 <= batches < 300
    assert bus.counters.published == 3_000
    assert (bus.counters.publish_retries, bus.pending_publishes) == (0, 0)


async def test_a_repetition_in_a_batch_does_not_hold_up_the_others(bus: Bus) -> None:
    await bus.publish(Opportunity(id="known"))
    names = [str(number) for number in range(30)] + ["known", "twice", "twice"] + ["last"]
    stored = await asyncio.gather(*(bus.publish_soon(Opportunity(id=name)) for name in names))
    duplicates = [name for name, answer in zip(names, stored, strict=True) if answer.duplicate]
    assert duplicates == ["known", "twice"]
    held = [message.id async for message, _ in bus.read("OPPORTUNITIES")]
    assert sorted(held) == sorted({*names})


async def test_a_stream_that_takes_no_batches_gets_single_messages(bus: Bus) -> None:
    config = (await bus.js.stream_info("OPPORTUNITIES")).config
    await bus.js.update_stream(config.evolve(allow_atomic=False))
    for _ in range(2):
        before = bus.counters.published
        await asyncio.gather(*(bus.publish_soon(Opportunity(id=f"{before} {number}")) for number in range(100)))
    assert (await bus.js.stream_info("OPPORTUNITIES")).state.messages == 200
    assert bus.counters.publish_retries <= 100, "it is found out once"


async def test_cancelled_messages_of_a_batch_leave_the_others_alone(bus: Bus) -> None:
    futures = [bus.publish_soon(Opportunity(id=str(number))) for number in range(60)]
    for future in futures[::3]:
        future.cancel()
    kept = await asyncio.gather(*(future for future in futures if not future.cancelled()))
    assert len(kept) == 40
    await asyncio.sleep(0.3)
    assert bus.pending_publishes == 0
    sequences = {message.id: delivery.sequence async for message, delivery in bus.read("OPPORTUNITIES")}
    assert [sequences[str(n)] for n in range(60) if n % 3] == [answer.sequence for answer in kept]
