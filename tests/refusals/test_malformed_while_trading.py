"""Malformed and nonsensical messages on every stream while everything runs: refused, counted, and trading goes on."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest
from trading_stage import eventually
from whole import Whole, whole

from pipeline.ids import payload_digest
from pipeline.messages import (
    ExecutionPlan,
    ExecutionResult,
    KillSwitch,
    Message,
    Mode,
    Opportunity,
    Permit,
    PnlSnapshot,
    PoolState,
    Quote,
    SlotUpdate,
    WorkerHealth,
)
from pipeline.subjects import subject_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

# A subject of each stream that some worker of ours consumes or watches, and a message that belongs there.
SUBJECTS: list[tuple[str, str, Message]] = [
    ("SYSTEM", "system.kill_switch", KillSwitch(id="forged")),
    ("OPPORTUNITIES", "opportunity.found", Opportunity(id="forged")),
    ("PLANNED", "planned.plan", ExecutionPlan(id="forged")),
    ("EXECUTED", "executed.result", ExecutionResult(id="forged")),
    ("MARKET_DATA", "market_data.slot", SlotUpdate(id="forged")),
    ("MARKET_DATA", "market_data.pool.forged", PoolState(id="forged", pool="forged")),
    ("METRICS", "metrics.health.scanner", WorkerHealth(id="forged", worker="scanner")),
    ("METRICS", "metrics.pnl.SOL", PnlSnapshot(id="forged")),
    ("SYSTEM", "system.permit", Permit(id="forged")),
]


def unreadable(good: bytes) -> dict[str, bytes]:
    """Payloads that are no message, or not the one that the subject promises."""
    noise = random.Random(11)
    hostile = bytearray(good)
    for place in range(8, len(hostile), 3):
        hostile[place] = 0xFF
    return {
        "empty": b"",
        "noise": noise.randbytes(300),
        "truncated": good[: len(good) // 2],
        "identifier alone": good[:8],
        "hostile offsets": bytes(hostile),
        "another message": Quote(id="forged", pool="elsewhere").encode(),
    }


async def abuse(run: Whole) -> set[tuple[str, str]]:
    """Publish all of it; return the stream and digest of each."""
    sent = set()
    for stream, subject, good in SUBJECTS:
        await asyncio.sleep(0.6)  # a watcher reports ten of them a second, and counts the rest
        for name, payload in unreadable(good.encode()).items():
            await run.bus.publish_bytes(subject, payload, message_id=f"{subject} {name}", stream=stream)
            sent.add((stream, payload_digest(payload)))
    return sent


async def first(run: Whole, stream: str, subject: str) -> object:
    """Return the oldest message of a subject."""
    async for message, _ in run.bus.read(stream, subject):
        return message
    raise AssertionError(f"nothing on {subject}")


async def nonsense(run: Whole) -> dict[str, str]:
    """Publish whole messages that make no sense; return the ids of those that become dead letters, with why."""
    plan = await first(run, "PLANNED", "planned.plan")
    opportunity = await first(run, "OPPORTUNITIES", "opportunity.found")
    result = await first(run, "EXECUTED", "executed.result")
    assert isinstance(plan, ExecutionPlan)
    assert isinstance(opportunity, Opportunity)
    assert isinstance(result, ExecutionResult)
    refused: dict[str, Message] = {
        "mode LIVE": plan.replace(id="1" * 32, mode=Mode.LIVE),
        "admit a loss": plan.replace(id="2" * 32, min_amount_out=plan.amount_in - 1),
        "cycle": opportunity.replace(id="3" * 32, legs=opportunity.legs[:1]),
        "no cycle": ExecutionPlan(id="4" * 32),
    }
    for message in refused.values():
        await run.bus.publish(message)
    for number, repeated in enumerate((plan, opportunity, result)):
        # The same again under an id that the server has not seen: as after the duplicate window.
        await run.bus.publish_bytes(subject_of(repeated), repeated.encode(), message_id=f"repeat {number}")
    await run.bus.publish(SlotUpdate(id="5" * 32, slot=1, market_ns=1, causation_id="nobody"))
    await run.bus.publish(PoolState(id="6" * 32, pool="forged", slot=1))
    return {message.id: why for why, message in refused.items()}


async def test_no_worker_falls_and_trading_goes_on(tmp_path: Path) -> None:
    async with whole(tmp_path) as run:
        unread = await abuse(run)

        async def reported() -> bool:
            return {(letter.stream, letter.digest) for letter in await run.letters()} >= unread

        await eventually(reported, what="dead letters of all streams", logs=run.all_words)
        await run.trades_on()
        assert {letter.reason for letter in await run.letters()} == {"invalid_message", "wrong_type"}
        assert all(letter.detail for letter in await run.letters())

        refused = await nonsense(run)

        async def explained() -> bool:
            letters = await run.letters()
            return all(
                any(letter.causation_id == id_ and why in letter.detail for letter in letters)
                for id_, why in refused.items()
            )

        await eventually(explained, what="the nonsense to be refused", logs=run.all_words)
        await run.trades_on()
        assert run.falls() == []
        listed = await run.stage.cli("dead-letters", "list", "--json")
        assert listed.returncode == 0, listed.stderr

        planned = [message async for message, _ in run.bus.read("PLANNED") if isinstance(message, ExecutionPlan)]
        ours = [plan for plan in planned if plan.id not in refused]
        assert len({plan.id for plan in ours}) == len(ours) - 1, "only our own repeat stands twice"
        assert len({plan.correlation_id for plan in ours}) == len(ours) - 1
        booked = json.loads((await run.stage.cli("pnl", "--json")).stdout)
        executed = {
            message.plan_id: message.id
            async for message, delivery in run.bus.read("EXECUTED")
            if isinstance(message, ExecutionResult) and delivery.sequence <= booked["positions"]["EXECUTED"]
        }
        assert len(set(executed.values())) == len(executed), "one result for each plan"
        assert booked["totals"]["executions"] == len(executed), "a result that comes twice is booked once"
        assert not executed.keys() & refused.keys()
