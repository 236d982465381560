"""Random search."""

from collections.abc import Collection, Iterable
from typing import Literal

from pydantic import Field

from hpo.search.samplers.base import Observation, Sampler
from hpo.search.samplers.points import plan
from hpo.values.space import Cell, Point, SearchSpace


class RandomSampler(Sampler):
    """A random plan without repeats, drawn from the seed when the study is created."""

    plans_all = True

    name: Literal["random"] = "random"
    startup: int = Field(
        default=10,
        ge=1,
        description="Only with the pruner `pause`: no trial resumes before this many trials have trained an "
        "epoch or ended.",
    )

    def initial(self, space: SearchSpace, count: int, seed: int, taken: Collection[Cell] = ()) -> list[Point]:
        return plan(space, count, seed, taken)

    def suggest(
        self, _space: SearchSpace, _history: Iterable[Observation], _count: int, _seed: int
    ) -> list[Point]:
        return []
