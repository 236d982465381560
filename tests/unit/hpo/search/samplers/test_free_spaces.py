"""Samplers in spaces of free parameters, with a metric to maximize that may have any sign."""

import numpy as np
import pytest
from optuna.trial import TrialState
from support.spaces import cells

from hpo.search.samplers.base import Observation
from hpo.search.samplers.registry import SAMPLERS
from hpo.search.scales import scale_of
from hpo.values.free import FREE
from hpo.values.objective import Objective
from hpo.values.space import Point
from hpo.values.space_section import parse_space

SCORE = Objective("score", "maximize", "score")

SPACE = parse_space(
    {
        "lr": {"low": 1e-5, "high": 1.0, "log": True},
        "optimizer": ["lion", "adamw"],
        "momentum": {"low": -1.0, "high": 2.0, "when": {"optimizer": "lion"}},
        "batch_size": [1],
        "schedule": [True, False],
        "constraints": ["lr * batch_size < 0.9"],
    },
    FREE,
)


def score(point: Point, epoch: int) -> float:
    """Best, and still below 0, at a learning rate of 0.01."""
    return -1e4 - 100 * (float(np.log10(point["lr"])) + 2) ** 2 - 50 / epoch


def observed(points: list[Point]) -> list[Observation]:
    curves = [{epoch: SCORE.cost(score(point, epoch)) for epoch in (1, 2, 3)} for point in points]
    scale = scale_of(SCORE, curves)
    return [
        Observation(
            point, TrialState.COMPLETE, curve[3], {epoch: scale(cost) for epoch, cost in curve.items()}
        )
        for point, curve in zip(points, curves, strict=True)
    ]


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "BruteForceSampler"])
def test_free_space_is_searched(name: str) -> None:
    sampler = SAMPLERS[name].model_validate({"startup": 6})
    points = sampler.initial(SPACE, 12, 3)
    for seed in range(3):
        points += sampler.suggest(SPACE, observed(points), 4, seed)
    assert all(point in SPACE for point in points)
    assert len(cells(points)) == len(points) == (12 if sampler.plans_all else 24)
    assert all(("momentum" in point) == (point["optimizer"] == "lion") for point in points)


@pytest.mark.parametrize("name", ["gp", "tpe"])
def test_sampler_maximizes_a_negative_metric(name: str) -> None:
    sampler = SAMPLERS[name].model_validate({"startup": 6})
    points = first = sampler.initial(SPACE, 16, 3)
    for seed in range(4):
        points = points + sampler.suggest(SPACE, observed(points), 4, seed)

    def distance(chosen: list[Point]) -> float:
        return float(np.median([abs(np.log10(point["lr"]) + 2) for point in chosen]))

    assert distance(points[len(first) :]) < 0.75 * distance(first)
