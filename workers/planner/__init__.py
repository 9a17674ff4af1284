"""Planner: decides, and answers every opportunity with exactly one plan or refusal."""
