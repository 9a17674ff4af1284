"""Dead letters on the command line: list, show, replay; and init-streams and tap beside them."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from in_process import Ran, ran

from pipeline.bus import Bus, Delivery, Reject
from pipeline.messages import ExecutionPlan, KillSwitch, Opportunity, PermitState
from pipeline.nats_server import EmbeddedNats
from tests.bus.test_consume import eventually, settled
from tests.conftest import Connect

pytestmark = pytest.mark.integration


async def cli(url: str, *arguments: str) -> Ran:
    """Run a command against a server."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
    done = await asyncio.to_thread(ran, arguments, {**environment, "PIPELINE_NATS__URL": url})
    assert "Traceback" not in done.stderr
    return done


async def cli_json(url: str, *arguments: str, code: int = 0) -> Any:
    returned, out, errors = await cli(url, *arguments, "--json")
    assert returned == code, errors
    return json.loads(out)


async def test_a_rejected_message_is_listed_shown_and_replayed_to_the_one_that_gave_it_up(
    connect: Connect, nats_url: str
) -> None:
    bus = await connect("executor")
    broken = True
    handled: list[tuple[str, str]] = []

    def execute(message: ExecutionPlan, delivery: Delivery) -> None:
        if broken:
            raise Reject("the venue is closed")
        handled.append(("executor", message.id))

    await bus.consume("PLANNED", "planned.plan", durable="executor", handler=execute)
    await bus.consume(
        "PLANNED",
        "planned.plan",
        durable="auditor",
        handler=lambda message, delivery: handled.append(("auditor", message.id)),
    )
    watched: list[str] = []
    await bus.watch("planned.>", lambda message, delivery: watched.append(message.id))
    assert await cli_json(nats_url, "dead-letters", "list") == []
    await bus.publish(ExecutionPlan(id="p1", correlation_id="o1", amount_in=7))
    await eventually(lambda: bus.counters.dead_lettered == 1)
    assert handled == [("auditor", "p1")]

    (letter,) = await cli_json(nats_url, "dead-letters", "list")
    wanted = {"stream": "PLANNED", "stream_sequence": 1, "consumer": "executor", "reason": "handler_error"}
    wanted |= {"detail": "the venue is closed", "correlation_id": "o1", "causation_id": "p1"}
    assert {key: letter[key] for key in wanted} == wanted
    code, out, _ = await cli(nats_url, "dead-letters", "list")
    assert code == 0
    assert "the venue is closed" in out
    shown = await cli_json(nats_url, "dead-letters", "show", letter["id"][:10])
    assert shown["original"]["type"] == "ExecutionPlan"
    assert shown["original"]["message"]["amount_in"] == 7
    assert shown["original"]["headers"]["Nats-Msg-Id"] == "p1"

    broken = False
    replayed = await cli_json(nats_url, "dead-letters", "replay", letter["id"])
    assert (replayed["consumer"], replayed["already_replayed"]) == ("executor", False)
    await eventually(lambda: settled(bus, "executor", "PLANNED"))
    await eventually(lambda: settled(bus, "auditor", "PLANNED"))
    assert handled == [("auditor", "p1"), ("executor", "p1")], "the others acknowledge it unseen"
    assert watched == ["p1"]
    again = await cli_json(nats_url, "dead-letters", "replay", letter["id"])
    assert again["already_replayed"] is True
    assert len(handled) == 2


async def test_a_replay_that_fails_again_is_a_new_dead_letter(bus: Bus, nats_url: str) -> None:
    def reject(message: ExecutionPlan, delivery: Delivery) -> None:
        raise Reject("never")

    await bus.consume("PLANNED", "planned.plan", durable="executor", handler=reject)
    await bus.publish(ExecutionPlan(id="p1"))
    await eventually(lambda: bus.counters.dead_lettered == 1)
    (letter,) = await cli_json(nats_url, "dead-letters", "list")
    await cli_json(nats_url, "dead-letters", "replay", letter["id"])
    await eventually(lambda: bus.counters.dead_lettered == 2)
    letters = await cli_json(nats_url, "dead-letters", "list")
    assert [row["stream_sequence"] for row in letters] == [1, 2]
    assert letters[0]["id"] != letters[1]["id"]


