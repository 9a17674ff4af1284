"""The quote core: pool states in, quotes in shared memory out."""
