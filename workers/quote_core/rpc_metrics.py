"""The RPC source's Prometheus metrics, made when the page is asked for. Endpoints are named by their hosts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

if TYPE_CHECKING:
    from workers.quote_core.rpc_source import RpcSource

REFRESH_EDGES_S = (0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0, 60.0)
STATES = ("ready", "limited", "lagging", "half_open", "open", "other_chain")


class RpcMetrics:
    """Reads the source; counts refresh intervals between two looks."""

    def __init__(self, source: RpcSource) -> None:
        """Remember whom to ask."""
        self._source = source
        self._refresh = [0] * (len(REFRESH_EDGES_S) + 1)
        self._refresh_sum = 0.0

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield from self._endpoints()
        yield from self._reads()
        yield from self._sockets()

    def _endpoints(self) -> Iterator[Metric]:
        rpc = self._source.rpc
        if rpc is None:
            return
        figures = rpc.endpoint_figures()
        state = GaugeMetricFamily(
            "pipeline_rpc_endpoint_state", "1 for the state an endpoint is in", labels=["endpoint", "state"]
        )
        for one in figures:
            for name in STATES:
                state.add_metric([one.host, name], float(one.state == name))
        yield state
        counters = {
            "calls": "Calls to an endpoint",
            "failures": "Calls to an endpoint that failed",
            "rate_limited": "Calls that an endpoint refused for their rate",
            "opened": "Times that an endpoint was left alone because it failed",
        }
        for name, what in counters.items():
            counter = CounterMetricFamily(f"pipeline_rpc_endpoint_{name}", what, labels=["endpoint"])
            for one in figures:
                counter.add_metric([one.host], getattr(one, name))
            yield counter
        latency = GaugeMetricFamily(
            "pipeline_rpc_endpoint_latency_seconds",
            "Duration of the last calls: moving average and quantiles",
            labels=["endpoint", "quantile"],
        )
        for one in figures:
            for quantile, ms in (("mean", one.latency_ms), ("0.5", one.latency_p50_ms), ("0.99", one.latency_p99_ms)):
                latency.add_metric([one.host, quantile], ms / 1000)
        yield latency
        for name, what in (("slot", "Newest slot of an endpoint"), ("lag", "Slots it is behind the best endpoint")):
            gauge = GaugeMetricFamily(f"pipeline_rpc_endpoint_{name}", what, labels=["endpoint"])
            for one in figures:
                gauge.add_metric([one.host], getattr(one, name))
            yield gauge
        pool = rpc.figures
        for name, value, what in (
            ("hedged", pool.hedged, "Calls for which a second endpoint was asked"),
            ("hedges_won", pool.hedges_won, "Calls that the second endpoint answered first"),
            ("failovers", pool.failovers, "Calls repeated at another endpoint"),
            ("unanswered", pool.unanswered, "Calls that nobody answered"),
        ):
            yield CounterMetricFamily(f"pipeline_rpc_{name}", what, value=value)

    def _reads(self) -> Iterator[Metric]:
        watcher, schedule = self._source.watcher, self._source.schedule
        if watcher is None or schedule is None:
            return
        for seconds in schedule.figures.refresh_s:
            place = next((at for at, edge in enumerate(REFRESH_EDGES_S) if seconds <= edge), len(REFRESH_EDGES_S))
            self._refresh[place] += 1
            self._refresh_sum += seconds
        schedule.figures.refresh_s.clear()
        buckets, total = [], 0
        for edge, count in zip((*map(repr, REFRESH_EDGES_S), "+Inf"), self._refresh, strict=True):
            total += count
            buckets.append((edge, float(total)))
        yield HistogramMetricFamily(
            "pipeline_pool_refresh_seconds",
            "Time between two reads of a pool",
            buckets=buckets,
            sum_value=self._refresh_sum,
        )
        figures = watcher.figures
        for name, value, what in (
            ("changed", figures.changed, "Reads that found another state"),
            ("confirmed", figures.confirmed, "Reads that found the state as it was"),
            ("older", figures.older, "Reads of an older slot than was known, which changed nothing"),
            ("moved", figures.moved, "Reads repeated because the price had moved on to other accounts"),
            ("failed", schedule.figures.failures, "Reads of pools that failed"),
            ("urgent", schedule.figures.urgent, "Reads that somebody waited for"),
            ("notified", figures.notified, "Notifications that told of a change"),
            ("unannounced", figures.unannounced, "Changes that no notification told"),
        ):
            yield CounterMetricFamily(f"pipeline_pool_reads_{name}", what, value=value)
        yield GaugeMetricFamily("pipeline_pools_followed", "Pools kept fresh", value=len(schedule))
        yield GaugeMetricFamily("pipeline_pools_stale", "Pools not confirmed for too long", value=figures.stale)

    def _sockets(self) -> Iterator[Metric]:
        for name, what in (
            ("subscribed", "Accounts that a websocket is subscribed to"),
            ("wanted", "Accounts that it should be subscribed to"),
        ):
            gauge = GaugeMetricFamily(f"pipeline_rpc_socket_{name}", what, labels=["socket"])
            for number, socket in enumerate(self._source.sockets):
                gauge.add_metric([str(number)], getattr(socket.figures, name))
            yield gauge
        for name, what in (
            ("connections", "Connections opened"),
            ("failures", "Connections that broke or said nothing"),
            ("notifications", "Notifications of accounts"),
            ("conflated", "Notifications that a newer one replaced before they were read"),
        ):
            counter = CounterMetricFamily(f"pipeline_rpc_socket_{name}", what, labels=["socket"])
            for number, socket in enumerate(self._source.sockets):
                counter.add_metric([str(number)], getattr(socket.figures, name))
            yield counter
