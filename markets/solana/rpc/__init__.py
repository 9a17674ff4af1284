"""Solana JSON-RPC over several endpoints: calls that fail over, and websocket subscriptions that come back."""
