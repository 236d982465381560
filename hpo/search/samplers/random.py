"""Random search: a plan of points that follows from the seed."""

from collections.abc import Callable, Collection

import numpy as np

from hpo.search import effective_lr
from hpo.search.samplers.base import new_points
from hpo.values.space import Cell, Point, SearchSpace


def plan(
    space: SearchSpace,
    count: int,
    seed: int,
    taken: Collection[Cell] = (),
    draw: Callable[[np.random.Generator], Point] | None = None,
) -> list[Point]:
    """The first `count` points of random search; in a finite space without repeats, also of what is `taken`.

    `draw`: where they come from, the whole space unless it is said. One point is drawn after another, so a
    longer plan begins with the shorter one, and the plan does not depend on how many workers carry it out. A
    finite space ends the plan when it has no cell left.
    """
    rng = np.random.default_rng(seed)
    source = draw or space.draw
    return new_points(space, count, set(taken), rng, lambda: source(rng))


def first_points(
    space: SearchSpace, sampler: str, count: int, seed: int, taken: Collection[Cell] = ()
) -> list[Point]:
    """The plan of what a sampler of that name begins with."""
    return plan(space, count, seed, taken, effective_lr.typical(space) if sampler == "gp" else None)
