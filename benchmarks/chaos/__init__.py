"""Faults, drawn from a seed, against a running study. `python -m benchmarks.chaos` runs it."""
