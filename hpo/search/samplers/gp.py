"""Gaussian process sampler."""

from collections.abc import Collection, Iterable
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field

from hpo.search.effective_lr import draw_typical
from hpo.search.learning_curves import log_losses
from hpo.search.samplers.base import Observation, Sampler
from hpo.search.samplers.points import plan
from hpo.values.space import Cell, Point, SearchSpace, cell

MAX_CANDIDATES = 1000
"""Candidate points of one call: all free cells of a finite space up to this size, otherwise random points."""

MAX_TRIED = 10_000
"""Draws in search of candidates of an infinite space with constraints, about a tenth of a second."""


class GpSampler(Sampler):
    """A Gaussian process that learns from every learning curve, even of pruned and paused trials.

    It suggests the points of the largest expected improvement (`hpo.search.gp`). The startup points are
    random, but near the effective learning rate that worked for other networks. Waiting and running trials,
    and the other points of the same call, count as observed at their predicted loss: the kriging believer of
    Ginsbourger et al. 2010. Points are random until `startup` trials have trained an epoch.
    """

    name: Literal["gp"] = "gp"
    startup: int = Field(
        default=10,
        ge=1,
        description="Random trials before the first suggestion, with a typical effective learning rate, "
        "lr / ((1 - momentum) batch_size). With the pruner `pause`, no trial resumes before this many trials "
        "have trained an epoch or ended.",
    )

    def initial(self, space: SearchSpace, count: int, seed: int, taken: Collection[Cell] = ()) -> list[Point]:
        return plan(space, count, seed, taken, partial(draw_typical, space))

    def suggest(
        self, space: SearchSpace, history: Iterable[Observation], count: int, seed: int
    ) -> list[Point]:
        trials = list(history)
        taken = {cell(trial.point) for trial in trials}
        observed = [trial for trial in trials if trial.curve or trial.has_failed]
        candidates = _candidates(space, seed, taken)
        trained = sum(log_losses(trial.curve or {}).size > 0 for trial in observed)
        if trained < max(2, self.startup) or not candidates:
            return self.initial(space, count, seed, taken)
        from hpo.search import gp

        pending = [trial.point for trial in trials if not trial.curve and not trial.state.is_finished()]
        indices = gp.select(space, gp.observations(space, observed), candidates, pending, count)
        return [candidates[index] for index in indices]

    def load(self) -> None:
        import hpo.search.gp  # noqa: F401


def _candidates(space: SearchSpace, seed: int, taken: Collection[Cell]) -> list[Point]:
    if space.cells is not None and space.cells <= MAX_CANDIDATES:
        cells = (space.point_at(index) for index in range(space.cells))
        return [point for point in cells if cell(point) not in taken]
    if space.cells is not None or not space.constraints:
        return plan(space, MAX_CANDIDATES, seed, taken)
    rng, points = np.random.default_rng(seed), dict[Cell, Point]()
    for _ in range(MAX_TRIED):
        point = space.draw_once(rng)
        if point is not None and cell(point) not in taken:
            points[cell(point)] = point
        if len(points) == MAX_CANDIDATES:
            break
    return list(points.values())
