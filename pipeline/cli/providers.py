"""`pipeline providers`: how the external quote providers are doing, as the running quote core's metrics tell it."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import typer

from pipeline import run_files
from pipeline.cli import settings
from pipeline.cli.output import JsonOption, print_json, print_line, print_table
from pipeline.config import Config
from pipeline.errors import BadData, ExitCode, Unreachable

_WORKERS = ("quote_core", "quote_core-external")
_STATES = ("closed", "half open", "open")
_TIMEOUT_S = 2.0
_PREFIX = "pipeline_external_"
_KIB = 1024


@dataclass(slots=True)
class ProviderRow:
    """One provider."""

    provider: str
    state: str = ""
    uptime: float = 0.0
    reliability: float = 0.0
    latency_p50_ms: float = 0.0
    latency_p99_ms: float = 0.0
    tokens: int = 0
    requests: int = 0
    good: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    opened: int = 0
    bytes_received: int = 0


@dataclass(slots=True)
class Totals:
    """All providers together."""

    pairs: dict[str, int] = field(default_factory=dict)
    cache: dict[str, int] = field(default_factory=dict)
    saved_bytes: dict[str, int] = field(default_factory=dict)


def providers(json: JsonOption = False) -> None:
    """Show the external quote providers.

    Up is the share of time since the start with the breaker closed, good the share of good answers in five minutes,
    left what the rate limit allows now. Answers counts those that were used; the others stand under "not good" by
    reason. Read from the metrics of the quote core on this host.

    Exit code 1 while a breaker is not closed, 3 when no quote core runs here.
    """
    page = provider_page(settings.config())
    rows, totals = read_page(page)
    if json:
        print_json({"providers": [asdict(row) for row in rows], **asdict(totals)})
    elif not rows:
        print_line("no external provider is asked: see external.enabled")
    else:
        _print(rows, totals)
    if shut := [row.provider for row in rows if row.state != "closed"]:
        if not json:
            print_line(f"\nbreaker not closed: {', '.join(shut)}; they are asked again by themselves")
        raise typer.Exit(ExitCode.CHECK_FAILED)


def read_page(page: str) -> tuple[list[ProviderRow], Totals]:
    """Return what a page of metrics says about external providers.

    Raises:
        BadData: if it is no page of metrics.
    """
    from prometheus_client.parser import text_string_to_metric_families

    rows: dict[str, ProviderRow] = {}
    sums: dict[str, dict[str, int]] = defaultdict(dict)
    try:
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    except ValueError as error:
        raise BadData(f"no page of metrics: {error}") from None
    for sample in samples:
        name, labels, value = sample.name.removeprefix(_PREFIX), sample.labels, sample.value
        if not sample.name.startswith(_PREFIX):
            continue
        if "provider" in labels:
            _note(rows.setdefault(labels["provider"], ProviderRow(labels["provider"])), name, labels, value)
        elif name in ("pairs_total", "cache_total", "saved_bytes"):
            (label,) = labels.values()
            sums[name][label] = int(value)
    totals = Totals(sums["pairs_total"], sums["cache_total"], sums["saved_bytes"])
    return [rows[name] for name in sorted(rows)], totals


def _note(row: ProviderRow, name: str, labels: dict[str, str], value: float) -> None:
    match name:
        case "provider_state":
            row.state = _STATES[int(value)]
        case "provider_uptime_ratio":
            row.uptime = value
        case "provider_reliability_ratio":
            row.reliability = value
        case "provider_latency_p50_seconds":
            row.latency_p50_ms = value * 1000
        case "provider_latency_p99_seconds":
            row.latency_p99_ms = value * 1000
        case "provider_tokens":
            row.tokens = int(value)
        case "provider_requests_total":
            row.requests = int(value)
        case "provider_opened_total":
            row.opened = int(value)
        case "provider_bytes_total":
            row.bytes_received = int(value)
        case "answers_total" if labels["result"] == "good":
            row.good = int(value)
        case "answers_total":
            row.bad[labels["result"]] = int(value)


def provider_page(config: Config) -> str:
    """Return the page of metrics of the quote core that runs under a configuration.

    Raises:
        Unreachable: if none runs, or it does not answer.
    """
    for worker in _WORKERS:
        entry = run_files.read(config, worker)
        if entry is None or not entry.url:
            continue
        try:
            with urllib.request.urlopen(f"{entry.url}/metrics", timeout=_TIMEOUT_S) as answer:
                return str(answer.read().decode())
        except (OSError, ValueError) as error:
            raise Unreachable(f"{worker} does not show its metrics: {error}", "see its log") from None
    raise Unreachable("no quote core runs here", "start it with `pipeline up`")


def _print(rows: Iterable[ProviderRow], totals: Totals) -> None:
    columns = ["provider", "breaker", "up", "good", "p50 ms", "p99 ms", "left", "asked", "answers", "KiB", "not good"]
    table: list[tuple[Any, ...]] = [
        (
            *(row.provider, row.state + (f" ({row.opened}x)" if row.opened else "")),
            *(
                f"{row.uptime:.0%}",
                f"{row.reliability:.0%}",
                f"{row.latency_p50_ms:,.0f}",
                f"{row.latency_p99_ms:,.0f}",
            ),
            *(row.tokens, row.requests, row.good, f"{row.bytes_received / _KIB:,.0f}"),
            ", ".join(f"{why} {n}" for why, n in sorted(row.bad.items())),
        )
        for row in rows
    ]
    print_table("external providers", columns, table, right=columns[2:10])
    pairs, cache, saved = totals.pairs, totals.cache, totals.saved_bytes
    print_line(
        f"\npairs   {pairs.get('whole', 0)} whole of {pairs.get('asked', 0)} asked, {pairs.get('split', 0)} of them at "
        f"two providers; {pairs.get('retried', 0)} retried, {pairs.get('given_up', 0)} given up, "
        f"{pairs.get('too_far_apart', 0)} asked too far apart"
    )
    print_line(
        f"cache   {cache.get('hit', 0)} hits, {cache.get('price', 0)} prices along a known route, "
        f"{cache.get('route', 0)} whole; bytes saved: {saved.get('hit', 0):,} by hits, "
        f"{saved.get('price', 0):,} by prices"
    )
