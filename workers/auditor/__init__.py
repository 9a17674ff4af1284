"""Auditor: books every execution once, and says what it came to."""
