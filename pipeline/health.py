"""A worker's health: counters, handler latency, memory and processor time, as message and as Prometheus metrics."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline.clock import wall_ns
from pipeline.ids import deterministic_id
from pipeline.messages import PermitState, WorkerHealth, WorkerState

# Sixteen buckets per power of two: a quantile is at most 6 % too high.
_SUB_BITS = 4
_SUB = 1 << _SUB_BITS
_BUCKETS = 60 * _SUB
_WINDOWS = 10
COUNTERS = ("received", "handled", "failed", "expired", "duplicates", "dead_lettered", "published")


class Counters(Protocol):
    """What the bus counts, by the names that the health message uses."""

    received: int
    handled: int
    failed: int
    expired: int
    duplicates: int
    dead_lettered: int
    published: int
    in_flight: int


class Latency:
    """Histogram of durations in nanoseconds over a sliding window, and since the start."""

    def __init__(self) -> None:
        """Begin with empty windows."""
        self._now = [0] * _BUCKETS
        self._past: deque[list[int]] = deque(maxlen=_WINDOWS - 1)
        self._total = [0] * _BUCKETS
        self.count = 0
        self.sum_ns = 0

    def record(self, duration_ns: int) -> None:
        """Count one duration."""
        self.count += 1
        self.sum_ns += duration_ns
        self._now[_index(duration_ns)] += 1

    def rotate(self) -> None:
        """Close the present window; called once per health message."""
        for index, count in enumerate(self._now):
            if count:
                self._total[index] += count
        self._past.append(self._now)
        self._now = [0] * _BUCKETS

    def quantiles(self, *wanted: float) -> list[float]:
        """Return quantiles of the window in microseconds: their bucket's upper edge, 0 where nothing was counted."""
        merged = list(map(sum, zip(self._now, *self._past, strict=True)))
        total = sum(merged)
        found = []
        for quantile in wanted:
            rank, seen, edge = quantile * total, 0, 0
            for index, count in enumerate(merged):
                seen += count
                if count and seen >= rank:
                    edge = _upper_ns(index)
                    break
            found.append(edge / 1000)
        return found

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yield (upper edge in seconds, count at or below it) since the start, one per power of two."""
        seen = 0
        for power in range(10, 36):
            edge = _index(1 << power)
            low = 0 if power == 10 else _index(1 << (power - 1))
            seen += sum(self._total[low:edge]) + sum(self._now[low:edge])
            yield (1 << power) / 1e9, seen


def _index(duration_ns: int) -> int:
    if duration_ns < _SUB:
        return max(duration_ns, 0)
    shift = duration_ns.bit_length() - _SUB_BITS - 1
    return min((shift << _SUB_BITS) + (duration_ns >> shift), _BUCKETS - 1)


def _upper_ns(index: int) -> int:
    if index < _SUB:
        return index
    shift = (index >> _SUB_BITS) - 1
    return ((index & (_SUB - 1) | _SUB) + 1 << shift) - 1


class Health:
    """Everything that the health message says about this process.

    Workers count RPC calls in `rpc_calls` and `rpc_failures`, and call `degraded("what is missing")` and `recovered()`.
    """

    def __init__(self, worker: str, *, memory_limit_bytes: int = 0) -> None:
        """Begin at the present moment."""
        self.worker = worker
        self.instance = f"{socket.gethostname()}:{os.getpid()}"
        self.started_ns = wall_ns()
        self.state = WorkerState.STARTING
        self.detail = ""
        self.latency = Latency()
        self.rpc_calls = 0
        self.rpc_failures = 0
        self.permit_state = PermitState.HALTED
        self.permit_epoch = 0
        self.counters: Counters | None = None
        # What a worker has to show beside the figures below: each yields Prometheus metric families when asked.
        self.collectors: list[Callable[[], Iterable[Any]]] = []
        self.last: WorkerHealth | None = None
        self.bus_problems: Mapping[str, str] = {}
        self._missing: dict[str, str] = {}
        self._sequence = 0
        self._limit = memory_limit_bytes or machine_memory()
        self._measured_ns = time.monotonic_ns()
        self._cpu_s = time.process_time()
        self._handled = 0

    @property
    def ready(self) -> bool:
        """Tell whether the worker does its work."""
        return self.state in (WorkerState.READY, WorkerState.DEGRADED)

    def degraded(self, detail: str, *, cause: str = "worker") -> None:
        """Say that something the worker depends on is missing."""
        self._missing[cause] = detail
        self._settle()

    def recovered(self, *, cause: str = "worker") -> None:
        """Say that it is back."""
        self._missing.pop(cause, None)
        self._settle()

    def enter(self, state: WorkerState) -> None:
        """Go on to another state of the lifecycle, or look again at what is missing in the present one."""
        self.state = state
        self._settle()

    def measure(self) -> WorkerHealth:
        """Return the next health message, with rates since the one before."""
        now = time.monotonic_ns()
        cpu = time.process_time()
        elapsed_s = max((now - self._measured_ns) / 1e9, 1e-9)
        for duration_ns in self._drained():
            self.latency.record(duration_ns)
        counts = {name: int(getattr(self.counters, name, 0)) for name in COUNTERS}
        rate = max(counts["handled"] - self._handled, 0) / elapsed_s
        p50, p99 = self.latency.quantiles(0.5, 0.99)
        self.latency.rotate()
        memory = resident_bytes()
        self._sequence += 1
        self.last = WorkerHealth(
            id=deterministic_id("health", self.instance, self.started_ns, self._sequence),
            created_ns=wall_ns(),
            producer=self.worker,
            worker=self.worker,
            instance=self.instance,
            state=self.state,
            pid=os.getpid(),
            started_ns=self.started_ns,
            sequence=self._sequence,
            received=counts["received"],
            handled=counts["handled"],
            failed=counts["failed"],
            expired=counts["expired"],
            duplicates=counts["duplicates"],
            dead_lettered=counts["dead_lettered"],
            published=counts["published"],
            in_flight=int(getattr(self.counters, "in_flight", 0)),
            rate=rate,
            latency_p50_us=p50,
            latency_p99_us=p99,
            memory_bytes=memory,
            memory_ratio=memory / self._limit if self._limit else 0.0,
            cpu_ratio=(cpu - self._cpu_s) / elapsed_s,
            rpc_calls=self.rpc_calls,
            rpc_failures=self.rpc_failures,
            permit_state=self.permit_state,
            permit_epoch=self.permit_epoch,
            detail=self.detail,
        )
        self._measured_ns, self._cpu_s, self._handled = now, cpu, counts["handled"]
        return self.last

    def _drained(self) -> Iterator[int]:
        """Take the handler times that the bus has noted since the last message; it keeps the newest few thousand."""
        noted: deque[int] | None = getattr(self.counters, "latencies_ns", None)
        while noted:
            yield noted.popleft()

    def _settle(self) -> None:
        missing = [*self._missing.values(), *(f"{part}: {trouble}" for part, trouble in self.bus_problems.items())]
        # Several parts may miss the same thing, such as a full disk: once is enough.
        self.detail = "; ".join(dict.fromkeys(missing))
        if self.ready:
            self.state = WorkerState.DEGRADED if missing else WorkerState.READY


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def machine_memory() -> int:
    """Return the memory of the container, or of the machine where there is no limit, in bytes."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return total
    return min(limit, total)


