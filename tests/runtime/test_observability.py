"""Health figures, logs and traces."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from statistics import quantiles
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pipeline import logs, telemetry
from pipeline.bus import Bus
from pipeline.config import load_config
from pipeline.health import Health, Latency, _index, _upper_ns, metrics_page
from pipeline.ids import deterministic_id
from pipeline.messages import ExecutionPlan, Opportunity, PermitState, WorkerState

Connect = Callable[..., Awaitable[Bus]]


@dataclass
class Counters:
    received: int = 5
    handled: int = 4
    failed: int = 1
    expired: int = 0
    duplicates: int = 2
    dead_lettered: int = 0
    published: int = 3
    in_flight: int = 1
    latencies_ns: deque[int] = field(default_factory=lambda: deque([1_000, 2_000, 900_000]))


# Health


@given(st.integers(min_value=0, max_value=1 << 50))
def test_a_duration_lies_in_its_bucket(duration: int) -> None:
    index = _index(duration)
    upper = _upper_ns(index)
    assert duration <= upper
    assert upper <= duration * 17 / 16 + 1
    assert index == 0 or _upper_ns(index - 1) < duration


@given(st.lists(st.integers(min_value=0, max_value=10**10), min_size=30, max_size=300))
def test_quantiles_are_at_most_a_bucket_too_high(durations: list[int]) -> None:
    latency = Latency()
    for duration in durations:
        latency.record(duration)
    p50, p99 = latency.quantiles(0.5, 0.99)
    ordered = sorted(durations)
    exact50 = ordered[-(-len(ordered) // 2) - 1] / 1000
    assert exact50 <= p50 <= exact50 * 17 / 16 + 0.001
    assert p50 <= p99 <= ordered[-1] / 1000 * 17 / 16 + 0.001
    assert quantiles(ordered, n=2)[0] / 1000 <= p99 + 0.001 or p99 >= p50


def test_the_window_slides_and_the_total_stays() -> None:
    latency = Latency()
    latency.record(1_000_000)
    for _ in range(9):
        latency.rotate()
    assert latency.quantiles(0.5)[0] >= 1000
    latency.rotate()
    assert latency.quantiles(0.5) == [0.0]
    assert latency.count == 1
    edges = list(latency.cumulative())
    assert [edge for edge, _ in edges] == sorted(edge for edge, _ in edges)
    assert [count for edge, count in edges if edge >= 0.0011][-1] == 1
    assert [count for edge, count in edges if edge < 0.001][-1] == 0


def test_health_message() -> None:
    health = Health("planner", memory_limit_bytes=1 << 40)
    health.counters = Counters()
    health.rpc_calls, health.rpc_failures = 10, 2
    health.enter(WorkerState.READY)
    health.permit_state = PermitState.ACTIVE
    first = health.measure()
    assert (first.received, first.handled, first.failed, first.duplicates, first.in_flight) == (5, 4, 1, 2, 1)
    assert (first.rpc_calls, first.rpc_failures, first.sequence) == (10, 2, 1)
    assert first.rate > 0
    assert first.latency_p50_us == pytest.approx(2.0, rel=0.07)
    assert first.latency_p99_us == pytest.approx(900, rel=0.07)
    assert 0 < first.memory_ratio < 0.01
    assert first.permit_state == PermitState.ACTIVE
    second = health.measure()
    assert second.id != first.id
    assert second.sequence == 2
    assert second.rate == 0


def test_degraded_names_what_is_missing() -> None:
    health = Health("scanner")
    health.degraded("no quotes")
    assert health.state == WorkerState.STARTING, "not before it is ready"
    health.enter(WorkerState.READY)
    assert (health.state, health.detail, health.ready) == (WorkerState.DEGRADED, "no quotes", True)
    health.bus_problems = {"nats": "not connected"}
    health.enter(health.state)
    assert health.detail == "no quotes; nats: not connected"
    health.degraded("no quotes", cause="another part")
    assert health.detail == "no quotes; nats: not connected", "the same thing is told once"
    health.recovered(cause="another part")
    health.recovered()
    health.bus_problems = {}
    health.enter(health.state)
    assert (health.state, health.detail) == (WorkerState.READY, "")


def test_metrics_page() -> None:
    health = Health("planner")
    health.counters = Counters()
    health.measure()
    page, content_type = metrics_page(health)
    text = page.decode()
    assert content_type.startswith("text/plain")
    assert 'pipeline_handled_total{worker="planner"} 4.0' in text
    assert 'pipeline_handler_seconds_count{worker="planner"} 3.0' in text
    assert 'le="+Inf",worker="planner"} 3.0' in text


# Logs


def logged(write: Callable[[Any], None], overrides: dict[str, object] | None = None) -> list[dict[str, Any]]:
    out = io.StringIO()
    log = logs.configure(load_config(overrides, environment={}), worker="planner", stream=out)
    try:
        write(log)
    finally:
        logging.getLogger().handlers = []
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_ids() -> None:
    (line,) = logged(lambda log: log.bind(correlation_id="abc").info("planned", profit=5))
    assert line["worker"] == "planner"
    assert line["level"] == "info"
    assert (line["event"], line["correlation_id"], line["profit"]) == ("planned", "abc", 5)
    assert line["timestamp"].endswith("Z")


def test_secrets_are_redacted() -> None:
    overrides: dict[str, object] = {"nats.password": "open-sesame-123"}

    def write(log: Any) -> None:
        log.info("x", password="a", api_token="b", nested={"secret": "c", "deep": ["postgresql://u:d3dd@h/db"]})
        log.info("the password is open-sesame-123", url="nats://u:d3dd@h")
        log.info("a mint is no secret", token="So11111111111111111111111111111111111111112")
        try:
            raise RuntimeError("cannot reach nats://u:d3dd@h with open-sesame-123")
        except RuntimeError:
            log.exception("failed")

    lines = logged(write, overrides)
    text = json.dumps(lines)
    assert "open-sesame" not in text
    assert "d3dd" not in text
    assert lines[0]["password"] == lines[0]["api_token"] == lines[0]["nested"]["secret"] == "********"
    assert lines[2]["token"].startswith("So111")
    assert "RuntimeError" in lines[3]["exception"]


def test_the_level_holds_and_other_packages_are_carried() -> None:
    def write(log: Any) -> None:
        log.info("too quiet")
        log.warning("heard")
        logging.getLogger("some.package").warning("from elsewhere %d", 5)
        logging.getLogger("some.package").info("chatter")

    lines = logged(write, {"telemetry.log_level": "warning"})
    assert [line["event"] for line in lines] == ["heard", "from elsewhere 5"]
    assert lines[1]["logger"] == "some.package"


# Traces


def opportunity(name: str) -> Opportunity:
    identity = deterministic_id("test", name)
    return Opportunity(id=identity, correlation_id=identity, producer="scanner")


def test_off_means_nothing_is_loaded() -> None:
    section = load_config(environment={}).telemetry
    assert telemetry.start(section, "planner") is None
    probe = (
        "import sys; from pipeline.config import load_config; import pipeline.worker; from pipeline import telemetry\n"
        "assert telemetry.start(load_config(environment={}).telemetry, 'planner') is None\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google.protobuf'))])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.integration
async def test_one_opportunity_is_one_trace(connect: Connect) -> None:
    """Scanner -> planner -> executor: the trace id is the correlation id, each span the child of the one before."""
    spans = InMemorySpanExporter()
    buses = {}
    for name in ("scanner", "planner", "executor"):
        tracing = telemetry.with_processor(SimpleSpanProcessor(spans), name)
        buses[name] = await connect(name)
        buses[name].tracing = tracing
    seen = asyncio.Event()

    async def plan(message: Opportunity, _delivery: object) -> None:
        answer = ExecutionPlan(
            id=deterministic_id("plan", message.id), correlation_id=message.correlation_id, causation_id=message.id
        )
        await buses["planner"].publish(answer)

    def execute(_message: ExecutionPlan, delivery: Any) -> None:
        assert delivery.traceparent.split("-")[1] == found.correlation_id
        seen.set()

    await buses["executor"].consume("PLANNED", "planned.plan", durable="executor", handler=execute)
    await buses["planner"].consume("OPPORTUNITIES", "opportunity.found", durable="planner", handler=plan)
    found = opportunity("one")
    await buses["scanner"].publish(found)
    await asyncio.wait_for(seen.wait(), 10)
    await asyncio.sleep(0.1)

    by_name = {span.name: span for span in spans.get_finished_spans()}
    chain = ["scanner publishes Opportunity", "planner opportunity.found", "executor planned.plan"]
    assert set(chain) <= set(by_name)
    assert {f"{by_name[name].context.trace_id:032x}" for name in chain} == {found.correlation_id}
    for before, after in pairwise(chain):
        parent = by_name[after].parent
        assert parent is not None
        assert parent.span_id == by_name[before].context.span_id
    assert by_name[chain[0]].parent is None
    assert by_name[chain[2]].attributes["pipeline.message"] == "ExecutionPlan"


def test_what_is_not_sampled_stays_unsampled() -> None:
    spans = InMemorySpanExporter()
    tracing = telemetry.with_processor(SimpleSpanProcessor(spans), "scanner", sample_ratio=0.0)
    assert int(tracing.traceparent(opportunity("two"))[-2:], 16) & 1 == 0, "the sampled bit"
    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize("carried", ["", "rubbish", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_broken_header_opens_a_new_span(carried: str) -> None:
    @dataclass
    class Delivered:
        subject: str = "opportunity.found"
        attempt: int = 1
        traceparent: str = carried

    spans = InMemorySpanExporter()
    tracing = telemetry.with_processor(SimpleSpanProcessor(spans), "planner")
    with tracing.handling(opportunity("three"), Delivered()):
        pass
    assert len(spans.get_finished_spans()) == 1


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An OTLP collector that keeps what it gets."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_export_to_a_collector(collector: tuple[str, list[tuple[str, bytes]]]) -> None:
    url, got = collector
    section = load_config({"telemetry.otlp_endpoint": url}, environment={}).telemetry
    tracing = telemetry.start(section, "scanner")
    assert tracing is not None
    tracing.traceparent(opportunity("four"))
    tracing.close()
    assert [path for path, _ in got] == ["/v1/traces"]
    assert b"pipeline-scanner" in got[0][1]
    assert bytes.fromhex(opportunity("four").correlation_id) in got[0][1]
