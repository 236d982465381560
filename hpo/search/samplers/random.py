"""Random search."""

from collections.abc import Collection, Iterable

from hpo.search.samplers.base import Observation, Sampler
from hpo.search.samplers.points import plan
from hpo.values.space import Cell, Point, SearchSpace


class RandomSampler(Sampler):
    """Draw all points of the search in advance, from its seed."""

    plans_all = True

    def initial(self, space: SearchSpace, count: int, seed: int, taken: Collection[Cell] = ()) -> list[Point]:
        return plan(space, count, seed, taken)

    def suggest(
        self, _space: SearchSpace, _history: Iterable[Observation], _count: int, _seed: int, _startup: int
    ) -> list[Point]:
        return []
