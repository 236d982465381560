import math
import warnings
from collections.abc import Callable, Sequence
from statistics import median

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hpo.search.samplers.base import Observation, distributions
from hpo.search.samplers.random import plan
from hpo.search.samplers.tpe import suggest
from hpo.values.space import Choices, Point, Range, SearchSpace, cell

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING

PAPER = SearchSpace(
    {
        "lr": Choices((1e-3, 1e-2, 1e-1)),
        "batch_size": Choices((16, 32, 64)),
        "momentum": Choices((0.0, 0.85, 0.9, 0.95)),
        "weight_decay": Choices((0.0, 1e-2, 1e-3, 1e-4)),
    }
)
SMALL = SearchSpace(
    {
        "lr": Choices((0.01, 0.1)),
        "batch_size": Range(16, 64, step=16, integer=True),
        "momentum": Range(0.1, 0.3, step=0.1),
        "weight_decay": Choices((0.0,)),
    }
)
"""24 cells."""

WIDE = SearchSpace(
    {
        "lr": Range(1e-4, 1.0, log=True),
        "batch_size": Choices((16, 32)),
        "momentum": Range(0.0, 0.95),
        "weight_decay": Choices((0.0, 1e-4)),
    }
)
SPACES = [PAPER, SMALL, WIDE]
CELLS = {cell(SMALL.point_at(index)) for index in range(24)}
SEED = st.integers(0, 2**32 - 1)


def cells(points: Sequence[Point]) -> set[object]:
    return {cell(point) for point in points}


def observed(
    points: Sequence[Point], loss: Callable[[Point], float], state: TrialState = COMPLETE
) -> list[Observation]:
    return [Observation(point, state, loss(point), {1: loss(point)}) for point in points]


def same(_point: Point) -> float:
    return 1.0


# --- plan


@settings(max_examples=30)
@given(st.sampled_from(SPACES), SEED, st.integers(0, 60), st.integers(0, 60))
def test_a_longer_plan_begins_with_the_shorter(space: SearchSpace, seed: int, one: int, other: int) -> None:
    shorter, longer = sorted((one, other))
    assert plan(space, longer, seed)[:shorter] == plan(space, shorter, seed)


@settings(max_examples=30)
@given(st.sampled_from(SPACES), SEED, st.integers(0, 30))
def test_a_plan_has_points_of_the_space_without_repeats(space: SearchSpace, seed: int, count: int) -> None:
    points = plan(space, count, seed)
    assert len(points) == len(cells(points)) == min(count, space.cells or count)
    assert all(point in space for point in points)


@pytest.mark.parametrize("space", [PAPER, SMALL])
def test_a_plan_ends_with_the_space(space: SearchSpace) -> None:
    assert space.cells is not None
    points = plan(space, space.cells + 100, 0)
    assert cells(points) == {cell(space.point_at(index)) for index in range(space.cells)}


@pytest.mark.parametrize("space", SPACES)
def test_plans_of_other_seeds_differ(space: SearchSpace) -> None:
    plans = [plan(space, 12, seed) for seed in range(20)]
    assert len({tuple(map(cell, points)) for points in plans}) == 20
    assert plan(space, 12, 7) == plans[7]


def test_a_plan_is_uniform_over_cells() -> None:
    firsts = [cell(plan(SMALL, 1, seed)[0]) for seed in range(2400)]
    assert set(firsts) == CELLS
    assert all(60 < firsts.count(cell) < 145 for cell in CELLS)


def test_a_plan_draws_a_logarithmic_range_by_its_logarithm_in_a_finite_space_too() -> None:
    one = {name: Choices((0.5,)) for name in ("lr", "momentum", "weight_decay")}
    space = SearchSpace({**one, "batch_size": Range(4, 4096, log=True, integer=True)})
    assert space.cells == 4093
    sizes = [plan(space, 1, seed)[0]["batch_size"] for seed in range(200)]
    assert 64 < median(sizes) < 256  # 128 is the middle of the logarithms, 2050 that of the numbers


def test_a_plan_in_a_space_of_very_many_cells() -> None:
    fine = Range(0.0, 0.9, step=1e-6)
    space = SearchSpace(dict.fromkeys(PAPER.domains, fine))
    assert space.cells is not None
    assert space.cells > 2**64
    assert len(cells(plan(space, 10, 0))) == 10


# --- propose


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("finished", [0, 15])
def test_proposals_are_new_points_of_the_space_and_differ(space: SearchSpace, finished: int) -> None:
    history = observed(plan(space, finished, 0), same)
    points = suggest(space, history, 8, seed=1, startup=10)
    assert len(points) == 8
    assert all(point in space for point in points)
    assert len(cells(points) | cells([trial.point for trial in history])) == finished + 8
    assert {type(point["batch_size"]) for point in points} == {int}
    assert suggest(space, history, 8, seed=1, startup=10) == points
    assert suggest(space, history, 8, seed=2, startup=10) != points


@pytest.mark.parametrize("finished", [0, 12, 20])
def test_all_of_a_finite_space_is_proposed_and_then_nothing(finished: int) -> None:
    # Optuna alone proposes what it has seen: 24 distinct of 60 here, 126 of 200 in a space of 768.
    history = observed(plan(SMALL, finished, 0), lambda point: point["lr"])
    seed = 0
    while len(history) < 24:
        points = suggest(SMALL, history, 5, seed, startup=10)
        assert points
        history += observed(points, lambda point: point["lr"])
        seed += 1
    assert cells([trial.point for trial in history]) == CELLS
    assert suggest(SMALL, history, 5, seed, startup=10) == []


