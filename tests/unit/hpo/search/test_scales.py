"""The losses of costs: positive, in the order of the costs, and of a scale that curve models fit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.search.learning_curves import log_losses, predict_final_losses
from hpo.search.scales import SPREAD, scale_of
from hpo.values.objective import LOSS, OBJECTIVES, Objective

ACCURACY, SCORE = OBJECTIVES["accuracy"], Objective("score", "maximize", "score")
COSTS = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12)


def test_loss_is_itself() -> None:
    assert scale_of(LOSS, [{1: 0.5}])(1e-9) == 1e-9


def test_no_error_is_half_of_the_least_error() -> None:
    scale = scale_of(ACCURACY, [{1: 0.5, 2: 0.0}, {1: 0.02, 2: 1e-17}])
    assert (scale(0.5), scale(0.02)) == (0.5, 0.02)
    assert scale(0.0) == scale(1e-17) == 0.01


def test_study_without_an_error_has_a_scale() -> None:
    assert scale_of(ACCURACY, [{1: 0.0}])(0.0) == scale_of(ACCURACY, [])(0.0) == 0.5


def test_other_costs_are_standardised() -> None:
    curves = [{1: 1e6, 2: cost} for cost in (-30.0, -20.0, -10.0, 0.0, 10.0)]
    scale = scale_of(SCORE, curves)
    assert math.log(scale(-10.0)) == 0
    assert math.log(scale(0.0)) - math.log(scale(-20.0)) == pytest.approx(SPREAD)
    assert math.isfinite(scale(1e300))


@given(st.sampled_from([ACCURACY, SCORE]), COSTS)
def test_scales_keep_the_order_and_are_positive(objective: Objective, costs: list[float]) -> None:
    scale = scale_of(objective, [{1: cost} for cost in costs])
    losses = [scale(cost) for cost in sorted(costs)]
    assert losses == sorted(losses)
    assert all(0 < loss < math.inf for loss in losses)


@pytest.mark.parametrize("objective", [LOSS, ACCURACY, SCORE])
def test_cost_that_is_not_finite_stays_so(objective: Objective) -> None:
    scale = scale_of(objective, [{1: math.nan}, {1: 0.5, 2: math.inf}])
    assert not math.isfinite(scale(math.inf))
    assert math.isnan(scale(math.nan))


def test_curves_of_negative_scores_are_extrapolated_in_their_order() -> None:
    """A maximised metric of negative values: the trials that are ahead are predicted to end ahead."""
    rng = np.random.default_rng(0)
    ends = np.sort(rng.normal(-300, 50, 12))  # the last is the best
    scores = [{epoch: end - 200 / epoch for epoch in range(1, 5)} for end in ends]
    curves = [{epoch: SCORE.cost(value) for epoch, value in curve.items()} for curve in scores]
    scale = scale_of(SCORE, curves)
    logs = [log_losses({epoch: scale(cost) for epoch, cost in curve.items()}) for curve in curves]
    predicted, errors = predict_final_losses(logs, [None] * len(logs), 8)
    assert list(np.argsort(-predicted)) == list(range(12))
    assert np.isfinite(errors).all()
