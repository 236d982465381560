"""Properties of every sampler in spaces of any parameters, with conditions and constraints."""

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from support.space_files import brute_force, file_spaces, size
from support.spaces import SEED, cells

from hpo.search.samplers.base import Observation, Sampler
from hpo.search.samplers.points import plan
from hpo.search.samplers.registry import SAMPLERS
from hpo.values.space import Choices, Condition, Point, Range, SearchSpace
from hpo.values.space_section import parse_space

STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL)

SMALL_GENERATIONS = {"CmaEsSampler": {"popsize": 4}, "NSGAIISampler": {"population_size": 4}}
"""Keys with which a sampler learns from a short history."""

QUICK = [name for name in SAMPLERS if name != "GPSampler"]
"""Samplers that suggest a point in milliseconds."""

CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much]

OPTIMIZERS = SearchSpace(
    {
        "optimizer": Choices(("adamw", "sgd")),
        "momentum": Range(0.0, 0.9),
        "nesterov": Choices((False, True)),
    },
    {"momentum": (Condition("optimizer", ("sgd",)),), "nesterov": (Condition("optimizer", ("sgd",)),)},
)
"""An infinite space in which `adamw` is one cell."""


def make(name: str) -> Sampler:
    """Return a sampler with four startup points."""
    return SAMPLERS[name].model_validate({"startup": 4, **SMALL_GENERATIONS.get(name, {})})


def names_for(space: SearchSpace) -> list[str]:
    """Return the samplers that take the space."""
    return [name for name in SAMPLERS if not SAMPLERS[name]().mistakes(space)]


def observed(points: list[Point]) -> list[Observation]:
    history = []
    for index, point in enumerate(points):
        state = STATES[index % len(STATES)]
        loss = 1.0 + index % 7
        curve = {} if state == TrialState.RUNNING else {1: loss, 2: loss - 0.5}
        history.append(Observation(point, state, loss if state == TrialState.COMPLETE else None, curve))
    return history


@pytest.mark.parametrize("name", QUICK)
@settings(max_examples=12, suppress_health_check=CHECKS)
@given(space=file_spaces(), seed=SEED, known=st.integers(0, 14), count=st.integers(1, 5))
def test_points_are_distinct_new_points_of_the_space(
    name: str, space: SearchSpace, seed: int, known: int, count: int
) -> None:
    assume(space.cells is not None or len(cells(plan(space, 40, 0))) == 40)
    sampler = make(name)
    assume(not sampler.mistakes(space))
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


@pytest.mark.parametrize("name", names_for(OPTIMIZERS))
def test_finite_part_of_an_infinite_space_is_tried_once(name: str) -> None:
    sampler = make(name)
    history = observed(sampler.initial(OPTIMIZERS, 6, 0))
    for seed in range(4):
        history += observed(sampler.suggest(OPTIMIZERS, history, 4, seed))
    optimizers = [trial.point["optimizer"] for trial in history]
    assert optimizers.count("adamw") <= 1
    assert len(cells([trial.point for trial in history])) == len(history)


@pytest.mark.parametrize("name", QUICK)
@settings(max_examples=6, suppress_health_check=CHECKS)
@given(space=file_spaces(most=3, finite=True), seed=SEED)
def test_finite_space_is_exhausted_exactly(name: str, space: SearchSpace, seed: int) -> None:
    assume(size(space) <= 60)
    sampler = make(name)
    assume(not sampler.mistakes(space))
    points = sampler.initial(space, size(space) if sampler.plans_all else 4, seed)
    while new := sampler.suggest(space, observed(points), 7, seed + len(points)):
        points += new
    assert len(points) == len(cells(points))
    assert cells(points) == brute_force(space)


ALL_KINDS = parse_space(
    {
        "lr": {"low": 1e-3, "high": 1, "log": True},
        "optimizer": ["sgd", "adamw"],
        "momentum": {"low": 0.0, "high": 0.9, "step": 0.1, "when": {"model.norm": True}},
        "model": {
            "act": {"choices": ["relu", "gelu", "tanh"], "when": {"depth": [2, 3]}},
            "norm": [True, False],
            "depth": {"low": 1, "high": 3},
            "width": {"low": 16, "high": 256, "log": True},
            "rate": [0.0, 0.25, 0.5],
        },
        "constraints": ["model.depth * model.width <= 256", "lr < 0.5", "model.rate < 0.5 / model.depth"],
    }
)


@pytest.mark.parametrize("name", names_for(ALL_KINDS))
def test_space_of_all_kinds_is_searched(name: str) -> None:
    sampler = make(name)
    points = sampler.initial(ALL_KINDS, 12, 3)
    assert sampler.initial(ALL_KINDS, 30, 3)[:12] == points
    rounds = 4 if name in QUICK else 1
    for seed in range(rounds):
        points += sampler.suggest(ALL_KINDS, observed(points), 4, seed)
    assert len(cells(points)) == len(points) == 12 + (0 if sampler.plans_all else 4 * rounds)
    for point in points:
        assert point in ALL_KINDS
        assert ("momentum" in point) == (point["optimizer"] == "sgd" and point["model.norm"])
        assert ("model.act" in point) == (point["model.depth"] > 1)
        assert point["model.depth"] * point["model.width"] <= 256
        assert type(point["model.width"]) is int


FEW = parse_space(
    {
        "model.a": [1, 2, 3],
        "model.x": {"low": 0.0, "high": 1.0, "when": {"model.a": 3}},
        "constraints": "model.a < 3",
    }
)


@pytest.mark.parametrize("name", names_for(FEW))
def test_cells_repeat_where_constraints_leave_a_few_of_an_infinite_space(name: str) -> None:
    sampler = make(name)
    points = sampler.initial(FEW, 6, 0)
    assert len(points) == 6
    assert cells(points) == {(("model.a", 1.0),), (("model.a", 2.0),)}
    if not sampler.plans_all:
        assert len(sampler.suggest(FEW, observed(points), 3, 1)) == 3
