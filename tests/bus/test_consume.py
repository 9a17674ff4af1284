"""Consumption: once in effect, bounded, in order, whatever copy comes first."""

import asyncio
import time
from collections import Counter
from itertools import pairwise

import pytest
from nats.js.errors import NotFoundError

from pipeline.bus import AlreadyConsumed, Bus, Delivery, PublishFailed, Reject, Retry, Stale, connection
from pipeline.errors import CheckFailed
from pipeline.messages import DeadLetter, ExecutionPlan, Opportunity
from tests.conftest import Connect

OPPORTUNITIES = ("OPPORTUNITIES", "opportunity.found")


async def eventually(condition: object, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await _true(condition):
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)


async def _true(condition: object) -> bool:
    result = condition()
    return bool(await result if asyncio.iscoroutine(result) else result)


async def settled(bus: Bus, durable: str, stream: str = "OPPORTUNITIES") -> bool:
    """Tell whether nothing waits: twice, for the server hands a message that it has just stored to consumers later."""
    for pause_s in (0.1, 0.0):
        try:
            info = await bus.js.consumer_info(stream, durable)
        except NotFoundError:  # about to be made again
            return False
        if (info.num_pending, info.num_ack_pending) != (0, 0):
            return False
        await asyncio.sleep(pause_s)
    return True


async def test_each_message_is_handled_once_though_two_copies_come(connect: Connect) -> None:
    bus, other = await connect("worker"), await connect("scanner")
    seen: Counter[str] = Counter()

    def handle(message: Opportunity, delivery: Delivery) -> None:
        seen[message.id] += 1

    await bus.consume(*OPPORTUNITIES, durable="worker", handler=handle)
    await asyncio.gather(*(other.publish(Opportunity(id=str(number))) for number in range(300)))
    await eventually(lambda: settled(bus, "worker"))
    assert seen == {str(number): 1 for number in range(300)}
    assert (bus.counters.handled, bus.counters.failed, bus.counters.dead_lettered) == (300, 0, 0)


async def test_live_copies_come_first_and_have_no_sequence(bus: Bus) -> None:
    deliveries: list[Delivery] = []
    await bus.consume(*OPPORTUNITIES, durable="worker", handler=lambda message, delivery: deliveries.append(delivery))
    await bus.publish(Opportunity(id="a"))
    await eventually(lambda: settled(bus, "worker"))
    assert [(delivery.attempt, delivery.subject) for delivery in deliveries] == [(1, "opportunity.found")]
    assert deliveries[0].headers["Nats-Msg-Id"] == "a"


async def test_without_live_copies_messages_come_in_stream_order_with_their_sequence(bus: Bus) -> None:
    sequences: list[int] = []
    await asyncio.gather(*(bus.publish(Opportunity(id=f"before {number}")) for number in range(20)))
    await bus.consume(
        *OPPORTUNITIES,
        durable="ordered",
        handler=lambda message, delivery: sequences.append(delivery.sequence),
        live=False,
    )
    await asyncio.gather(*(bus.publish(Opportunity(id=f"after {number}")) for number in range(20)))
    await eventually(lambda: len(sequences) == 40)
    assert sequences == list(range(1, 41))


async def test_what_was_published_before_the_worker_came_is_delivered(bus: Bus) -> None:
    for number in range(5):
        await bus.publish(Opportunity(id=str(number)))
    seen: list[str] = []
    await bus.consume(*OPPORTUNITIES, durable="late", handler=lambda message, delivery: seen.append(message.id))
    await eventually(lambda: settled(bus, "late"))
    assert seen == ["0", "1", "2", "3", "4"]


async def test_plain_handlers_of_all_subscriptions_are_called_in_order_of_arrival(connect: Connect) -> None:
    bus, source = await connect("worker"), await connect("source")
    seen: list[str] = []

    def note(message: Opportunity | ExecutionPlan, delivery: Delivery) -> None:
        seen.append(message.id)

    await bus.consume(*OPPORTUNITIES, durable="worker", handler=note)
    await bus.watch("planned.>", note)
    await bus.publish(Opportunity(id="warm"))
    await eventually(lambda: seen == ["warm"])
    await eventually(lambda: settled(bus, "worker"))
    seen.clear()
    futures = []
    for number in range(100):
        futures.append(source.publish_soon(Opportunity(id=f"o{number}")))
        futures.append(source.publish_soon(ExecutionPlan(id=f"p{number}")))
    await asyncio.gather(*futures)
    await eventually(lambda: len(seen) == 200)
    assert seen == [f"{kind}{number}" for number in range(100) for kind in "op"]


async def test_acknowledged_only_when_the_returned_futures_are_done(bus: Bus) -> None:
    release: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    await bus.consume(*OPPORTUNITIES, durable="worker", handler=lambda message, delivery: [done, release])
    await bus.publish(Opportunity(id="a"))
    await asyncio.sleep(0.2)
    assert not await settled(bus, "worker")
    assert bus.counters.in_flight == 1
    release.set_result(None)
    await eventually(lambda: settled(bus, "worker"))
    assert (bus.counters.handled, bus.counters.in_flight) == (1, 0)


