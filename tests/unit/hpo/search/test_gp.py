import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from hpo.search.samplers.base import Observation
from hpo.search.samplers.gp import SPREAD, carried_on, coordinates_of, suggest
from hpo.search.samplers.random import first_points, plan
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
WIDE = SearchSpace(
    {
        "lr": Range(1e-4, 1.0, log=True),
        "batch_size": Range(16, 64, integer=True),
        "momentum": Range(0.0, 0.95),
        "weight_decay": Choices((0.0,)),
    }
)
LOGARITHMIC = SearchSpace({**WIDE.domains, "weight_decay": Range(1e-6, 1e-2, log=True)})
SPACES = [PAPER, WIDE, LOGARITHMIC]
STARTUP = 4
POINT = PAPER.point_at(0)


def bowl(point: Point) -> float:
    """Least where an example's step is 0.002 long."""
    step = point["lr"] / (1 - point["momentum"]) / point["batch_size"]
    return 1 + 0.1 * math.log10(step / 2e-3) ** 2 + 10 * point["weight_decay"]


def observed(point: Point, loss: Callable[[Point], float] = bowl, epochs: int = 3) -> Observation:
    """Complete after three epochs, otherwise pruned."""
    curve = {epoch: loss(point) * (1 + 1 / epoch) for epoch in range(1, epochs + 1)}
    return Observation(point, COMPLETE if epochs == 3 else PRUNED, curve[epochs], curve)


@settings(max_examples=15)
@given(st.sampled_from(SPACES), st.integers(0, 30), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_points_are_new_and_of_the_space(space: SearchSpace, known: int, count: int, seed: int) -> None:
    points = plan(space, known, seed)
    states = [FAIL, WAITING, RUNNING]
    history = [
        observed(point, epochs=1 + place % 3) if place % 4 else Observation(point, states[place % 3])
        for place, point in enumerate(points)
    ]
    found = suggest(space, history, count, seed ^ 1, STARTUP)
    assert len(found) == count
    assert all(point in space for point in found)
    assert len({cell(point) for point in (*points, *found)}) == known + count
    assert suggest(space, history, count, seed ^ 1, STARTUP) == found


def test_a_finite_space_runs_out() -> None:
    points = [PAPER.point_at(place) for place in range(144)]
    history = [observed(point) for point in points]
    left = suggest(PAPER, history[:-2], 4, 0, STARTUP)
    assert {cell(point) for point in left} == {cell(point) for point in points[-2:]}
    assert suggest(PAPER, history, 4, 0, STARTUP) == []


def test_the_first_points_are_random() -> None:
    history = [observed(point) for point in plan(PAPER, STARTUP - 1, 0)]
    taken = {cell(trial.point) for trial in history}
    assert suggest(PAPER, history, 3, 7, STARTUP) == first_points(PAPER, "gp", 3, 7, taken)
    assert suggest(PAPER, [], 3, 7, 1) == first_points(PAPER, "gp", 3, 7)


@pytest.mark.parametrize("space", [PAPER, LOGARITHMIC])
def test_it_finds_a_minimum_that_random_search_does_not(space: SearchSpace) -> None:
    random, history = plan(space, 24, 0), [observed(point) for point in plan(space, STARTUP, 0)]
    while len(history) < 24:
        history += [observed(point) for point in suggest(space, history, 4, len(history), STARTUP)]
    losses = sorted(bowl(trial.point) for trial in history)
    assert losses[0] < sorted(map(bowl, random))[0]
    assert losses[3] < sorted(map(bowl, random))[3]


def test_short_curves_lead_there_as_well() -> None:
    points = plan(PAPER, 24, 0)
    whole = [observed(point) for point in points]
    short = [observed(point, epochs=3 if place % 4 == 0 else 1) for place, point in enumerate(points)]
    (one,), (other,) = (suggest(PAPER, history, 1, 0, STARTUP) for history in (short, whole))
    assert bowl(one) <= bowl(other) + 0.02


def test_points_under_way_are_not_followed_by_the_like() -> None:
    history = [observed(point) for point in plan(PAPER, 12, 0)]
    first, second = suggest(PAPER, history, 2, 0, STARTUP)
    after = [*history, Observation(first, RUNNING)]
    assert suggest(PAPER, after, 1, 0, STARTUP) == [second]


def test_losses_need_not_differ() -> None:
    history = [observed(point, lambda _: 1.0) for point in plan(PAPER, 12, 0)]
    assert len(suggest(PAPER, history, 4, 0, STARTUP)) == 4


# Curves


def of(*losses: float, state: TrialState = PRUNED) -> Observation:
    return Observation(POINT, state, losses[-1] if losses else None, dict(enumerate(losses, 1)))


def test_a_short_curve_goes_on_as_the_long_ones_did() -> None:
    long = [of(4.0, 2.0, 1.0, state=COMPLETE), of(8.0, 4.0, 3.0, state=COMPLETE), of(4.0, 2.0, 1.5)]
    losses, errors = carried_on([*long, of(4.0), of(4.0, 2.0)])
    np.testing.assert_allclose(np.exp(losses[:3]), [1, 3, 1.5])
    assert math.log(4) > losses[3] > losses[4] > math.log(1)
    assert list(errors[:3]) == [0, 0, 0]
    assert 0 < errors[4] < errors[3]


def test_what_failed_is_as_bad_as_the_worst() -> None:
    losses, _ = carried_on([of(1.0), of(2.0), of(3.0), of(state=FAIL), of(2.5, math.nan, state=FAIL)])
    assert losses[3] == losses[4] == losses.max()


def test_how_bad_a_bad_cell_is_does_not_matter() -> None:
    losses, _ = carried_on([of(1.0), of(1.1), of(1.2), of(1e9)])
    middle = np.median([0, math.log(1.1), math.log(1.2), math.log(1e9)])
    assert losses.max() == pytest.approx(middle * (1 + SPREAD))


# Coordinates


@given(st.sampled_from(SPACES), st.integers(0, 2**32 - 1))
def test_coordinates_go_from_0_to_1(space: SearchSpace, seed: int) -> None:
    at = coordinates_of(space)
    for point in plan(space, 20, seed):
        assert np.all((at(point) >= -1e-12) & (at(point) <= 1 + 1e-12))


def test_equal_steps_have_one_coordinate() -> None:
    at = coordinates_of(PAPER)
    one = {"lr": 1e-2, "batch_size": 32, "momentum": 0.0, "weight_decay": 0.0}
    other = {"lr": 1e-3, "batch_size": 32, "momentum": 0.9, "weight_decay": 0.0}
    assert at(one)[0] == pytest.approx(at(other)[0])
    assert at(one)[2] != at(other)[2]


def test_what_never_changes_has_no_coordinate() -> None:
    assert len(coordinates_of(PAPER)(POINT)) == 4
    point = {"lr": 1e-2, "batch_size": 32, "momentum": 0.5, "weight_decay": 0.0}
    assert len(coordinates_of(WIDE)(point)) == 3


def test_only_the_order_of_choices_of_weight_decay_counts() -> None:
    at = coordinates_of(PAPER)
    places = [at({**POINT, "weight_decay": decay})[3] for decay in (0.0, 1e-4, 1e-3, 1e-2)]
    assert places == pytest.approx([0, 1 / 3, 2 / 3, 1])
