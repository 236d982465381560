"""Seeds derived from seeds: one purpose for each source of randomness."""

from enum import Enum

import numpy as np


class Purpose(Enum):
    """What a derived seed is for.

    A value is the level that the seed is derived at, and a number that tells purposes of one level apart.
    Stored studies depend on these values, so a value never changes.
    """

    # From the seed of a study.
    SEARCH_WEIGHTS = "study", 0
    """Initial weights and dropout of a search trial, by its number."""
    FULL_WEIGHTS = "study", 1
    """Initial weights and dropout of a full training, by its index among the seeds of the promoted trial."""
    SUGGESTION = "study", 2
    """New points of the sampler, by the number of the first trial."""
    TRAINING = "study", 3
    """The order of images and their augmentation in all trials of the study."""
    FORK_PLAN = "study", 4
    """The initial points of a fork, by the number of inherited trials."""
    TABLE_TRAINING = "study", 5
    """The order of images in a table of learning curves, by the seed of the run."""
    TABLE_WEIGHTS = "study", 6
    """Initial weights in a table of learning curves, by the seed of the run and the number of the cell."""

    # From the seed of a study's training, by phase and epoch.
    EPOCH_ORDER = "epoch", 0
    EPOCH_AUGMENTATION = "epoch", 1
    EPOCH_GENERATORS = "epoch", 2
    """torch's global generators, for networks that draw from them directly."""

    # From the seed of a trial.
    DROPOUT = "trial", 0
    """Dropout masks, by phase and epoch; without either before the first epoch."""

    def derive(self, seed: int, *indices: int) -> int:
        """Return a 32-bit seed; other purposes and other `indices` give independent seeds."""
        level, number = self.value
        key = {"study": (number, *indices), "epoch": (*indices, number), "trial": indices}[level]
        return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1)[0])
