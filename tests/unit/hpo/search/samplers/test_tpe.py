import math
from collections.abc import Callable, Sequence
from statistics import median

import pytest
from optuna.trial import TrialState
from support.spaces import CELLS, SMALL, SPACES, WIDE, cells

from hpo.search.samplers.base import Observation
from hpo.search.samplers.points import plan
from hpo.search.samplers.tpe import TpeSampler
from hpo.values.space import Choices, Point, SearchSpace

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING


def observed(
    points: Sequence[Point], loss: Callable[[Point], float], state: TrialState = COMPLETE
) -> list[Observation]:
    return [Observation(point, state, loss(point), {1: loss(point)}) for point in points]


def same(_point: Point) -> float:
    return 1.0


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("finished", [0, 15])
def test_suggestions_are_distinct_new_points_of_the_space(space: SearchSpace, finished: int) -> None:
    history = observed(plan(space, finished, 0), same)
    points = TpeSampler(startup=10).suggest(space, history, 8, seed=1)
    assert len(points) == 8
    assert all(point in space for point in points)
    assert len(cells(points) | cells([trial.point for trial in history])) == finished + 8
    assert {type(point["batch_size"]) for point in points} == {int}
    assert TpeSampler(startup=10).suggest(space, history, 8, seed=1) == points
    assert TpeSampler(startup=10).suggest(space, history, 8, seed=2) != points


@pytest.mark.parametrize("finished", [0, 12, 20])
def test_whole_finite_space_is_suggested_and_then_nothing(finished: int) -> None:
    # Optuna's TPE alone repeats cells: 24 distinct of 60 here, 126 of 200 in a space of 768.
    history = observed(plan(SMALL, finished, 0), lambda point: point["lr"])
    seed = 0
    while len(history) < 24:
        points = TpeSampler(startup=10).suggest(SMALL, history, 5, seed)
        assert points
        history += observed(points, lambda point: point["lr"])
        seed += 1
    assert cells([trial.point for trial in history]) == CELLS
    assert TpeSampler(startup=10).suggest(SMALL, history, 5, seed) == []


def test_suggestions_end_when_no_cell_is_left() -> None:
    history = observed(plan(SMALL, 22, 0), same)
    points = TpeSampler(startup=10).suggest(SMALL, history, 8, seed=0)
    assert cells(points) == CELLS - cells([trial.point for trial in history])


@pytest.mark.parametrize("state", [WAITING, RUNNING, PRUNED, FAIL])
def test_cell_of_a_trial_in_any_state_is_not_suggested(state: TrialState) -> None:
    history = [Observation(point, state) for point in plan(SMALL, 20, 0)]
    points = TpeSampler(startup=10).suggest(SMALL, history, 8, seed=0)
    assert cells(points) == CELLS - cells([trial.point for trial in history])


def test_history_may_hold_trials_in_all_states() -> None:
    states = [COMPLETE, PRUNED, FAIL, RUNNING, WAITING]
    history = [
        Observation(
            point, states[i % 5], 0.5 if i % 5 == 0 else None, {1: 0.7} if i % 5 in (1, 2, 3) else None
        )
        for i, point in enumerate(plan(WIDE, 40, 0))
    ]
    assert len(TpeSampler(startup=3).suggest(WIDE, history, 8, seed=0)) == 8


def test_points_are_random_until_startup_trials_have_ended() -> None:
    points = plan(WIDE, 30, 0)

    def suggested(finished: int, loss: Callable[[Point], float]) -> list[Point]:
        history = observed(points[:finished], loss, COMPLETE) + observed(points[finished:], loss, FAIL)
        return TpeSampler(startup=10).suggest(WIDE, history, 4, seed=0)

    def opposite(point: Point) -> float:
        return -float(point["lr"])

    assert suggested(9, opposite) == suggested(9, lambda point: point["lr"])
    assert suggested(10, opposite) != suggested(10, lambda point: point["lr"])


def test_suggestions_are_better_than_random_points() -> None:
    def loss(point: Point) -> float:
        return abs(math.log10(point["lr"]) + 1.5) + abs(float(point["momentum"]) - 0.9)

    history = observed(plan(WIDE, 40, 0), loss)
    suggested = [
        loss(point) for seed in range(5) for point in TpeSampler(startup=10).suggest(WIDE, history, 8, seed)
    ]
    random = [loss(point) for point in plan(WIDE, 400, 1)]
    assert median(suggested) < 0.6 * median(random)
    assert median(suggested) < sorted(random)[len(random) // 5]


def test_curves_of_pruned_trials_improve_suggestions() -> None:
    def loss(point: Point) -> float:
        return abs(math.log10(point["lr"]) + 1.5)

    history = [Observation(point, PRUNED, None, {1: loss(point)}) for point in plan(WIDE, 60, 0)]
    suggested = [
        loss(point) for seed in range(5) for point in TpeSampler(startup=10).suggest(WIDE, history, 4, seed)
    ]
    assert median(suggested) < 0.6 * median(loss(point) for point in plan(WIDE, 400, 1))


def test_suggestions_keep_away_from_running_and_waiting_trials() -> None:
    space = SearchSpace({**WIDE.domains, "batch_size": Choices((16,)), "momentum": Choices((0.9,))})

    def at(exponent: float) -> Point:
        return {"lr": 10**exponent, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.0}

    # Two equally deep basins, at learning rates of 1e-3 and 1e-1.
    exponents = [-3.9 + 0.1 * ((7 * i) % 39) for i in range(39)]
    history = [Observation(at(x), COMPLETE, min(abs(x + 3), abs(x + 1))) for x in exponents]

    def share(basin: int, close: Sequence[Observation] = ()) -> float:
        """Return the share of suggestions in a basin."""
        points = [TpeSampler(startup=10).suggest(space, [*history, *close], 1, seed)[0] for seed in range(20)]
        return sum(abs(math.log10(point["lr"]) - basin) < 1 for point in points) / len(points)

    for basin in (-3, -1):
        points = [at(basin + 0.01 * i) for i in range(-20, 21)]
        running, waiting, failed = (
            share(basin, [Observation(point, state) for point in points])
            for state in (RUNNING, WAITING, FAIL)
        )
        assert running == waiting <= share(basin) / 2
        assert failed == share(basin)