async def test_what_is_gone_or_unknown_is_said(bus: Bus, nats_url: str) -> None:
    await bus.consume("PLANNED", "planned.plan", durable="executor", handler=lambda message, delivery: None)
    await bus.publish_bytes("planned.plan", b"garbage", message_id="g")
    await eventually(lambda: bus.counters.dead_lettered == 1)
    (letter,) = await cli_json(nats_url, "dead-letters", "list")
    shown = await cli_json(nats_url, "dead-letters", "show", letter["id"])
    assert shown["original"]["invalid"].startswith("too_short")
    await bus.js.purge_stream("PLANNED")
    shown = await cli_json(nats_url, "dead-letters", "show", letter["id"])
    assert shown["original"] is None
    code, _, errors = await cli(nats_url, "dead-letters", "replay", letter["id"])
    assert (code, "no longer holds message 1" in errors) == (1, True)
    code, _, errors = await cli(nats_url, "dead-letters", "show", "ffffffff")
    assert (code, "dead-letters list" in errors) == (2, True)
    code, _, errors = await cli(nats_url, "dead-letters", "show", "ab")
    assert (code, "too short" in errors) == (2, True)


async def test_init_streams_on_the_command_line() -> None:
    with EmbeddedNats() as server:
        url = server.url
        checked = await cli_json(url, "init-streams", "--check", code=1)
        assert not checked["in_order"]
        assert {change["action"] for change in checked["changes"]} == {"create"}
        code, out, _ = await cli(url, "init-streams")
        assert (code, out.splitlines()[0]) == (0, "OPPORTUNITIES: created")
        assert await cli_json(url, "init-streams", "--check") == {"in_order": True, "changes": []}
        assert (await cli(url, "init-streams"))[1] == "streams and buckets are as the table says\n"
    code, out, errors = await cli(url, "init-streams", "--check")
    assert (code, out) == (3, "")
    assert "no NATS server answers" in errors


async def test_tap_shows_streams_and_subjects_decoded(bus: Bus, nats_url: str) -> None:
    for number in range(3):
        await bus.publish(Opportunity(id=f"o{number}", producer="scanner"))
    await bus.publish(KillSwitch(id="k", state=PermitState.HALTED, actor="me", reason="because"))
    await bus.publish_bytes("opportunity.found", b"garbage", message_id="g")
    code, out, _ = await cli(nats_url, "tap", "opportunities", "--json", "--last", "2")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["sequence"], row.get("type"), row.get("invalid")) for row in rows] == [
        (3, "Opportunity", None),
        (4, None, "too_short"),
    ]
    code, out, _ = await cli(nats_url, "tap", "system.kill_switch")
    assert code == 0
    assert "SYSTEM:1 system.kill_switch KillSwitch k from : state=HALTED epoch=0 actor=me reason=because" in out
    code, out, _ = await cli(nats_url, "tap", "OPPORTUNITIES", "--all")
    assert len(out.splitlines()) == 4
    code, _, errors = await cli(nats_url, "tap", "elsewhere.>")
    assert (code, "neither a stream nor a subject" in errors) == (2, True)


async def test_tap_follows(bus: Bus, nats_url: str) -> None:
    await bus.publish(Opportunity(id="before"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from pipeline.cli import main; main()"),
        *("tap", "OPPORTUNITIES", "--follow", "--json", "--last", "1"),
        stdout=subprocess.PIPE,
        env={**os.environ, "PIPELINE_NATS__URL": nats_url},
    )
    assert process.stdout is not None
    try:
        first = json.loads(await asyncio.wait_for(process.stdout.readline(), 10))
        await bus.publish(Opportunity(id="after"))
        second = json.loads(await asyncio.wait_for(process.stdout.readline(), 10))
        assert [row["message"]["id"] for row in (first, second)] == ["before", "after"]
    finally:
        process.terminate()
        await process.wait()
