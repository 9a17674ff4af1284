"""Shared runtime of every worker: streams, bus, messages, permit, lifecycle, configuration, telemetry, CLI."""
