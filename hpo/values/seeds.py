"""Seeds derived from seeds."""

import numpy as np


def derive_seed(seed: int, *parts: int) -> int:
    """Return a 32-bit seed that depends on `seed` and `parts`; different parts give independent seeds."""
    return int(np.random.SeedSequence(seed, spawn_key=parts).generate_state(1)[0])
