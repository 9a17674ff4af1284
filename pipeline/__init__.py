"""Shared runtime of every worker: streams, bus, messages, permit, lifecycle, configuration, telemetry, CLI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.shm import QuoteTable

__all__ = ["QuoteTable"]


def __getattr__(name: str) -> Any:
    """Load the quote table's reader when it is first asked for: most commands start without the native core."""
    if name == "QuoteTable":
        from pipeline.shm import QuoteTable

        return QuoteTable
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
