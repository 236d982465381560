"""Random search."""

from collections.abc import Collection
from typing import Literal

from hpo.search.samplers.base import PlannedSampler
from hpo.search.samplers.points import plan
from hpo.values.space import Cell, Point, SearchSpace


class RandomSampler(PlannedSampler):
    """A random plan without repeats, drawn from the seed when the study is created."""

    name: Literal["random"] = "random"

    def initial(self, space: SearchSpace, count: int, seed: int, taken: Collection[Cell] = ()) -> list[Point]:
        return plan(space, count, seed, taken)
