"""The connection itself: nats-py's inner steps that we override, reconnecting, watching, reading."""

import asyncio
import inspect

import pytest
from nats.aio.client import Client
from nats.protocol.parser import Parser

from pipeline.bus import Bus, Delivery
from pipeline.bus.client import LeanClient
from pipeline.bus.delivery import message_id, parse_headers, parse_reply, replay_target, status_of
from pipeline.bus.errors import growing_delay_s
from pipeline.config import load_config
from pipeline.errors import CheckFailed
from pipeline.messages import InvalidMessage, Opportunity, WorkerHealth
from pipeline.nats_server import EmbeddedNats
from pipeline.streams import reconcile
from tests.bus.test_consume import eventually
from tests.conftest import Connect


def test_nats_py_still_has_what_we_override() -> None:
    for name in ("_process_msg", "_process_pong", "_process_err"):
        assert inspect.iscoroutinefunction(getattr(Client, name)), name
        assert inspect.signature(getattr(Client, name)) is not None
    assert list(inspect.signature(Client._process_msg).parameters) == [
        *("self", "sid", "subject", "reply", "data", "headers"),
    ]
    client = Client()
    for attribute in ("_pending", "_pending_data_size", "_transport", "_status", "_sid", "_pongs", "stats"):
        assert hasattr(client, attribute), attribute
    assert "self.nc._process_msg(sid, subject, reply, payload, hdr)" in inspect.getsource(Parser.parse)


async def test_an_answer_to_a_flush_that_gave_up_does_not_end_the_read_loop(bus: Bus) -> None:
    gave_up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    await bus.client._send_ping(gave_up)
    gave_up.cancel()
    await asyncio.sleep(0.1)
    await bus.client.flush(2)
    assert (await bus.publish(Opportunity(id="a"))).sequence == 1
    assert bus.counters.reconnects == 0


async def test_an_error_from_the_server_reconnects_instead_of_closing(bus: Bus) -> None:
    bus.client._transport.write(b"NONSENSE\r\n")
    await eventually(lambda: bus.counters.reconnects == 1)
    assert (await bus.publish(Opportunity(id="a"))).sequence == 1


async def test_a_fault_in_a_direct_handler_does_not_deafen_the_connection(bus: Bus) -> None:
    def broken(subject: bytes, reply: bytes, data: bytes, raw: bytes | None) -> None:
        raise RuntimeError("ours")

    await bus.client.subscribe_direct("some.subject", broken)
    await bus.client.publish("some.subject", b"x")
    await bus.client.flush(2)
    assert (await bus.publish(Opportunity(id="a"))).sequence == 1


async def test_it_is_named_after_its_worker(bus: Bus) -> None:
    name = bus.client.options["name"]
    assert name.startswith("pipeline/test@")


async def test_watching_sees_what_is_published_from_now_on_each_once(connect: Connect) -> None:
    bus, source = await connect("watcher"), await connect("source")
    await source.publish(WorkerHealth(id="before", worker="planner"))
    plain: list[tuple[str, str]] = []
    in_tasks: list[str] = []

    async def slow(message: WorkerHealth, delivery: Delivery) -> None:
        await asyncio.sleep(0.01)
        in_tasks.append(message.id)

    watch = await bus.watch("metrics.health.*", lambda message, delivery: plain.append((delivery.subject, message.id)))
    await bus.watch("metrics.>", slow)
    for number in range(3):
        await source.publish(WorkerHealth(id=f"h{number}", worker="planner"))
    await source.publish(WorkerHealth(id="h0", worker="planner"))
    await eventually(lambda: len(in_tasks) == 3)
    assert plain == [("metrics.health.planner", f"h{number}") for number in range(3)]
    await watch.stop()
    await source.publish(WorkerHealth(id="h9", worker="planner"))
    await eventually(lambda: len(in_tasks) == 4)
    assert len(plain) == 3


async def test_a_watcher_that_is_too_slow_drops_and_counts(connect: Connect) -> None:
    bus, source = await connect("watcher", max_in_flight=5), await connect("source")
    release = asyncio.Event()

    async def stuck(message: Opportunity, delivery: Delivery) -> None:
        await release.wait()

    await bus.watch("opportunity.found", stuck)
    await asyncio.gather(*(source.publish(Opportunity(id=str(number))) for number in range(20)))
    await eventually(lambda: bus.counters.dropped == 15)
    assert bus.counters.in_flight == 5
    release.set()
    await eventually(lambda: bus.counters.handled == 5)


async def test_a_watch_survives_the_server(connect: Connect) -> None:
    with EmbeddedNats() as server:
        bus = await Bus.connect(load_config({"nats.url": server.url}, environment={}).nats, name="test")
        await reconcile(bus.js)
        seen: list[str] = []
        back: list[int] = []
        bus.on_reconnect.append(lambda: back.append(1))
        await bus.watch("opportunity.>", lambda message, delivery: seen.append(message.id))
        await bus.publish(Opportunity(id="a"))
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await bus.publish(Opportunity(id="b"))
        await eventually(lambda: seen == ["a", "b"])
        assert back == [1]
        await bus.close()


