"""Random search."""

from typing import Literal

from hpo.search.samplers.base import PlannedSampler


class RandomSampler(PlannedSampler):
    """A random plan without repeats, drawn from the seed when the study is created."""

    name: Literal["random"] = "random"
