"""Venues: tokens, pools, books, exchanges. Knows venues, knows no NATS."""
