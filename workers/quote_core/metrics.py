"""The quote core's page of Prometheus metrics: made when it is asked for, from figures that are counted anyway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

if TYPE_CHECKING:
    from workers.quote_core.worker import QuoteCore

AGE_EDGES_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class QuoteMetrics:
    """Reads the parts of a quote core."""

    def __init__(self, core: QuoteCore) -> None:
        """Remember whom to ask."""
        self._core = core

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the parts that run here."""
        aggregator = self._core.aggregator
        if aggregator is None:
            return
        counts, book = aggregator.counts, aggregator.book
        now_ns = aggregator.now_ns()
        ages = [max(0.0, (now_ns - known.confirmed_ns) / 1e9) for known in book.pools.values()]
        yield _histogram("pipeline_quote_age_seconds", "Age of the pool states behind the quotes, now", ages)
        bands = CounterMetricFamily(
            "pipeline_quote_bands", "Quotes written, by what their confidence allows", labels=["band"]
        )
        for band, count in sorted(counts.bands.items()):
            bands.add_metric([band], count)
        yield bands
        factors = HistogramMetricFamily(
            "pipeline_quote_factor", "Factors of the confidence of quotes written", labels=["factor"]
        )
        for name in sorted({factor for factor, _tenth in counts.factors}):
            seen = [counts.factors.get((name, tenth), 0) for tenth in range(10)]
            buckets = [(repr((tenth + 1) / 10), float(sum(seen[: tenth + 1]))) for tenth in range(10)]
            total = sum(seen)
            factors.add_metric([name], [*buckets, ("+Inf", total)], None)
        yield factors
        yield _gauge("pipeline_quote_pools", "Pools quoted now", len(book.pools))
        yield _gauge("pipeline_quote_pools_refused", "Pools that cannot be quoted now", len(self._core.teller.refused))
        yield _counter("pipeline_quote_settled", "Slots made visible", counts.settled)
        yield _counter("pipeline_quote_rerated", "Times that every quote was rated again", counts.rerated)
        yield _counter("pipeline_quote_external", "External quotes taken over", counts.external)
        yield _counter("pipeline_quote_external_refused", "External quotes refused", counts.external_refused)
        refused = CounterMetricFamily("pipeline_oracle_refused", "Oracle prices refused, by reason", labels=["reason"])
        for reason, count in sorted(counts.oracle_refused.items()):
            refused.add_metric([reason], count)
        yield refused


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=value)


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(name, what, value=value)


def _histogram(name: str, what: str, values: list[float]) -> Metric:
    buckets = [(repr(edge), float(sum(value <= edge for value in values))) for edge in AGE_EDGES_S]
    return HistogramMetricFamily(name, what, buckets=[*buckets, ("+Inf", len(values))], sum_value=sum(values))
