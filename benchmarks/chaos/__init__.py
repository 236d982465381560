"""Faults, drawn from a seed, thrown at a study that runs; see `__main__`."""
