"""The metrics of an evaluation equal those of scikit-learn."""

import warnings
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from hpo.training.metrics import VALIDATION_METRICS, Scores, validation_metrics
from hpo.values.epoch import (
    VALIDATION_ACCURACY,
    VALIDATION_ACCURACY_ERROR,
    VALIDATION_BALANCED_ACCURACY,
    VALIDATION_BALANCED_ACCURACY_ERROR,
    VALIDATION_LOSS,
    VALIDATION_LOSS_ERROR,
    VALIDATION_MACRO_F1,
)

CLASSES = 5


def metrics_of(
    labels: list[int], predictions: list[list[int]], losses: list[list[float]] | None = None
) -> list[dict[str, float]]:
    """Return the metrics of each member."""
    members = torch.tensor(losses or [[0.0] * len(labels)] * len(predictions), dtype=torch.float64)
    scores = Scores(members.sum(1), members.square().sum(1), torch.tensor(predictions))
    rows = validation_metrics(scores, torch.tensor(labels), CLASSES)
    assert rows.dtype == torch.float64
    return [dict(zip(VALIDATION_METRICS, column, strict=True)) for column in rows.T.tolist()]


@st.composite
def evaluations(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Draw labels and the predictions of three members. Classes may be in neither, or in one of them."""
    count = draw(st.integers(1, 30))
    classes = st.lists(st.integers(0, CLASSES - 1), min_size=count, max_size=count)
    return draw(classes), [draw(classes) for _ in range(3)]


@given(evaluations())
def test_metrics_equal_those_of_scikit_learn(evaluation: tuple[list[int], list[list[int]]]) -> None:
    labels, members = evaluation
    for predictions, metrics in zip(members, metrics_of(labels, members), strict=True):
        with warnings.catch_warnings():  # about classes that are predicted and not in the labels
            warnings.simplefilter("ignore")
            balanced = balanced_accuracy_score(labels, predictions)
            f1 = f1_score(labels, predictions, average="macro")
        assert metrics[VALIDATION_ACCURACY] == accuracy_score(labels, predictions)
        assert metrics[VALIDATION_BALANCED_ACCURACY] == pytest.approx(balanced, abs=1e-12)
        assert metrics[VALIDATION_MACRO_F1] == pytest.approx(f1, abs=1e-12)


def test_a_class_that_is_only_predicted_counts_in_f1_and_not_in_recall() -> None:
    (metrics,) = metrics_of([0, 0, 1, 1], [[0, 4, 1, 1]])
    assert metrics[VALIDATION_BALANCED_ACCURACY] == (0.5 + 1) / 2
    assert metrics[VALIDATION_MACRO_F1] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_standard_errors_are_those_of_means() -> None:
    losses = [0.1, 0.4, 0.7, 2.0]
    (metrics,) = metrics_of([0, 0, 0, 1], [[0, 0, 2, 1]], [losses])
    assert metrics[VALIDATION_LOSS] == pytest.approx(np.mean(losses))
    assert metrics[VALIDATION_LOSS_ERROR] == pytest.approx(np.std(losses, ddof=1) / 2)
    assert metrics[VALIDATION_ACCURACY_ERROR] == pytest.approx(sqrt(0.75 * 0.25 / 4))
    # Two of three images of one class are right, and the one image of the other.
    assert metrics[VALIDATION_BALANCED_ACCURACY_ERROR] == pytest.approx(sqrt(2 / 3 * 1 / 3 / 3) / 2)


def test_a_single_image_has_no_error() -> None:
    (metrics,) = metrics_of([3], [[3]], [[0.5]])
    assert metrics[VALIDATION_LOSS_ERROR] == metrics[VALIDATION_ACCURACY_ERROR] == 0


def test_a_member_with_nan_leaves_the_others_untouched() -> None:
    ill, well = metrics_of([0, 1], [[0, 0], [0, 1]], [[float("nan"), 0.5], [0.25, 0.75]])
    assert ill[VALIDATION_LOSS] != ill[VALIDATION_LOSS]
    assert (well[VALIDATION_LOSS], well[VALIDATION_ACCURACY]) == (0.5, 1)
