import math
import warnings
from collections.abc import Sequence
from statistics import median

import optuna
import pytest
from optuna.trial import TrialState
from support.spaces import SMALL, WIDE, cells

from hpo.search.final_losses import clipped
from hpo.search.samplers.base import Observation
from hpo.search.samplers.distributions import distributions
from hpo.search.samplers.optuna_gp import OptunaGpSampler
from hpo.search.samplers.points import plan
from hpo.values.space import Point, Range, SearchSpace

COMPLETE, RUNNING = TrialState.COMPLETE, TrialState.RUNNING

RANGES = SearchSpace({"lr": Range(1e-4, 1.0, log=True), "momentum": Range(0.0, 0.95)})


def loss(point: Point) -> float:
    return 0.05 + (math.log10(point["lr"]) + 1.5) ** 2 + (float(point["momentum"]) - 0.7) ** 2


def observed(points: Sequence[Point]) -> list[Observation]:
    return [Observation(point, COMPLETE, None, {1: loss(point)}) for point in points]


def test_suggestion_is_optunas() -> None:
    points = sorted(plan(RANGES, 12, 0), key=loss)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study, space = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=4)), distributions(RANGES)
    losses = clipped_losses(points)
    for point, value in zip(points, losses, strict=True):
        study.add_trial(optuna.trial.create_trial(params=point, distributions=space, value=value))
    (suggested,) = OptunaGpSampler().suggest(RANGES, observed(points), 1, 4)
    assert suggested == pytest.approx(study.ask(space).params)


def clipped_losses(points: Sequence[Point]) -> list[float]:
    import numpy as np

    losses: list[float] = clipped(np.log([loss(point) for point in points])).tolist()
    return losses


def test_suggestions_are_good_new_points() -> None:
    history = observed(plan(WIDE, 16, 0))
    running = [Observation(point, RUNNING) for point in plan(WIDE, 18, 0)[16:]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = OptunaGpSampler(deterministic_objective=True).suggest(WIDE, [*history, *running], 2, 1)
    assert len(points) == 2
    assert all(point in WIDE for point in points)
    assert max(map(loss, points)) < median(map(loss, plan(WIDE, 400, 1)))


def test_points_are_random_until_startup_trials_have_ended() -> None:
    points = plan(RANGES, 9, 0)
    assert OptunaGpSampler().suggest(RANGES, observed(points), 2, 3) == plan(RANGES, 2, 3, cells(points))


def test_finite_space_ends() -> None:
    points = plan(SMALL, 21, 0)
    new = OptunaGpSampler().suggest(SMALL, observed(points), 9, 1)
    assert len(new) == 3
    assert len(cells([*points, *new])) == 24


def test_grid_that_optuna_would_list_is_limited() -> None:
    space = SearchSpace({"x": Range(1, 10**9, integer=True)})
    assert OptunaGpSampler().mistakes(space) == {
        "name": "takes ranges of at most 10000 values, and 'x' has 1000000000"
    }
    OptunaGpSampler().load()
