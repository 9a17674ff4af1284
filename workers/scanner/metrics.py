"""The scanner's Prometheus metrics: made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.messages import ConfidenceBand
from workers.scanner.shared import SharedQuotes


def scanner_metrics(
    bands: Mapping[ConfidenceBand, int], left_out: int, unsized: int, laps: int, shared: SharedQuotes | None
) -> Iterator[Metric]:
    """Yield what was found, what was left out, and whether the quotes are alive."""
    cycles = CounterMetricFamily(
        "pipeline_scanner_cycles", "Cycles found that pay, by what their confidence allows", labels=["band"]
    )
    for band, count in bands.items():
        cycles.add_metric([band.name.lower()], count)
    yield cycles
    yield CounterMetricFamily("pipeline_scanner_left_out", "Cycles over the limit of one slot", value=left_out)
    yield CounterMetricFamily(
        "pipeline_scanner_unsized", "Promising cycles that one search had no time to size", value=unsized
    )
    yield CounterMetricFamily("pipeline_scanner_laps", "Times that the change ring lapped the scanner", value=laps)
    alive = shared is not None and shared.alive
    yield GaugeMetricFamily("pipeline_scanner_quotes_alive", "1 while the quote core shows signs of life", value=alive)
    if shared is None:
        return
    table, blobs = shared.table, shared.blobs
    yield CounterMetricFamily(
        "pipeline_shm_read_retries",
        "Reads begun again because a write went on meanwhile",
        value=table.retries + blobs.retries,
    )
    yield CounterMetricFamily(
        "pipeline_shm_reads_given_up",
        "Reads that found no whole entry within their tries",
        value=table.busy + blobs.busy,
    )
    yield GaugeMetricFamily("pipeline_shm_ring_slots", "Changes that the ring holds", value=table.ring)
    yield GaugeMetricFamily(
        "pipeline_shm_ring_used",
        "Most changes that this reader was behind since the last look",
        value=shared.take_behind(),
    )
