"""The external part's Prometheus metrics, made when the page is asked for. `pipeline providers` reads them too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from markets.limits import BreakerState
from markets.providers.choose import Pair
from markets.providers.desk import Desk
from markets.providers.schedule import Schedule
from markets.providers.state import ProviderState

STATES = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class ExternalMetrics:
    """Reads the desk and the schedule."""

    def __init__(self, desk: Desk, schedule: Schedule, names: Mapping[Pair, str]) -> None:
        """Remember whom to ask."""
        self._desk = desk
        self._schedule = schedule
        self._names = names

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield from _of_providers(self._desk.states)
        yield from self._of_pairs()
        yield from self._of_cache()

    def _of_pairs(self) -> Iterator[Metric]:
        counts = self._desk.counts
        pairs = CounterMetricFamily(
            "pipeline_external_pairs",
            "Pairs asked for, both directions at once, by what became of them",
            labels=["outcome"],
        )
        for outcome in ("asked", "whole", "split", "too_far_apart", "retried", "given_up"):
            pairs.add_metric([outcome], getattr(counts, outcome))
        yield pairs
        ages = GaugeMetricFamily(
            "pipeline_external_pair_age_seconds",
            "Age of the newest external quote of a pair",
            labels=["pair", "amount"],
        )
        for pair, name in self._names.items():
            age_s = self._schedule.age_s(pair)
            if age_s is not None:
                ages.add_metric([name, str(pair.forward.amount_in)], age_s)
        yield ages

    def _of_cache(self) -> Iterator[Metric]:
        saved = self._desk.cache.saved
        asked = CounterMetricFamily(
            "pipeline_external_cache",
            "Questions answered from the cache (hit), asked for the price only (price) and asked whole (route)",
            labels=["want"],
        )
        for want, count in (("hit", saved.hits), ("price", saved.prices), ("route", saved.routes)):
            asked.add_metric([want], count)
        yield asked
        # Gauges: answers to price-only questions may be larger than whole ones.
        by = GaugeMetricFamily(
            "pipeline_external_saved_bytes",
            "Bytes that were not received, by hits and by price-only questions",
            labels=["by"],
        )
        by.add_metric(["hit"], saved.bytes_by_hits)
        by.add_metric(["price"], saved.bytes_by_prices)
        yield by


def _of_providers(states: Iterable[ProviderState]) -> Iterator[Metric]:
    states = list(states)
    gauges: list[tuple[str, str, Callable[[ProviderState], float]]] = [
        ("state", "Circuit breaker: 0 closed, 1 half open, 2 open", lambda state: STATES[state.breaker.state]),
        ("uptime_ratio", "Share of the time since the start with the breaker closed", lambda state: state.uptime),
        ("reliability_ratio", "Share of good answers in the last five minutes", lambda state: state.reliability),
        ("tokens", "Requests that the rate limit allows now", lambda state: state.tokens),
        (
            "latency_p50_seconds",
            "Median time of good answers in five minutes",
            lambda state: state.latency_ms(0.5) / 1e3,
        ),
        (
            "latency_p99_seconds",
            "99 % of good answers take less, in five minutes",
            lambda state: state.latency_ms(0.99) / 1e3,
        ),
    ]
    for name, what, value in gauges:
        gauge = GaugeMetricFamily(f"pipeline_external_provider_{name}", what, labels=["provider"])
        for state in states:
            gauge.add_metric([state.name], value(state))
        yield gauge
    counters: list[tuple[str, str, Callable[[ProviderState], float]]] = [
        ("requests", "Requests", lambda state: state.asked),
        ("opened", "Times that the circuit breaker opened", lambda state: state.breaker.opened),
        ("bytes", "Bytes of bodies received, as they came", lambda state: state.bytes_received),
    ]
    for name, what, value in counters:
        counter = CounterMetricFamily(f"pipeline_external_provider_{name}", what, labels=["provider"])
        for state in states:
            counter.add_metric([state.name], value(state))
        yield counter
    answers = CounterMetricFamily(
        "pipeline_external_answers", "Answers, good ones and others by reason", labels=["provider", "result"]
    )
    for state in states:
        answers.add_metric([state.name, "good"], state.good)
        for reason, count in sorted(state.bad.items()):
            answers.add_metric([state.name, str(reason)], count)
    yield answers