def test_proposals_stop_where_the_space_ends() -> None:
    history = observed(plan(SMALL, 22, 0), same)
    points = suggest(SMALL, history, 8, seed=0, startup=10)
    assert cells(points) == CELLS - cells([trial.point for trial in history])


@pytest.mark.parametrize("state", [WAITING, RUNNING, PRUNED, FAIL])
def test_no_cell_is_proposed_that_a_trial_of_any_state_has(state: TrialState) -> None:
    history = [Observation(point, state) for point in plan(SMALL, 20, 0)]
    points = suggest(SMALL, history, 8, seed=0, startup=10)
    assert cells(points) == CELLS - cells([trial.point for trial in history])


def test_a_history_of_all_states_is_taken() -> None:
    states = [COMPLETE, PRUNED, FAIL, RUNNING, WAITING]
    history = [
        Observation(
            point, states[i % 5], 0.5 if i % 5 == 0 else None, {1: 0.7} if i % 5 in (1, 2, 3) else None
        )
        for i, point in enumerate(plan(WIDE, 40, 0))
    ]
    assert len(suggest(WIDE, history, 8, seed=0, startup=3)) == 8


def test_until_startup_trials_are_complete_or_pruned_points_are_random() -> None:
    points = plan(WIDE, 30, 0)

    def proposed(finished: int, loss: Callable[[Point], float]) -> list[Point]:
        history = observed(points[:finished], loss, COMPLETE) + observed(points[finished:], loss, FAIL)
        return suggest(WIDE, history, 4, seed=0, startup=10)

    def opposite(point: Point) -> float:
        return -point["lr"]

    assert proposed(9, opposite) == proposed(9, lambda point: point["lr"])
    assert proposed(10, opposite) != proposed(10, lambda point: point["lr"])


def test_proposals_go_where_the_loss_is_low() -> None:
    def loss(point: Point) -> float:
        return abs(math.log10(point["lr"]) + 1.5) + abs(point["momentum"] - 0.9)

    history = observed(plan(WIDE, 40, 0), loss)
    proposed = [loss(point) for seed in range(5) for point in suggest(WIDE, history, 8, seed, startup=10)]
    random = [loss(point) for point in plan(WIDE, 400, 1)]
    assert median(proposed) < 0.6 * median(random)
    assert median(proposed) < sorted(random)[len(random) // 5]


def test_the_curves_of_pruned_trials_teach_too() -> None:
    def loss(point: Point) -> float:
        return abs(math.log10(point["lr"]) + 1.5)

    history = [Observation(point, PRUNED, None, {1: loss(point)}) for point in plan(WIDE, 60, 0)]
    proposed = [loss(point) for seed in range(5) for point in suggest(WIDE, history, 4, seed, startup=10)]
    assert median(proposed) < 0.6 * median(loss(point) for point in plan(WIDE, 400, 1))


def test_proposals_keep_away_from_where_trials_are_under_way() -> None:
    space = SearchSpace({**WIDE.domains, "batch_size": Choices((16,)), "momentum": Choices((0.9,))})

    def at(exponent: float) -> Point:
        return {"lr": 10**exponent, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.0}

    # Two basins, equally deep: at rates of 10**-3 and 10**-1.
    exponents = [-3.9 + 0.1 * ((7 * i) % 39) for i in range(39)]
    history = [Observation(at(x), COMPLETE, min(abs(x + 3), abs(x + 1))) for x in exponents]

    def share(basin: int, close: Sequence[Observation] = ()) -> float:
        """Share of the proposals that are in a basin."""
        points = [suggest(space, [*history, *close], 1, seed, startup=10)[0] for seed in range(20)]
        return sum(abs(math.log10(point["lr"]) - basin) < 1 for point in points) / len(points)

    for basin in (-3, -1):
        points = [at(basin + 0.01 * i) for i in range(-20, 21)]
        running, waiting, failed = (
            share(basin, [Observation(point, state) for point in points])
            for state in (RUNNING, WAITING, FAIL)
        )
        assert running == waiting <= share(basin) / 2
        assert failed == share(basin)


# --- the space in Optuna's words


def test_distributions() -> None:
    space = SearchSpace(
        {
            "lr": Range(0.01, 1.0, log=True),
            "batch_size": Range(16, 64, step=16, integer=True),
            "momentum": Range(0.0, 0.9, step=0.1),
            "weight_decay": Choices((0.0, 0.1)),
        }
    )
    assert distributions(space) == {
        "lr": FloatDistribution(0.01, 1.0, log=True),
        "batch_size": IntDistribution(16, 64, step=16),
        "momentum": FloatDistribution(0.0, 0.9, step=0.1),
        "weight_decay": CategoricalDistribution((0.0, 0.1)),
    }


def test_whole_numbers_stay_whole_beside_equal_floats() -> None:
    space = SearchSpace({"lr": Choices((2.0, 4.0)), "batch_size": Choices((2, 4))})
    kinds = distributions(space)
    assert isinstance(kinds["batch_size"], CategoricalDistribution)
    assert [type(value) for value in kinds["batch_size"].choices] == [int, int]


@settings(max_examples=40)
@given(st.integers(0, 500), st.integers(1, 300), st.integers(1, 12), SEED)
def test_a_stepped_range_has_the_same_values_in_optuna(low: int, step: int, count: int, seed: int) -> None:
    domain = Range(low / 1000, (low + step * count) / 1000, step=step / 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns where it changes a range
        kind = distributions(SearchSpace({"lr": domain}))["lr"]
    values = {domain.at(index) for index in range(count + 1)}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    assert {study.ask({"lr": kind}).params["lr"] for _ in range(10)} <= values
    for value in values:
        study.add_trial(optuna.create_trial(value=0.0, params={"lr": value}, distributions={"lr": kind}))