def metrics_page(health: Health) -> tuple[bytes, str]:
    """Return the Prometheus page of a worker and its content type."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(health))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector:
    """Turn health into metrics when the page is asked for, so that counting costs nothing extra."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        health, labels = self._health, [self._health.worker]
        for name in (*COUNTERS, *_BUS_COUNTERS, "rpc_calls", "rpc_failures"):
            source: object = health if name.startswith("rpc") else health.counters
            metric = CounterMetricFamily(f"pipeline_{name}", _HELP[name], labels=["worker"])
            metric.add_metric(labels, getattr(source, name, 0))
            yield metric
        gauges = {
            "in_flight": getattr(health.counters, "in_flight", 0),
            "ready": int(health.ready),
            "state": int(health.state),
            "permit_state": int(health.permit_state),
            "permit_epoch": health.permit_epoch,
            "memory_bytes": resident_bytes(),
            "start_time_seconds": health.started_ns / 1e9,
        }
        for name, value in gauges.items():
            gauge = GaugeMetricFamily(f"pipeline_{name}", _HELP[name], labels=["worker"])
            gauge.add_metric(labels, value)
            yield gauge
        buckets = [(repr(edge), count) for edge, count in health.latency.cumulative()]
        histogram = HistogramMetricFamily(
            "pipeline_handler_seconds", "Time from the call of a handler to its end", labels=["worker"]
        )
        histogram.add_metric(labels, [*buckets, ("+Inf", health.latency.count)], health.latency.sum_ns / 1e9)
        yield histogram
        for collect in health.collectors:
            yield from collect()


# What the health message has no field for.
_BUS_COUNTERS = ("retried", "invalid", "dropped", "publish_retries", "publish_failed", "reconnects")
_HELP = {
    "retried": "Messages sent back to be delivered again",
    "invalid": "Messages that did not verify",
    "dropped": "Live messages dropped because too many handlers were running",
    "publish_retries": "Publishes sent again because no acknowledgement came",
    "publish_failed": "Publishes given up",
    "reconnects": "Connections to the NATS server opened again",
    "received": "Messages received",
    "handled": "Messages handled to the end",
    "failed": "Handler errors, retried ones included",
    "expired": "Messages dropped because they were past their deadline",
    "duplicates": "Messages dropped because their id was already handled",
    "dead_lettered": "Messages given up as dead letters",
    "published": "Messages published and acknowledged",
    "rpc_calls": "Calls to RPC endpoints",
    "rpc_failures": "Calls to RPC endpoints that failed",
    "in_flight": "Handlers running now",
    "ready": "1 while the worker does its work",
    "state": "Lifecycle: 0 starting, 1 connecting, 2 ready, 3 draining, 4 stopped, 5 degraded",
    "permit_state": "Permit as this worker sees it: 0 halted, 1 reducing, 2 active",
    "permit_epoch": "Epoch of that permit",
    "memory_bytes": "Resident memory",
    "start_time_seconds": "Start of the process since the Unix epoch",
}
