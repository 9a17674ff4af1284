"""Solana: pools, snapshots."""
