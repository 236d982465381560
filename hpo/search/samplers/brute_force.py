"""Exhaustive search of a finite space."""

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import ClassVar, Literal

import numpy as np

from hpo.search.samplers.base import PlannedSampler
from hpo.values.space import Cell, Point, SearchSpace, cell, draw_below
from hpo.values.wording import listed


class BruteForceSampler(PlannedSampler):
    """Optuna's BruteForceSampler: all points of a finite space, each once, in an order drawn from the seed.
    The search ends with the last point, or after `search.trials` points. A range of real numbers needs a
    `step`.
    """

    is_sequence = True
    refused: ClassVar[Mapping[str, str]] = {
        "seed": "the order comes from the seed of the study",
        "avoid_premature_stop": "a search never ends before all of its points have been tried",
    }

    name: Literal["BruteForceSampler"] = "BruteForceSampler"

    def initial(self, space: SearchSpace, count: int, seed: int, taken: Collection[Cell] = ()) -> list[Point]:
        assert space.cells is not None, "the space has been checked, see `mistakes`"
        taken = set(taken)
        points = map(space.point_at, _shuffled(space.cells, np.random.default_rng(seed)))
        return list(islice((point for point in points if cell(point) not in taken), count))

    def mistakes(self, space: SearchSpace) -> dict[str, str]:
        if space.cells is not None:
            return {}
        endless = [repr(name) for name, domain in space.domains.items() if domain.size is None]
        if endless:
            names = listed(endless, "and")
            return {"name": f"takes a finite space; give {names} a step or a list of values"}
        return {"name": "takes a space whose points can be counted, and this one has too many combinations"}


def _shuffled(size: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield the numbers below `size` in random order, without a list of them (Fisher and Yates)."""
    moved: dict[int, int] = {}
    for place in range(size):
        other = place + draw_below(size - place, rng)
        yield moved.get(other, other)
        moved[other] = moved.pop(place, place)
