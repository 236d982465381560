import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from support.gp_spaces import SPACES, WIDE
from support.spaces import PAPER

from hpo.search.coordinates import unit_coordinates
from hpo.search.gp import SPREAD, final_losses
from hpo.search.samplers.base import Observation
from hpo.search.samplers.points import plan
from hpo.values.space import SearchSpace

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL

POINT = PAPER.point_at(0)


def of(*losses: float, state: TrialState = PRUNED) -> Observation:
    return Observation(POINT, state, losses[-1] if losses else None, dict(enumerate(losses, 1)))


def test_short_curve_is_extrapolated_like_the_long_ones() -> None:
    long = [of(4.0, 2.0, 1.0, state=COMPLETE), of(8.0, 4.0, 3.0, state=COMPLETE), of(4.0, 2.0, 1.5)]
    losses, errors = final_losses([*long, of(4.0), of(4.0, 2.0)])
    np.testing.assert_allclose(np.exp(losses[:3]), [1, 3, 1.5])
    assert math.log(4) > losses[3] > losses[4] > math.log(1)
    assert list(errors[:3]) == [0, 0, 0]
    assert 0 < errors[4] < errors[3]


def test_failed_trial_gets_the_worst_loss() -> None:
    losses, _ = final_losses([of(1.0), of(2.0), of(3.0), of(state=FAIL), of(2.5, math.nan, state=FAIL)])
    assert losses[3] == losses[4] == losses.max()


def test_bad_losses_are_clipped() -> None:
    losses, _ = final_losses([of(1.0), of(1.1), of(1.2), of(1e9)])
    middle = np.median([0, math.log(1.1), math.log(1.2), math.log(1e9)])
    assert losses.max() == pytest.approx(middle * (1 + SPREAD))


@given(st.sampled_from(SPACES), st.integers(0, 2**32 - 1))
def test_coordinates_lie_in_the_unit_interval(space: SearchSpace, seed: int) -> None:
    at = unit_coordinates(space)
    for point in plan(space, 20, seed):
        assert np.all((at(point) >= -1e-12) & (at(point) <= 1 + 1e-12))


def test_equal_effective_lrs_share_a_coordinate() -> None:
    at = unit_coordinates(PAPER)
    point = {"lr": 1e-2, "batch_size": 32, "momentum": 0.0, "weight_decay": 0.0}
    momentum_point = {"lr": 1e-3, "batch_size": 32, "momentum": 0.9, "weight_decay": 0.0}
    assert at(point)[0] == pytest.approx(at(momentum_point)[0])
    assert at(point)[2] != at(momentum_point)[2]


def test_constant_parameter_has_no_coordinate() -> None:
    assert len(unit_coordinates(PAPER)(POINT)) == 4
    point = {"lr": 1e-2, "batch_size": 32, "momentum": 0.5, "weight_decay": 0.0}
    assert len(unit_coordinates(WIDE)(point)) == 3


def test_weight_decay_choices_enter_by_rank() -> None:
    at = unit_coordinates(PAPER)
    values = [at({**POINT, "weight_decay": decay})[3] for decay in (0.0, 1e-4, 1e-3, 1e-2)]
    assert values == pytest.approx([0, 1 / 3, 2 / 3, 1])
