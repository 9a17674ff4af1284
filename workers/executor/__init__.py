"""Executor: claims each plan, checks the gate, executes it once, and publishes exactly one result."""
