"""The serving parts of the quote core, and their page of metrics."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from markets.tokens import Registry
from pipeline.context import WorkerContext
from workers.quote_core.aggregator import Aggregator, Changed
from workers.quote_core.desk import Desk, DeskTerms
from workers.quote_core.route_store import RouteStore
from workers.quote_core.served.clerk import Clerk
from workers.quote_core.served.subscriptions import Hub

MS = 1_000_000


class Served:
    """Desk, subscriptions and the ways to them."""

    def __init__(
        self,
        context: WorkerContext,
        aggregator: Callable[[], Aggregator | None],
        registry: Registry,
        routes: RouteStore | None,
    ) -> None:
        """Prepare what the configuration asks for; append `on_changed` to the aggregator's listeners."""
        settings = context.config.serve
        terms = DeskTerms(settings.local_ms * MS, settings.external_ms * MS, settings.remember_ms * MS)
        self.context = context
        self.desk = Desk(aggregator, registry, routes, terms=terms)
        self.clerk = Clerk(
            self.desk, context.name, context.clock, max_pairs=settings.max_pairs, max_waiting=settings.max_waiting
        )
        self.hub = Hub(settings.max_subscriptions)
        context.health.collectors.append(self.collect)

    def parts(self) -> Mapping[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return what serves, by name; each runs, fails and is started again for itself."""
        found: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        settings = self.context.config.serve
        if settings.nats:
            from workers.quote_core.served.nats_api import NatsServices

            found["serve-nats"] = NatsServices(self.context, self.clerk, self.hub).run
        if settings.grpc:
            # Loaded where it is used: it takes a quarter of a second.
            from workers.quote_core.served.grpc_api import GrpcServer

            found["serve-grpc"] = GrpcServer(self.context, self.clerk, self.hub).run
        return found

    def on_changed(self, changed: Changed) -> None:
        """Pass on what a commit changed."""
        self.desk.on_changed(changed)
        self.hub.on_changed(changed)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of serving."""
        desk, hub = self.desk.figures, self.hub
        cache = CounterMetricFamily(
            "pipeline_quote_answers", "Answers asked of the desk, by what its memory held", labels=["memory"]
        )
        fresh = desk.misses - desk.expired - desk.dropped
        for name, value in (("hit", desk.hits), ("new", fresh), ("expired", desk.expired), ("changed", desk.dropped)):
            cache.add_metric([name], value)
        yield cache
        timeouts = CounterMetricFamily(
            "pipeline_quote_answer_timeouts", "Answers that left somebody out, by whom", labels=["source"]
        )
        timeouts.add_metric(["local"], desk.local_timeouts)
        timeouts.add_metric(["external"], desk.external_timeouts)
        yield timeouts
        yield CounterMetricFamily("pipeline_quote_requests", "Requests of clients", value=self.clerk.figures.requests)
        problems = CounterMetricFamily(
            "pipeline_quote_request_problems", "Requests that were answered with a problem", labels=["problem"]
        )
        for name, count in sorted(self.clerk.figures.problems.items()):
            problems.add_metric([name], count)
        yield problems
        yield GaugeMetricFamily("pipeline_quote_subscriptions", "Subscriptions now", value=len(hub.subscriptions))
        yield CounterMetricFamily("pipeline_quote_subscription_messages", "Messages told to them", value=hub.told)
        yield CounterMetricFamily(
            "pipeline_quote_subscription_conflated", "Changes replaced by newer ones before told", value=hub.conflated
        )
        ended = CounterMetricFamily("pipeline_quote_subscriptions_ended", "Subscriptions that ended", labels=["why"])
        for name, count in sorted({**hub.ended, "refused": hub.refused}.items()):
            ended.add_metric([name], count)
        yield ended
