"""One folder per worker."""
