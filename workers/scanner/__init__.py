"""The scanner: waits for changed quotes, searches cycles, publishes opportunities."""
