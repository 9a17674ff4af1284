"""Traces: one opportunity's whole way is one trace, and its trace id is its correlation id.

The context travels in NATS headers (W3C `traceparent`). `start` returns None where no endpoint is configured, and then
nothing of OpenTelemetry is imported and no header is written: what is off costs one comparison.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import Any, Protocol

from pipeline.sections import TelemetrySection

TRACEPARENT = "traceparent"
_TRACE_ID = re.compile(r"[0-9a-f]{32}")


class Delivered(Protocol):
    """What of a delivery a trace needs."""

    subject: str
    attempt: int

    @property
    def traceparent(self) -> str:
        """Return the W3C trace context, or an empty string."""


class Tracing(Protocol):
    """What the bus calls when traces are on."""

    def traceparent(self, message: object) -> str:
        """Return the present span's context for a message about to be published; open the trace where there is none."""

    def handling(self, message: object, delivery: Delivered) -> AbstractContextManager[object]:
        """Hold the span of handling one message, child of the span in its headers."""

    def close(self) -> None:
        """Export what is left."""


def start(section: TelemetrySection, worker: str) -> Tracing | None:
    """Start exporting traces of a worker, or return None where no endpoint is configured."""
    if not section.otlp_endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    endpoint = section.otlp_endpoint.rstrip("/")
    if not endpoint.endswith("/v1/traces"):
        endpoint += "/v1/traces"
    return with_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)), worker, section.trace_sample_ratio)


def with_processor(processor: Any, worker: str, sample_ratio: float = 1.0) -> Tracing:
    """Trace into a span processor of the SDK."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    class CorrelationIds(RandomIdGenerator):
        """Give the trace that is about to be opened the correlation id of its message."""

        next_trace_id = 0

        def generate_trace_id(self) -> int:
            given, self.next_trace_id = self.next_trace_id, 0
            return given or super().generate_trace_id()

    class SdkTracing:
        """Traces through the OpenTelemetry SDK."""

        def __init__(self) -> None:
            self._ids = CorrelationIds()
            self._provider = TracerProvider(
                resource=Resource.create({"service.name": f"pipeline-{worker}", "service.namespace": "pipeline"}),
                sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
                id_generator=self._ids,
                shutdown_on_exit=False,
            )
            self._provider.add_span_processor(processor)
            self._tracer = self._provider.get_tracer("pipeline")
            self._propagator = TraceContextTextMapPropagator()

        def traceparent(self, message: object) -> str:
            if trace.get_current_span().get_span_context().is_valid:
                return self._present()
            correlation = str(getattr(message, "correlation_id", ""))
            self._ids.next_trace_id = int(correlation, 16) if _TRACE_ID.fullmatch(correlation) else 0
            with self._tracer.start_as_current_span(
                f"{worker} publishes {type(message).__name__}", kind=SpanKind.PRODUCER, attributes=_attributes(message)
            ):
                return self._present()

        def handling(self, message: object, delivery: Delivered) -> AbstractContextManager[object]:
            return self._tracer.start_as_current_span(
                f"{worker} {delivery.subject}",
                context=self._propagator.extract({TRACEPARENT: delivery.traceparent}),
                kind=SpanKind.CONSUMER,
                attributes={
                    **_attributes(message),
                    "messaging.destination.name": delivery.subject,
                    "pipeline.attempt": delivery.attempt,
                },
            )

        def _present(self) -> str:
            carried: dict[str, str] = {}
            self._propagator.inject(carried)
            return carried.get(TRACEPARENT, "")

        def close(self) -> None:
            self._provider.shutdown()

    return SdkTracing()


def _attributes(message: object) -> dict[str, str | int]:
    return {
        "messaging.system": "nats",
        "messaging.message.id": str(getattr(message, "id", "")),
        "messaging.message.conversation_id": str(getattr(message, "correlation_id", "")),
        "pipeline.message": type(message).__name__,
    }
