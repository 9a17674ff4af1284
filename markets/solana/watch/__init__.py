"""Keeping pool states fresh over RPC: what is read when, and what one read makes of a pool. Pure but for `watcher`."""
