"""A run on the offline chain with everything going wrong that can, by a seed, and what must hold all the same."""
