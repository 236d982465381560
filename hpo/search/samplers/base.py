"""What all samplers share: observations, Optuna's distributions of a space, and points without repeats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hpo.values.space import Cell, Choices, Domain, Point, SearchSpace, cell

optuna.logging.set_verbosity(optuna.logging.WARNING)

ATTEMPTS_AT_A_NEW_CELL = 20
"""How often a source of points is asked again when it repeats a cell; then a random new cell is taken."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A trial as the sampler sees it: `value` is the validation loss, None while it has none."""

    point: Point
    state: TrialState
    value: float | None = None
    curve: Mapping[int, float] | None = None


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Choices):
        return CategoricalDistribution(domain.values)
    if domain.integer:
        step = 1 if domain.step is None else int(domain.step)
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=step)
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space in Optuna's words."""
    return {name: _distribution(domain) for name, domain in space.domains.items()}


def new_points(
    space: SearchSpace, count: int, taken: set[Cell], rng: np.random.Generator, source: Callable[[], Point]
) -> list[Point]:
    points: list[Point] = []
    while len(points) < count and (space.cells is None or len(taken) < space.cells):
        point = _new_point(space, taken, rng, source)
        taken.add(cell(point))
        points.append(point)
    return points


def _new_point(
    space: SearchSpace, taken: set[Cell], rng: np.random.Generator, source: Callable[[], Point]
) -> Point:
    for _ in range(ATTEMPTS_AT_A_NEW_CELL):
        point = source()
        if space.cells is None or cell(point) not in taken:
            return point
    return _untried(space, taken, rng)


def _untried(space: SearchSpace, taken: set[Cell], rng: np.random.Generator) -> Point:
    assert space.cells is not None
    while True:
        point = space.point_at(int(rng.integers(space.cells)))
        if cell(point) not in taken:
            return point
