"""Properties of every sampler in spaces of any parameters, of which some apply under a condition only."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from support.spaces import SEED, cells, conditional_spaces

from hpo.search.samplers.base import Observation
from hpo.search.samplers.points import plan
from hpo.search.samplers.registry import SAMPLERS
from hpo.values.space import Choices, Condition, Point, Range, SearchSpace

STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL)

OPTIMIZERS = SearchSpace(
    {
        "optimizer": Choices(("adamw", "sgd")),
        "momentum": Range(0.0, 0.9),
        "nesterov": Choices((False, True)),
    },
    {"momentum": Condition("optimizer", ("sgd",)), "nesterov": Condition("optimizer", ("sgd",))},
)
"""An infinite space in which `adamw` is one cell."""


def observed(points: list[Point]) -> list[Observation]:
    history = []
    for index, point in enumerate(points):
        state = STATES[index % len(STATES)]
        loss = 1.0 + index % 7
        curve = {} if state == TrialState.RUNNING else {1: loss, 2: loss - 0.5}
        history.append(Observation(point, state, loss if state == TrialState.COMPLETE else None, curve))
    return history


@pytest.mark.parametrize("name", SAMPLERS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(space=conditional_spaces(), seed=SEED, known=st.integers(0, 14), count=st.integers(1, 5))
def test_points_are_distinct_new_points_of_the_space(
    name: str, space: SearchSpace, seed: int, known: int, count: int
) -> None:
    sampler = SAMPLERS[name].model_validate({"startup": 4})
    before = plan(space, known, seed)
    taken = cells(before)
    for points in (
        sampler.initial(space, count, seed ^ 1, taken),
        sampler.suggest(space, observed(before), count, seed ^ 1),
    ):
        assert all(point in space for point in points)
        assert len(cells([*before, *points])) == len(before) + len(points)
    if not sampler.plans_all:
        left = count if space.cells is None else space.cells - len(before)
        assert len(points) == min(count, left)
        assert sampler.suggest(space, observed(before), count, seed ^ 1) == points


@pytest.mark.parametrize("name", SAMPLERS)
def test_finite_part_of_an_infinite_space_is_tried_once(name: str) -> None:
    sampler = SAMPLERS[name].model_validate({"startup": 4})
    history = observed(sampler.initial(OPTIMIZERS, 6, 0))
    for seed in range(4):
        history += observed(sampler.suggest(OPTIMIZERS, history, 4, seed))
    optimizers = [trial.point["optimizer"] for trial in history]
    assert optimizers.count("adamw") <= 1
    assert len(cells([trial.point for trial in history])) == len(history)
