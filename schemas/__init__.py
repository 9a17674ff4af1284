"""The contract between workers, and the generator that turns it into code."""
