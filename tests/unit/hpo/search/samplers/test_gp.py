import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from support.gp_spaces import LOGARITHMIC, SPACES
from support.spaces import PAPER

from hpo.search.effective_lr import NEAR, TYPICAL, effective_lr
from hpo.search.samplers.base import Observation
from hpo.search.samplers.gp import GpSampler
from hpo.search.samplers.points import plan
from hpo.values.space import Choices, Point, Range, SearchSpace, cell

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING

STARTUP = 4
SAMPLER = GpSampler(startup=STARTUP)

LESS_DECAY = SearchSpace(
    {
        "lr": Choices((1e-3, 1e-2, 1e-1)),
        "batch_size": Choices((16, 32, 64)),
        "momentum": Choices((0.0, 0.85, 0.9, 0.95)),
        "weight_decay": Choices((0.0, 1e-4)),
    }
)
LOG_LR = SearchSpace({**LESS_DECAY.domains, "lr": Range(1e-4, 1.0, log=True)})
SLOW = SearchSpace({**LESS_DECAY.domains, "lr": Choices((1e-6,))})


def bowl(point: Point) -> float:
    """Least where an example's step is 0.002 long."""
    step: float = point["lr"] / (1 - point["momentum"]) / point["batch_size"]
    return 1 + 0.1 * math.log10(step / 2e-3) ** 2 + 10 * float(point["weight_decay"])


def observed(point: Point, loss: Callable[[Point], float] = bowl, epochs: int = 3) -> Observation:
    """Complete after three epochs, otherwise pruned."""
    curve = {epoch: loss(point) * (1 + 1 / epoch) for epoch in range(1, epochs + 1)}
    return Observation(point, COMPLETE if epochs == 3 else PRUNED, curve[epochs], curve)


def is_typical(point: Point) -> bool:
    return TYPICAL / NEAR <= (effective_lr(LESS_DECAY, point) or 0) <= TYPICAL * NEAR


@pytest.mark.parametrize("space", [LESS_DECAY, LOG_LR])
def test_search_begins_with_typical_effective_learning_rates(space: SearchSpace) -> None:
    points = SAMPLER.initial(space, 12, 3)
    assert all(map(is_typical, points))
    assert len({effective_lr(LESS_DECAY, point) for point in points}) > 4
    assert len({cell(point) for point in points}) == 12
    assert SAMPLER.initial(space, 20, 3)[:12] == points


def test_first_points_are_random_where_no_effective_lr_is_typical() -> None:
    cells = {cell(point) for point in SAMPLER.initial(SLOW, 100, 3)}
    assert len(cells) == SLOW.cells == 24


def test_other_points_follow_once_typical_cells_are_taken() -> None:
    points = SAMPLER.initial(LESS_DECAY, 100, 0)
    assert len({cell(point) for point in points}) == LESS_DECAY.cells == 72
    assert {cell(point) for point in points[:10]} <= {cell(point) for point in filter(is_typical, points)}


@settings(max_examples=15)
@given(st.sampled_from(SPACES), st.integers(0, 30), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_suggestions_are_distinct_new_points_of_the_space(
    space: SearchSpace, known: int, count: int, seed: int
) -> None:
    points = plan(space, known, seed)
    states = [FAIL, WAITING, RUNNING]
    history = [
        observed(point, epochs=1 + index % 3) if index % 4 else Observation(point, states[index % 3])
        for index, point in enumerate(points)
    ]
    suggested = SAMPLER.suggest(space, history, count, seed ^ 1)
    assert len(suggested) == count
    assert all(point in space for point in suggested)
    assert len({cell(point) for point in (*points, *suggested)}) == known + count
    assert SAMPLER.suggest(space, history, count, seed ^ 1) == suggested


def test_suggestions_end_when_no_cell_is_left() -> None:
    points = [PAPER.point_at(index) for index in range(144)]
    history = [observed(point) for point in points]
    left = SAMPLER.suggest(PAPER, history[:-2], 4, 0)
    assert {cell(point) for point in left} == {cell(point) for point in points[-2:]}
    assert SAMPLER.suggest(PAPER, history, 4, 0) == []


def test_points_are_random_until_startup_trials_have_trained() -> None:
    history = [observed(point) for point in plan(PAPER, STARTUP - 1, 0)]
    taken = {cell(trial.point) for trial in history}
    assert SAMPLER.suggest(PAPER, history, 3, 7) == SAMPLER.initial(PAPER, 3, 7, taken)
    assert GpSampler(startup=1).suggest(PAPER, [], 3, 7) == SAMPLER.initial(PAPER, 3, 7)


@pytest.mark.parametrize("space", [PAPER, LOGARITHMIC])
def test_search_beats_random_search(space: SearchSpace) -> None:
    random, history = plan(space, 24, 0), [observed(point) for point in plan(space, STARTUP, 0)]
    while len(history) < 24:
        history += [observed(point) for point in SAMPLER.suggest(space, history, 4, len(history))]
    losses = sorted(bowl(trial.point) for trial in history)
    assert losses[0] < sorted(map(bowl, random))[0]
    assert losses[3] < sorted(map(bowl, random))[3]


def test_short_curves_are_as_informative_as_long_ones() -> None:
    points = plan(PAPER, 24, 0)
    whole = [observed(point) for point in points]
    short = [observed(point, epochs=3 if index % 4 == 0 else 1) for index, point in enumerate(points)]
    (point_after_short,), (point_after_whole,) = (
        SAMPLER.suggest(PAPER, history, 1, 0) for history in (short, whole)
    )
    assert bowl(point_after_short) <= bowl(point_after_whole) + 0.02


def test_running_trial_counts_like_a_suggestion_of_the_same_call() -> None:
    history = [observed(point) for point in plan(PAPER, 12, 0)]
    first, second = SAMPLER.suggest(PAPER, history, 2, 0)
    after = [*history, Observation(first, RUNNING)]
    assert SAMPLER.suggest(PAPER, after, 1, 0) == [second]


def test_equal_losses_are_accepted() -> None:
    history = [observed(point, lambda _: 1.0) for point in plan(PAPER, 12, 0)]
    assert len(SAMPLER.suggest(PAPER, history, 4, 0)) == 4
