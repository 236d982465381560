"""Seeds from seeds."""

import numpy as np


def mixed(seed: int, *parts: int) -> int:
    """A seed of 32 bits that follows from `seed` and `parts` and has nothing in common with other parts'."""
    return int(np.random.SeedSequence(seed, spawn_key=parts).generate_state(1)[0])