async def test_a_failed_publish_of_the_handler_brings_the_message_again(bus: Bus) -> None:
    attempts: list[int] = []

    def handle(message: Opportunity, delivery: Delivery) -> object:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(PublishFailed("no"))
            return failed
        return bus.publish_soon(ExecutionPlan(id="p"))

    await bus.consume(*OPPORTUNITIES, durable="worker", handler=handle)
    await bus.publish(Opportunity(id="a"))
    await eventually(lambda: settled(bus, "worker"))
    assert attempts == [1, 2]
    assert [message.id async for message, _ in bus.read("PLANNED")] == ["p"]


async def test_the_bound_in_flight_is_kept_here_and_on_the_server(connect: Connect) -> None:
    bus, source = await connect("worker"), await connect("source")
    running = most = 0

    async def handle(message: Opportunity, delivery: Delivery) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    await bus.consume(*OPPORTUNITIES, durable="worker", handler=handle, max_in_flight=7)
    pending: list[int] = []

    async def observe() -> None:
        while True:
            info = await source.js.consumer_info("OPPORTUNITIES", "worker")
            pending.append(info.num_ack_pending)
            await asyncio.sleep(0.005)

    observer = asyncio.create_task(observe())
    await asyncio.gather(*(source.publish(Opportunity(id=str(number))) for number in range(150)))
    await eventually(lambda: settled(bus, "worker"))
    observer.cancel()
    assert most == 7
    assert max(pending) <= 7, "the server never has more outstanding than the bound"
    assert (bus.counters.handled, bus.counters.duplicates) == (150, 0)


async def test_a_long_handler_keeps_its_message(bus: Bus) -> None:
    attempts: list[int] = []

    async def handle(message: Opportunity, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        await asyncio.sleep(1.5)

    await bus.consume(*OPPORTUNITIES, durable="worker", handler=handle, ack_wait_s=0.4)
    await bus.publish(Opportunity(id="a"))
    await asyncio.sleep(1.7)
    assert await settled(bus, "worker")
    info = await bus.js.consumer_info("OPPORTUNITIES", "worker")
    assert (attempts, info.num_redelivered) == ([1], 0)


async def test_a_handler_that_blocks_the_loop_is_not_run_twice(bus: Bus) -> None:
    attempts: list[int] = []

    def handle(message: Opportunity, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        time.sleep(0.7)

    await bus.consume(*OPPORTUNITIES, durable="worker", handler=handle, ack_wait_s=0.3)
    bus.publish_soon(Opportunity(id="a"))
    await asyncio.sleep(1.5)
    await eventually(lambda: settled(bus, "worker"))
    assert attempts == [1]


async def test_failures_are_retried_with_growing_delays_then_become_a_dead_letter(connect: Connect) -> None:
    bus = await connect("worker", retry_wait_s=0.1, retry_wait_max_s=0.4)
    times: list[float] = []

    async def handle(message: Opportunity, delivery: Delivery) -> None:
        times.append(time.monotonic())
        assert delivery.attempt == len(times)
        raise RuntimeError("broken")

    await bus.consume(*OPPORTUNITIES, durable="worker", handler=handle, max_attempts=5)
    await bus.publish(Opportunity(id="a"))
    await eventually(lambda: bus.counters.dead_lettered == 1)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) == 5
    for gap, wanted in zip(gaps, (0.1, 0.2, 0.4, 0.4), strict=True):
        assert 0.7 * wanted <= gap <= wanted + 2, gaps
    await eventually(lambda: settled(bus, "worker"))
    ((_, letter),) = await bus.last("metrics.dead_letter")
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.attempts, letter.stream, letter.stream_sequence, letter.consumer) == (
        *("too_many_attempts", 5, "OPPORTUNITIES", 1),
        "worker",
    )
    assert "RuntimeError: broken" in letter.detail
    assert letter.causation_id == "a"
    assert (bus.counters.failed, bus.counters.retried, bus.counters.handled) == (5, 4, 0)


async def test_answers_of_a_handler(bus: Bus) -> None:
    calls: Counter[str] = Counter()

    def handle(message: Opportunity, delivery: Delivery) -> None:
        calls[message.id] += 1
        match message.id:
            case "stale":
                raise Stale("too old")
            case "reject":
                raise Reject("never")
            case "retry" if calls["retry"] < 3:
                raise Retry("not yet", delay_s=0.05)

    await bus.consume(*OPPORTUNITIES, durable="worker", handler=handle)
    for name in ("stale", "reject", "retry", "fine"):
        await bus.publish(Opportunity(id=name))
    await eventually(lambda: settled(bus, "worker"))
    await eventually(lambda: bus.counters.dead_lettered == 1)
    assert calls == {"stale": 1, "reject": 1, "retry": 3, "fine": 1}
    counters = bus.counters
    assert (counters.handled, counters.expired, counters.failed, counters.retried) == (2, 1, 3, 2)
    ((_, letter),) = await bus.last("metrics.dead_letter")
    assert (letter.reason, letter.detail) == ("handler_error", "never")


