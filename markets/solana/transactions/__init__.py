"""Transactions: what is put into one, what it costs, and what it did. Pure."""
