"""Wallets: keys, where they come from, and the lanes they trade in."""
