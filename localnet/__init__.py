"""The offline world: a seeded market."""
