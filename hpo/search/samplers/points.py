"""Draw points of a space without repeating a cell."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from hpo.values.space import MAX_DRAWS, Cell, Point, SearchSpace, cell

MAX_REPEATS = 20
"""Draws of a point that may repeat a cell or break a constraint; after that a random new cell is taken."""


def plan(
    space: SearchSpace,
    count: int,
    seed: int,
    taken: Collection[Cell] = (),
    draw: Callable[[np.random.Generator], Point] | None = None,
) -> list[Point]:
    """Return the first `count` points of random search.

    No cell repeats, and cells in `taken` are left out; the plan ends early when a finite space has no cell
    left. Where `MAX_DRAWS` draws find no new cell of a space that is not counted, cells repeat. `draw`
    replaces the uniform draw over the space. Points are drawn one after another, so a longer plan begins with
    the shorter one and the plan does not depend on the number of workers.
    """
    rng = np.random.default_rng(seed)
    draw = draw or space.draw
    return new_points(space, count, set(taken), Source(lambda: draw(rng), rng))


@dataclass(frozen=True, slots=True)
class Source:
    """Where new points come from: `draw`, which gets `repeats` tries for each, and then random cells."""

    draw: Callable[[], Point]
    rng: np.random.Generator
    repeats: int = MAX_REPEATS


def new_points(space: SearchSpace, count: int, taken: set[Cell], source: Source) -> list[Point]:
    """Return up to `count` points, none of them in a cell of `taken`; add their cells to `taken`.

    In a space that is not counted cells repeat once no new one is found.
    """
    points: list[Point] = []
    is_exhausted = False
    while len(points) < count and (space.cells is None or len(taken) < space.cells):
        point = space.draw(source.rng) if is_exhausted else _new_point(space, taken, source)
        is_exhausted |= space.cells is None and cell(point) in taken
        taken.add(cell(point))
        points.append(point)
    return points


def _new_point(space: SearchSpace, taken: set[Cell], source: Source) -> Point:
    """Return a new point; in a space that is not counted any point if no new one is found."""
    rng = source.rng
    for _ in range(source.repeats):
        point = source.draw()
        if cell(point) not in taken and space.is_feasible(point):
            return point
    if space.cells is not None:
        while cell(point := space.draw_cell(rng)) in taken:
            pass
        return point
    # An infinite space may have a finite part where some parameters do not apply, but a draw leaves that part
    # with a positive probability, unless constraints leave nothing else.
    for _ in range(MAX_DRAWS):
        new = space.draw_once(rng)
        if new is not None and cell(new) not in taken:
            return new
    return space.draw(rng)