async def test_reading_from_a_sequence_the_last_and_following(bus: Bus) -> None:
    for number in range(600):
        bus.publish_soon(Opportunity(id=str(number)))
    await bus.publish(WorkerHealth(id="h", worker="planner"))
    await eventually(lambda: bus.pending_publishes == 0)

    async def ids(**options: int) -> list[str]:
        return [message.id async for message, _ in bus.read("OPPORTUNITIES", **options)]

    assert await ids() == [str(number) for number in range(600)]
    assert await ids(start_sequence=599) == ["598", "599"]
    assert await ids(last=3) == ["597", "598", "599"]
    assert await ids(last=10_000) == [str(number) for number in range(600)]
    assert await ids(start_sequence=601) == []
    seen: list[str] = []

    async def follow() -> None:
        async for message, delivery in bus.read("OPPORTUNITIES", last=1, follow=True):
            assert not isinstance(message, InvalidMessage)
            seen.append(message.id)
            assert delivery.sequence == 599 + len(seen)

    task = asyncio.create_task(follow())
    await eventually(lambda: seen == ["599"])
    await bus.publish(Opportunity(id="more"))
    await eventually(lambda: seen == ["599", "more"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_following_goes_on_over_a_crash_of_the_server() -> None:
    with EmbeddedNats() as server:
        bus = await Bus.connect(load_config({"nats.url": server.url}, environment={}).nats, name="test")
        await reconcile(bus.js)
        seen: list[str] = []

        async def follow() -> None:
            async for message, _ in bus.read("OPPORTUNITIES", follow=True):
                assert not isinstance(message, InvalidMessage)
                seen.append(message.id)

        task = asyncio.create_task(follow())
        await bus.publish(Opportunity(id="a"))
        await eventually(lambda: seen == ["a"])
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await bus.publish(Opportunity(id="b"))
        await eventually(lambda: seen == ["a", "b"], 20)
        task.cancel()
        await bus.close()


async def test_reading_one_subject_of_many_from_the_end(bus: Bus) -> None:
    for number in range(50):
        await bus.publish(WorkerHealth(id=f"{number}", worker="planner" if number % 10 == 0 else "other"))
    found = [message.id async for message, _ in bus.read("METRICS", "metrics.health.planner", last=2)]
    assert found == ["30", "40"]
    assert [(subject, message.id) for subject, message in await bus.last("metrics.health.>")] == [
        ("metrics.health.planner", "40"),
        ("metrics.health.other", "49"),
    ]
    assert await bus.last("metrics.pnl.>") == []


async def test_reading_without_a_stream_says_so(bus: Bus) -> None:
    await bus.js.delete_stream("OPPORTUNITIES")
    for options in ({}, {"last": 5}):
        with pytest.raises(CheckFailed, match="there is no stream OPPORTUNITIES"):
            _ = [item async for item in bus.read("OPPORTUNITIES", **options)]


def test_headers_and_replies() -> None:
    raw = b"NATS/1.0\r\nNats-Msg-Id: abc\r\nPipeline-Replay-For: executor\r\n\r\n"
    assert (message_id(raw), replay_target(raw)) == (b"abc", "executor")
    assert parse_headers(raw) == {"Nats-Msg-Id": "abc", "Pipeline-Replay-For": "executor"}
    assert message_id(b"NATS/1.0\r\nX: 1\r\nNats-Msg-Id:abc\r\n\r\n") == b"abc"
    assert (message_id(None), message_id(b"NATS/1.0\r\nX: 1\r\n\r\n"), replay_target(None)) == (b"", b"", None)
    assert status_of(b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 5\r\n\r\n") == "100 Idle Heartbeat"
    assert (status_of(b"NATS/1.0 503\r\n\r\n"), status_of(raw), status_of(None)) == ("503", "", "")
    short = parse_reply(b"$JS.ACK.PLANNED.executor.2.17.9.1700000000000000000.4")
    long = parse_reply(b"$JS.ACK._.hash.PLANNED.executor.2.17.9.1700000000000000000.4.token")
    assert short == long
    assert short is not None
    assert (short.attempt, short.sequence, short.consumer_sequence, short.pending) == (2, 17, 9, 4)
    assert parse_reply(b"") is None


def test_delays_grow_to_their_limit() -> None:
    for failures in range(12):
        wanted = min(2.0, 0.05 * 2**failures)
        assert 0.75 * wanted <= growing_delay_s(failures, 0.05, 2.0) <= wanted
    assert growing_delay_s(10_000, 0.05, 2.0) <= 2.0


def test_the_lean_client_sends_nothing_while_not_connected() -> None:
    assert LeanClient().send(b"PUB x 0\r\n\r\n") is False


async def test_a_watch_sees_what_is_published_when_it_has_begun(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where nats-py's flusher has no turn: its PING would overtake the subscription."""
    bus, source = await connect("watcher"), await connect("source")
    seen: list[str] = []

    async def never() -> None:
        return None

    with monkeypatch.context() as patch:
        patch.setattr(bus.client, "_flush_pending", never)
        await bus.watch("opportunity.>", lambda message, delivery: seen.append(message.id))
    await source.publish(Opportunity(id="now"))
    await eventually(lambda: seen == ["now"], 3.0)