async def test_a_second_process_under_the_same_name_is_refused(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await connect("first"), await connect("second")
    await first.consume(*OPPORTUNITIES, durable="worker", handler=lambda message, delivery: None)
    await eventually(lambda: _bound(first))
    monkeypatch.setattr(connection, "_BOUND_TIMEOUT_S", 0.5)
    with pytest.raises(AlreadyConsumed, match="another process consumes OPPORTUNITIES as worker"):
        await second.consume(*OPPORTUNITIES, durable="worker", handler=lambda message, delivery: None)
    await first.close()
    await second.consume(*OPPORTUNITIES, durable="worker", handler=lambda message, delivery: None)


async def test_without_a_stream_it_says_so(bus: Bus) -> None:
    await bus.js.delete_stream("OPPORTUNITIES")
    with pytest.raises(CheckFailed) as failed:
        await bus.consume(*OPPORTUNITIES, durable="worker", handler=lambda message, delivery: None)
    assert failed.value.fix == "run `pipeline init-streams`"


async def test_changed_limits_reach_an_existing_consumer(connect: Connect) -> None:
    first = await connect("first")
    await first.consume(*OPPORTUNITIES, durable="worker", handler=lambda message, delivery: None)
    await first.publish(Opportunity(id="a"))
    await eventually(lambda: settled(first, "worker"))
    await first.close()
    second = await connect("second")
    seen: list[str] = []
    await second.consume(
        *OPPORTUNITIES,
        durable="worker",
        handler=lambda message, delivery: seen.append(message.id),
        max_in_flight=3,
        ack_wait_s=1.0,
        description="new words",
    )
    config = (await second.js.consumer_info("OPPORTUNITIES", "worker")).config
    assert (config.max_ack_pending, config.ack_wait, config.description) == (3, 1.0, "new words")
    await second.publish(Opportunity(id="b"))
    await eventually(lambda: settled(second, "worker"))
    assert seen == ["b"], "where it stood in the stream is kept"


async def test_closing_lets_handlers_finish_and_hands_back_the_rest(connect: Connect) -> None:
    first, source = await connect("first"), await connect("source")
    handled: list[str] = []

    async def slow(message: Opportunity, delivery: Delivery) -> None:
        await asyncio.sleep(0.3)
        handled.append(message.id)

    consumer = await first.consume(*OPPORTUNITIES, durable="worker", handler=slow, max_in_flight=2)
    await asyncio.gather(*(source.publish(Opportunity(id=str(number))) for number in range(6)))
    await asyncio.sleep(0.1)
    assert await consumer.stop(5)  # it alone, and with everything else again
    assert await first.close(5)
    assert 2 <= len(handled) < 6
    second = await connect("second")
    await second.consume(*OPPORTUNITIES, durable="worker", handler=lambda message, delivery: handled.append(message.id))
    await eventually(lambda: settled(second, "worker"))
    assert sorted(handled) == [str(number) for number in range(6)]


async def test_closing_past_the_deadline_says_so_and_the_message_comes_again(connect: Connect) -> None:
    first = await connect("first")

    async def stuck(message: Opportunity, delivery: Delivery) -> None:
        await asyncio.sleep(60)

    await first.consume(*OPPORTUNITIES, durable="worker", handler=stuck, ack_wait_s=0.5)
    await first.publish(Opportunity(id="a"))
    await asyncio.sleep(0.1)
    assert not await first.close(0.2)
    second = await connect("second")
    attempts: list[int] = []
    await second.consume(
        *OPPORTUNITIES, durable="worker", handler=lambda message, delivery: attempts.append(delivery.attempt)
    )
    await eventually(lambda: attempts == [2])


async def test_a_deleted_consumer_is_made_again_and_goes_on_where_it_stood(bus: Bus) -> None:
    seen: list[str] = []
    consumer = await bus.consume(
        *OPPORTUNITIES, durable="worker", handler=lambda message, delivery: seen.append(message.id), ack_wait_s=0.5
    )
    await bus.publish(Opportunity(id="a"))
    await eventually(lambda: settled(bus, "worker"))
    await bus.js.delete_consumer("OPPORTUNITIES", "worker")
    consumer.last_active = 0.0  # as after three missed heartbeats
    await bus.publish(Opportunity(id="b"))
    await eventually(lambda: _exists(bus))
    await eventually(lambda: settled(bus, "worker"))
    assert seen == ["a", "b"]
    assert (await bus.js.consumer_info("OPPORTUNITIES", "worker")).config.opt_start_seq == 2


async def _bound(bus: Bus) -> bool:
    return bool((await bus.js.consumer_info("OPPORTUNITIES", "worker")).push_bound)


async def _exists(bus: Bus) -> bool:
    try:
        await bus.js.consumer_info("OPPORTUNITIES", "worker")
    except NotFoundError:
        return False
    return True
