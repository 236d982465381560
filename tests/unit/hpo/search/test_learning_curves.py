import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.search.learning_curves import (
    CURVE_NOISE,
    PRIOR_DECAY,
    PRIOR_DECAY_ERROR,
    log_losses,
    predict_final_losses,
)


def power(loss: float, decay: float, epochs: int) -> npt.NDArray[np.float64]:
    """Return log losses that fall as epoch ** -decay."""
    curve: npt.NDArray[np.float64] = np.log(loss) - decay * np.log(np.arange(1, epochs + 1))
    return curve


def test_prior_decay_applies_before_any_curve_is_long() -> None:
    predicted, errors = predict_final_losses([power(2, 0, 1), power(3, 0, 1)], [0.001, 0.01], 5)
    np.testing.assert_allclose(predicted, np.log([2, 3]) - PRIOR_DECAY * math.log(5))
    assert errors[0] == pytest.approx(errors[1])
    assert errors[0] > math.hypot(PRIOR_DECAY_ERROR, CURVE_NOISE) * math.log(5) * 0.999


def test_short_curve_is_extrapolated_like_the_long_ones() -> None:
    long = [power(2 + index / 10, 0.7, 8) for index in range(20)]
    predicted, errors = predict_final_losses([*long, power(3, 0.7, 1), power(3, 0.7, 4)], [0.01] * 22, 8)
    truth = [curve[-1] for curve in (*long, power(3, 0.7, 8), power(3, 0.7, 8))]
    np.testing.assert_allclose(predicted, truth, atol=0.01)
    assert list(errors[:20]) == [0] * 20
    assert 0 < errors[21] < errors[20] < PRIOR_DECAY_ERROR * math.log(8)


def test_high_learning_rate_is_predicted_to_have_fallen_sooner() -> None:
    """Of two trials with equal losses, the one with the lower learning rate is predicted to end lower."""
    rates = [10.0**-power for power in (1, 2, 3, 4) for _ in range(5)]
    decays = [0.5 - 0.1 * (math.log(rate) - float(np.mean(np.log(rates)))) for rate in rates]
    long = [power(2, decay, 6) for decay in decays]
    predicted, _ = predict_final_losses([*long, power(2, 0, 1), power(2, 0, 1)], [*rates, 1e-1, 1e-4], 6)
    np.testing.assert_allclose(predicted[:20], [curve[-1] for curve in long])
    assert predicted[21] < predicted[20] - 0.5


def test_diverging_trial_hardly_changes_other_predictions() -> None:
    fine = [power(2, 0.4, 5) for _ in range(5)]
    wild = np.log([2.0, 1e6, 1e9])
    predicted, _ = predict_final_losses([*fine, wild, power(2, 0.4, 1)], [0.01] * 7, 5)
    assert predicted[6] == pytest.approx(power(2, 0.4, 5)[-1], abs=0.15)


@given(
    st.lists(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_predictions_and_errors_are_finite(losses: list[list[float]], seed: int) -> None:
    rates = np.exp(np.random.default_rng(seed).normal(-5, 2, len(losses)))
    predicted, errors = predict_final_losses([np.log(curve) for curve in losses], rates.tolist(), 6)
    assert np.isfinite(predicted).all()
    assert (errors >= 0).all()
    whole = [index for index, curve in enumerate(losses) if len(curve) == 6]
    np.testing.assert_allclose(predicted[whole], [math.log(losses[index][-1]) for index in whole])


def test_log_losses_end_at_a_missing_or_infinite_loss() -> None:
    np.testing.assert_allclose(log_losses({1: 1.0, 2: math.e, 4: 1.0}), [0, 1])
    assert log_losses({2: 1.0}).size == 0
    assert log_losses({1: 1.0, 2: math.nan, 3: 1.0}).size == 1
    assert np.isfinite(log_losses({1: 0.0})).all()
