"""The demonstration: the whole pipeline on one machine, watched, stopped and checked."""
