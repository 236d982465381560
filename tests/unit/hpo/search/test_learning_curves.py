"""How curves are taken to go on."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.search.learning_curves import FALL, FALL_ERROR, OWN, expected_ends, logarithms


def power(loss: float, rate: float, epochs: int) -> npt.NDArray[np.float64]:
    """The logarithms of a loss that falls as the epoch to the power of -rate."""
    curve: npt.NDArray[np.float64] = np.log(loss) - rate * np.log(np.arange(1, epochs + 1))
    return curve


def test_before_any_has_gone_on_all_fall_alike() -> None:
    ends, errors = expected_ends([power(2, 0, 1), power(3, 0, 1)], [0.001, 0.01], 5)
    np.testing.assert_allclose(ends, np.log([2, 3]) - FALL * math.log(5))
    assert errors[0] == pytest.approx(errors[1])
    assert errors[0] > math.hypot(FALL_ERROR, OWN) * math.log(5) * 0.999


def test_a_short_curve_goes_on_as_the_long_ones_did() -> None:
    long = [power(2 + place / 10, 0.7, 8) for place in range(20)]
    ends, errors = expected_ends([*long, power(3, 0.7, 1), power(3, 0.7, 4)], [0.01] * 22, 8)
    truth = [curve[-1] for curve in (*long, power(3, 0.7, 8), power(3, 0.7, 8))]
    np.testing.assert_allclose(ends, truth, atol=0.01)
    assert list(errors[:20]) == [0] * 20
    assert 0 < errors[21] < errors[20] < FALL_ERROR * math.log(8)


def test_longer_steps_have_fallen_sooner() -> None:
    """Of two that stand at one loss, the one with the shorter step is expected to end lower."""
    steps = [10.0**-power for power in (1, 2, 3, 4) for _ in range(5)]
    rates = [0.5 - 0.1 * (math.log(step) - float(np.mean(np.log(steps)))) for step in steps]
    long = [power(2, rate, 6) for rate in rates]
    ends, _ = expected_ends([*long, power(2, 0, 1), power(2, 0, 1)], [*steps, 1e-1, 1e-4], 6)
    np.testing.assert_allclose(ends[:20], [curve[-1] for curve in long])
    assert ends[21] < ends[20] - 0.5


def test_one_that_diverges_tells_little_of_the_others() -> None:
    fine = [power(2, 0.4, 5) for _ in range(5)]
    wild = np.log([2.0, 1e6, 1e9])
    ends, _ = expected_ends([*fine, wild, power(2, 0.4, 1)], [0.01] * 7, 5)
    assert ends[6] == pytest.approx(power(2, 0.4, 5)[-1], abs=0.15)


@given(
    st.lists(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_ends_and_errors_are_finite(losses: list[list[float]], seed: int) -> None:
    steps = np.exp(np.random.default_rng(seed).normal(-5, 2, len(losses)))
    ends, errors = expected_ends([np.log(curve) for curve in losses], steps.tolist(), 6)
    assert np.isfinite(ends).all()
    assert (errors >= 0).all()
    whole = [place for place, curve in enumerate(losses) if len(curve) == 6]
    np.testing.assert_allclose(ends[whole], [math.log(losses[place][-1]) for place in whole])


def test_logarithms_end_where_a_loss_is_missing_or_not_finite() -> None:
    np.testing.assert_allclose(logarithms({1: 1.0, 2: math.e, 4: 1.0}), [0, 1])
    assert logarithms({2: 1.0}).size == 0
    assert logarithms({1: 1.0, 2: math.nan, 3: 1.0}).size == 1
    assert np.isfinite(logarithms({1: 0.0})).all()
