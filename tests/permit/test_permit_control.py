"""The control endpoint: loopback, a token, and nothing that a stranger could use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from permit_stage import Stage, closed, eventually, logs, opened

from pipeline.bus import Bus
from pipeline.config import ConfigError, load_config
from pipeline.messages import (
    Anomaly,
    ExecutionResult,
    KillSwitch,
    Message,
    PermitState,
    PnlSnapshot,
    WorkerHealth,
    WorkerState,
)
from pipeline.permit import Latched, NotAllowedError, Person, RefusedBy
from pipeline.permit.halting import HaltReport
from pipeline.permit.word import WordHalt
from workers.system_manager.control import TOKEN_FILE, application, make_token

TOKEN = "correct-horse-battery-staple"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
ORDER = {"by": "ada", "reason": "because"}


class FakeControl:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.stopped = True
        self.error: Exception | None = None

    async def halt(self, person: Person, reason: str) -> HaltReport:
        self.calls.append(("halt", person.actor, reason))
        return HaltReport(
            WordHalt("" if self.stopped else "none"), 2, "" if self.stopped else "no server", None, "full"
        )

    async def resume(self, person: Person, reason: str) -> Latched:
        self.calls.append(("resume", person.actor, reason))
        if self.error is not None:
            raise self.error
        return Latched(KillSwitch(state=PermitState.ACTIVE, epoch=3, actor=person.actor, reason=reason), 3)

    async def state(self) -> dict[str, Any]:
        return {"state": "ACTIVE"}


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
async def client(control: FakeControl) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(application(control, TOKEN))) as client:
        yield client


WRONG = [
    {},
    {"Authorization": ""},
    {"Authorization": TOKEN},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": f"Bearer {TOKEN[:-1]}"},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer \u00e9"},
]


@pytest.mark.parametrize("headers", WRONG)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/kill-switch"), ("POST", "/resume"), ("GET", "/state"), ("GET", "/x")]
)
async def test_without_the_token_nothing_happens(
    client: TestClient[Any, Any], control: FakeControl, method: str, path: str, headers: dict[str, str]
) -> None:
    response = await client.request(method, path, headers=headers, json=ORDER if method == "POST" else None)
    assert response.status == 401
    assert TOKEN not in await response.text()
    assert control.calls == []


async def test_halt_resume_and_state(client: TestClient[Any, Any], control: FakeControl) -> None:
    response = await client.post("/kill-switch", headers=AUTH, json=ORDER)
    assert (response.status, await response.json()) == (
        200,
        {"state": "HALTED", "reached": {"shared_memory": "halted", "published": "epoch 2", "latched": "full"}},
    )
    response = await client.post("/resume", headers=AUTH, json=ORDER)
    assert response.status == 200
    assert (await response.json())["epoch"] == 3
    assert (await (await client.get("/state", headers=AUTH)).json()) == {"state": "ACTIVE"}
    assert control.calls == [("halt", "ada", "because"), ("resume", "ada", "because")]


NO_ORDERS = [
    "",
    "x",
    "[]",
    "{}",
    '{"by": "ada"}',
    '{"by": "ada", "reason": " "}',
    '{"by": "", "reason": "x"}',
    '{"by": 1, "reason": "x"}',
    '{"by": "ada", "reason": "x", "force": true}',
    '{"by": "rule:x", "reason": "x"}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("body", NO_ORDERS)
@pytest.mark.parametrize("path", ["/kill-switch", "/resume"])
async def test_an_order_needs_a_name_and_a_reason(
    client: TestClient[Any, Any], control: FakeControl, path: str, body: str | bytes
) -> None:
    response = await client.post(path, headers=AUTH, data=body)
    assert response.status == 400
    assert control.calls == []


async def test_what_cannot_be_done_is_said(client: TestClient[Any, Any], control: FakeControl) -> None:
    control.stopped = False
    assert (await client.post("/kill-switch", headers=AUTH, json=ORDER)).status == 500
    control.error = NotAllowedError("no")
    assert (await client.post("/resume", headers=AUTH, json=ORDER)).status == 409
    control.error = TimeoutError("no answer")
    assert (await client.post("/resume", headers=AUTH, json=ORDER)).status == 503
    assert (await client.get("/kill-switch", headers=AUTH)).status == 405
    assert (await client.get("/nothing", headers=AUTH)).status == 404
    assert (await client.post("/resume", headers=AUTH, data=b"x" * 5000)).status == 413


def test_the_made_token_is_for_the_owner_alone(tmp_path: Path) -> None:
    token = make_token(tmp_path / "run")
    path = tmp_path / "run" / TOKEN_FILE
    assert path.read_text() == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(token) >= 43
    assert make_token(tmp_path / "run") != token


def test_no_token_no_endpoint(control: FakeControl) -> None:
    with pytest.raises(ValueError, match="token"):
        application(control, "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("system_manager.host", "0.0.0.0"),
        ("system_manager.host", "10.0.0.1"),
        ("system_manager.host", "::"),
        ("system_manager.token", "short"),
        ("permit.lease_ms", 150),
        ("permit.lease_ms", 60_000),
        ("permit.shared_memory", "maybe"),
        ("rules.error_ratio", 1.5),
    ],
)
def test_bad_settings_are_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key.split(".")[1]):
        load_config({key: value}, environment={})


async def control_url(stage: Stage) -> str:
    path = stage.directory / "run" / "control.json"
    for _ in range(500):
        if path.exists():
            return str(json.loads(path.read_text())["url"])
        await asyncio.sleep(0.02)
    raise AssertionError("no control endpoint")


@pytest.mark.integration
async def test_over_http_with_a_real_manager_and_no_token_in_its_logs(stage: Stage) -> None:
    manager = stage.manager()
    url = await control_url(stage)
    token = (stage.directory / "run" / TOKEN_FILE).read_text()
    gate = await asyncio.to_thread(stage.gate)
    eventually(opened(gate))
    wrong = "Bearer wrong-token-of-the-right-length-xxxxxxxxxxxxx"
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/kill-switch", json=ORDER, headers={"Authorization": wrong}) as response:
            assert response.status == 401
        assert opened(gate)()
        headers = {"Authorization": f"Bearer {token}"}
        async with session.post(f"{url}/kill-switch", json=ORDER, headers=headers) as response:
            assert response.status == 200
            assert (await response.json())["reached"]["shared_memory"] == "halted"
        assert closed(gate)()
        async with session.get(f"{url}/state", headers=headers) as response:
            state = await response.json()
        assert (state["state"], state["by"], state["reason"], state["in_office"]) == ("HALTED", "ada", "because", True)
        assert [change["state"] for change in state["changes"]] == ["ACTIVE", "HALTED"]
        assert "drawdown" in {rule["rule"] for rule in state["rules"]}
        async with session.post(f"{url}/resume", json=ORDER, headers=headers) as response:
            assert response.status == 200
        await asyncio.to_thread(eventually, opened(gate), within_s=2)
    manager.terminate()
    output = (await asyncio.to_thread(manager.communicate))[0]
    assert token.encode() not in output
    assert wrong.encode() not in output
    events = [line["event"] for line in logs(output)]
    assert events.count("permit changed") == 3
    assert "halted" in events


HEALTH = {"worker": "executor", "instance": "x", "state": WorkerState.READY}


@pytest.mark.integration
@pytest.mark.parametrize("rule", ["drawdown", "error_ratio", "rpc_failures", "memory", "worker_silent", "unbooked"])
async def test_a_broken_rule_halts_and_is_reported(stage: Stage, rule: str) -> None:
    stage.manager(**{"rules.silent_s": 1.5, "rules.memory_min_reports": 2, "rules.unbooked_s": 0.5})
    config = stage.config()
    bus = await Bus.connect(config.nats, name="tests")
    seen: list[Anomaly] = []
    await bus.watch(f"metrics.anomaly.{rule}", lambda message, _: seen.append(message))
    gate = await asyncio.to_thread(stage.gate)
    await asyncio.to_thread(eventually, opened(gate))
    await control_url(stage)
    for number in range(8):
        if rule == "drawdown":
            message: Message = PnlSnapshot(
                id=f"p{number}",
                token="T",
                executions=number + 1,
                net_profit_lamports=-number * 30,
                starting_capital_lamports=1000,
                created_ns=10**18 + number,
            )
        elif rule == "unbooked":
            message = ExecutionResult(id=f"r{number}", plan_id=f"plan{number}")
        else:
            counters: dict[str, Any] = {
                "error_ratio": {"handled": number, "failed": 10 * number},
                "rpc_failures": {"handled": number, "rpc_calls": 10 * number, "rpc_failures": 9 * number},
                "memory": {"handled": number, "memory_ratio": 0.97},
                "worker_silent": {"handled": number},
            }[rule]
            message = WorkerHealth(id=f"h{number}", sequence=number, **HEALTH, **counters)
        await bus.publish(message)
        await asyncio.sleep(0.05)
    await asyncio.to_thread(eventually, closed(gate), within_s=5)
    verdict = gate.check()
    assert verdict.reason in (RefusedBy.HALTED, RefusedBy.WORD_HALTED)
    for _ in range(100):
        if seen:
            break
        await asyncio.sleep(0.02)
    assert [anomaly.rule for anomaly in seen] == [rule]
    assert seen[0].measured > seen[0].limit
    assert seen[0].causation_id[0] == {"drawdown": "p", "unbooked": "r"}.get(rule, "h")
    await asyncio.sleep(0.3)
    assert gate.view().actor == f"rule:{rule}"
    await bus.close(1)
