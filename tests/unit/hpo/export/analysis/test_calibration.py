import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.export.analysis.calibration import calibration
from hpo.export.analysis.predictions import Predictions


def two_classes(confidence: list[float], correct: list[bool]) -> Predictions:
    sure = np.array(confidence, dtype=np.float32)
    labels = np.where(correct, 0, 1)
    return Predictions.of(labels, np.stack([sure, 1 - sure], axis=1))


def test_bins_by_hand() -> None:
    found = calibration(two_classes([0.55, 0.6, 0.9, 1.0], [True, False, True, True]), bins=5)
    # float32 0.6 is just above 0.6: the bins are (0.4, 0.6], (0.6, 0.8] and (0.8, 1].
    assert [row.count for row in found.bins] == [0, 0, 1, 1, 2]
    assert [row.accuracy for row in found.bins] == [None, None, 1, 0, 1]
    assert found.bins[4].confidence == pytest.approx(0.95)
    assert found.bins[4].interval == pytest.approx((0.342, 1), abs=1e-3)
    assert found.ece == pytest.approx((0.45 + 0.6 + 2 * 0.05) / 4)
    assert found.excess == pytest.approx((0.55 + 0.6 + 0.9 + 1) / 4 - 3 / 4)
    brier = [2 * 0.45**2, 2 * 0.6**2, 2 * 0.1**2, 0]
    assert found.brier == pytest.approx(sum(brier) / 4)


@given(st.lists(st.tuples(st.floats(0.5, 1), st.booleans()), min_size=1, max_size=300), st.integers(1, 30))
@settings(max_examples=60)
def test_error_is_that_of_a_plain_loop(rows: list[tuple[float, bool]], bins: int) -> None:
    predictions = two_classes([row[0] for row in rows], [row[1] for row in rows])
    right = predictions.predicted == predictions.labels
    expected = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        members = [i for i, sure in enumerate(predictions.confidence.tolist()) if low < sure <= high]
        if members:
            accuracy = sum(right[i] for i in members) / len(members)
            sure = sum(predictions.confidence[i] for i in members) / len(members)
            expected += len(members) / len(rows) * abs(accuracy - sure)
    assert calibration(predictions, bins).ece == pytest.approx(expected, abs=1e-6)


def test_calibrated_predictions_have_the_error_of_chance() -> None:
    rng = np.random.default_rng(0)
    errors, chance, spread = [], [], []
    for _ in range(100):
        sure = rng.uniform(0.5, 1, 1000)
        found = calibration(two_classes(sure.tolist(), (rng.random(1000) < sure).tolist()))
        errors.append(found.ece)
        chance.append(found.ece_chance)
        spread.append(found.ece_error)
    assert np.mean(errors) == pytest.approx(np.mean(chance), rel=0.1)
    assert np.std(errors) < np.mean(spread)  # the signs of the gaps are unknown here


def test_error_of_the_calibration_error_is_its_spread() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        sure = rng.uniform(0.6, 1, 2000)
        found.append(calibration(two_classes(sure.tolist(), (rng.random(2000) < sure - 0.3).tolist()), 5))
    spread = float(np.std([row.ece for row in found]))
    assert np.mean([row.ece_error for row in found]) == pytest.approx(spread, rel=0.2)
    assert found[0].excess > 0.2
    assert math.isclose(found[0].ece, found[0].excess)
