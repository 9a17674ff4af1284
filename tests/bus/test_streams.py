"""The table of streams and what brings a server in line with it."""

import re
from pathlib import Path

import pytest

from pipeline import messages
from pipeline.bus import Bus
from pipeline.streams import (
    BUCKETS,
    MAX_PAYLOAD,
    STREAMS,
    TABLE,
    Change,
    missing_streams,
    reconcile,
    spec_of,
)
from pipeline.subjects import stream_of, subject_of

NATS_CONF = Path(__file__).resolve().parents[2] / "compose" / "nats.conf"
UNITS = {"MB": 1_000_000, "GB": 1_000_000_000}


def limit(name: str) -> int:
    """Read one size of nats.conf; the server counts in powers of two."""
    found = re.search(rf"^\s*{name}: (\d+)([MG]B)$", NATS_CONF.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << {"MB": 20, "GB": 30}[found[2]]


def test_the_table_is_the_design() -> None:
    rows = {spec.name: (spec.subjects[0], spec.max_age_s, spec.storage) for spec in STREAMS}
    assert rows == {
        "OPPORTUNITIES": ("opportunity.>", 3_600, "file"),
        "PLANNED": ("planned.>", 86_400, "file"),
        "EXECUTED": ("executed.>", 7 * 86_400, "file"),
        "MARKET_DATA": ("market_data.>", 300, "memory"),
        "METRICS": ("metrics.>", 86_400, "file"),
        "SYSTEM": ("system.>", 60, "memory"),
    }
    for spec in TABLE:
        assert spec.description
        assert spec.max_bytes > 0
        assert spec.duplicate_window_s <= (spec.max_age_s or spec.duplicate_window_s)


def test_byte_caps_fit_the_server_configuration() -> None:
    for storage, name in (("file", "max_file_store"), ("memory", "max_memory_store")):
        assert sum(spec.max_bytes for spec in TABLE if spec.storage == storage) <= limit(name)
    assert limit("max_payload") == MAX_PAYLOAD


MESSAGES = {
    "Opportunity": ({}, "opportunity.found"),
    "ExecutionPlan": ({}, "planned.plan"),
    "PlanRefusal": ({}, "planned.refusal"),
    "ExecutionResult": ({}, "executed.result"),
    "ExecutionSubmitted": ({}, "executed.submitted"),
    "Reconciliation": ({"token": "T"}, "metrics.reconciliation.T"),
    "Quote": ({"pool": "P"}, "market_data.quote.P"),
    "PoolState": ({"pool": "P"}, "market_data.pool_change.P"),
    "PoolQuotes": ({"pool": "P"}, "market_data.pool_quotes.P"),
    "QuotesSettled": ({}, "market_data.settled"),
    "OraclePrice": ({"token": "T"}, "market_data.oracle.T"),
    "SlotUpdate": ({}, "market_data.slot"),
    "WorkerHealth": ({"worker": "planner"}, "metrics.health.planner"),
    "ScanReport": ({}, "metrics.scan"),
    "PnlSnapshot": ({"token": "T"}, "metrics.pnl.T"),
    "Anomaly": ({"rule": "drawdown"}, "metrics.anomaly.drawdown"),
    "DeadLetter": ({}, "metrics.dead_letter"),
    "KillSwitch": ({}, "system.kill_switch"),
    "Permit": ({}, "system.permit"),
    "Command": ({"target": "*"}, "system.command.all"),
}


# Requests to the quote services and what they are answered with: they are never stored.
SERVICE_MESSAGES = {
    *("QuoteRequest", "QuoteAnswer", "PoolRequest", "PoolAnswer"),
    *("SubscribeRequest", "SubscribeAnswer", "QuoteChanges"),
}


def test_every_message_has_a_subject_in_a_stream() -> None:
    with_identifier = {name for name in messages.__all__ if getattr(getattr(messages, name), "IDENTIFIER", None)}
    assert with_identifier == set(MESSAGES) | SERVICE_MESSAGES
    for name in SERVICE_MESSAGES:
        with pytest.raises(TypeError, match="not a message"):
            subject_of(getattr(messages, name)())
    for name, (fields, subject) in MESSAGES.items():
        assert subject_of(getattr(messages, name)(**fields)) == subject
        assert stream_of(subject) in {spec.name for spec in STREAMS}
    assert subject_of(messages.PoolState(pool="P", complete=True)) == "market_data.pool.P"


@pytest.mark.parametrize("name", ["", "a b", "a.b", "*", ">", "a\r\nPUB x 0", "x" * 129])
def test_a_field_cannot_change_the_meaning_of_a_subject(name: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a subject"):
        subject_of(messages.WorkerHealth(worker=name))


def test_a_claim_outlives_its_plan_and_its_replay() -> None:
    assert spec_of("claims").max_age_s >= 2 * spec_of("planned").max_age_s


def test_names() -> None:
    assert spec_of("planned").name == "PLANNED"
    assert spec_of("claims").bucket == "claims"
    with pytest.raises(KeyError):
        spec_of("nothing")
    with pytest.raises(ValueError, match="no stream holds"):
        stream_of("other.thing")
    with pytest.raises(TypeError, match="not a message"):
        subject_of(messages.Leg())


async def test_reconcile_creates_everything_once(bus: Bus) -> None:
    for spec in TABLE:
        await bus.js.delete_stream(spec.name)
    assert await missing_streams(bus.js) == [spec.name for spec in TABLE]
    wanted = [Change(spec.name, "create") for spec in TABLE]
    assert await reconcile(bus.js, check=True) == wanted
    assert await missing_streams(bus.js), "check must change nothing"
    seen: list[Change] = []
    changes = await reconcile(bus.js, report=seen.append)
    assert changes == seen
    assert [(change.stream, change.action, change.done) for change in changes] == [
        (spec.name, "create", True) for spec in TABLE
    ]
    assert await reconcile(bus.js) == []
    assert await reconcile(bus.js, check=True) == []
    for spec in BUCKETS:
        assert (await (await bus.js.key_value(spec.bucket)).status()).history == spec.history


async def test_drift_is_reported_then_repaired_and_messages_stay(bus: Bus) -> None:
    await bus.publish(messages.ExecutionPlan(id="kept"))
    config = (await bus.js.stream_info("PLANNED")).config
    await bus.js.update_stream(
        config.evolve(
            max_age=5_000.0,
            max_bytes=1_000_000,
            duplicate_window=2.0,
            description="mine",
            subjects=["planned.>", "strange.>"],
            metadata={"somebody": "else"},
        )
    )
    drifted = await reconcile(bus.js, check=True)
    assert {(change.stream, change.field) for change in drifted} == {
        ("PLANNED", field)
        for field in ("max_age", "max_bytes", "duplicate_window", "description", "subjects", "metadata")
    }
    assert all(change.action == "update" and not change.done for change in drifted)
    assert "PLANNED.max_age: 5000 -> 86400 (drifted)" in map(str, drifted)
    repaired = await reconcile(bus.js)
    assert [str(change) for change in repaired if change.field == "max_age"] == ["PLANNED.max_age: 5000 -> 86400"]
    assert all(change.done for change in repaired)
    assert await reconcile(bus.js, check=True) == []
    assert [message.id async for message, _ in bus.read("PLANNED")] == ["kept"]


async def test_what_cannot_be_changed_is_reported_with_advice_and_the_rest_repaired(bus: Bus) -> None:
    await bus.js.delete_stream("SYSTEM")
    await bus.js.add_stream(name="SYSTEM", subjects=["system.>"], storage="file")
    changes = await reconcile(bus.js)
    stuck = [change for change in changes if change.action == "cannot_change"]
    assert [(change.field, change.was, change.wanted) for change in stuck] == [("storage", "file", "memory")]
    assert "nats stream rm SYSTEM" in stuck[0].advice
    assert {change.field for change in changes if change.done} >= {"max_age", "max_bytes", "description"}
    assert [change.field for change in await reconcile(bus.js)] == ["storage"]


async def test_a_foreign_stream_on_our_subjects_is_named_as_the_cause(bus: Bus) -> None:
    await bus.js.delete_stream("SYSTEM")
    await bus.js.add_stream(name="FOREIGN", subjects=["system.kill_switch"])
    try:
        (change,) = await reconcile(bus.js)
        assert change.action == "cannot_change"
        assert "another stream holds its subjects (system.>)" in str(change)
    finally:
        await bus.js.delete_stream("FOREIGN")


async def test_too_many_replicas_are_reported_and_the_rest_repaired(bus: Bus) -> None:
    config = (await bus.js.stream_info("METRICS")).config
    await bus.js.update_stream(config.evolve(description="mine"))
    changes = await reconcile(bus.js, 3)
    assert {change.field for change in changes if change.action == "cannot_change"} == {"num_replicas"}
    assert "streams.replicas = 1" in str(changes[0])
    assert [change.field for change in changes if change.done] == ["description"]
