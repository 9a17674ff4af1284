"""Benchmarks, run by `pipeline bench NAME`."""
