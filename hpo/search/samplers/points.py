"""Draw points of a space without repeating a cell."""

from collections.abc import Callable, Collection

import numpy as np

from hpo.values.space import Cell, Point, SearchSpace, cell

MAX_REPEATS = 20
"""Draws of a point that may repeat a cell; after that a random new cell is taken."""


def plan(
    space: SearchSpace,
    count: int,
    seed: int,
    taken: Collection[Cell] = (),
    draw: Callable[[np.random.Generator], Point] | None = None,
) -> list[Point]:
    """Return the first `count` points of random search.

    No cell repeats, and cells in `taken` are left out; the plan ends early when a finite space has no cell
    left. `draw` replaces the uniform draw over the space. Points are drawn one after another, so a longer
    plan begins with the shorter one and the plan does not depend on the number of workers.
    """
    rng = np.random.default_rng(seed)
    draw = draw or space.draw
    return new_points(space, count, set(taken), rng, lambda: draw(rng))


def new_points(
    space: SearchSpace, count: int, taken: set[Cell], rng: np.random.Generator, draw: Callable[[], Point]
) -> list[Point]:
    """Return up to `count` points from `draw`, none of them in a cell of `taken`; adds their cells to
    `taken`."""
    points: list[Point] = []
    while len(points) < count and (space.cells is None or len(taken) < space.cells):
        point = _new_point(space, taken, rng, draw)
        taken.add(cell(point))
        points.append(point)
    return points


def _new_point(
    space: SearchSpace, taken: set[Cell], rng: np.random.Generator, draw: Callable[[], Point]
) -> Point:
    for _ in range(MAX_REPEATS):
        point = draw()
        if cell(point) not in taken:
            return point
    return _random_new_point(space, taken, rng)


def _random_new_point(space: SearchSpace, taken: set[Cell], rng: np.random.Generator) -> Point:
    """Return a random new point. An infinite space may have a finite part where some parameters do not apply,
    but a draw leaves that part with a positive probability."""
    cells = space.cells
    while True:
        point = space.draw(rng) if cells is None else space.point_at(int(rng.integers(cells)))
        if cell(point) not in taken:
            return point
