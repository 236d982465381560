import json
import string

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from hpo.data.mnist import BY_CLASS
from hpo.export.analysis.error_analysis import OTHERS, ErrorAnalysis, analyse
from hpo.export.analysis.folding import folding_of
from hpo.export.analysis.predictions import Predictions

CLASSES = ("0", "O", "o", "x")
LABELS = np.array([0, 1, 1, 1, 2, 3])
PROBABILITIES = np.array(
    [
        [0.6, 0.4, 0.0, 0.0],  # 0, right
        [0.5, 0.3, 0.2, 0.0],  # O taken for 0
        [0.1, 0.7, 0.2, 0.0],  # O, right
        [0.1, 0.3, 0.6, 0.0],  # O taken for o
        [0.0, 0.8, 0.1, 0.1],  # o taken for O
        [0.9, 0.1, 0.0, 0.0],  # x taken for 0
    ],
    dtype=np.float32,
)


def test_six_images_by_hand() -> None:
    actual = analyse(Predictions.of(LABELS, PROBABILITIES), CLASSES)
    assert (actual.n, actual.errors, actual.accuracy) == (6, 4, 2 / 6)
    assert [(pair.classes, pair.forward, pair.backward, pair.errors) for pair in actual.pairs] == [
        (("O", "o"), 1, 1, 2),
        (("0", "O"), 0, 1, 1),
        (("0", "x"), 0, 1, 1),
    ]
    assert [pair.share for pair in actual.pairs] == [2 / 4, 1 / 4, 1 / 4]
    assert [pair.rate for pair in actual.pairs] == [2 / 4, 1 / 4, 1 / 2]
    (case,) = actual.case_pairs
    assert case == actual.pairs[0]
    assert case.guess == 1  # three O, one o
    assert [(group.title, group.errors, group.share) for group in actual.groups] == [
        ("letter case, one shape", 2, 2 / 4),
        ("0/O/o, other than case", 1, 1 / 4),
        (OTHERS, 1, 1 / 4),
    ]
    assert [group.forgiven for group in actual.groups] == [4 / 6, 5 / 6, 1]
    # Always O instead of o: one error of six. Always O for 0, O and o: two errors.
    assert [group.ceiling for group in actual.groups] == [1 - 1 / 6, 1 - 2 / 6, None]
    assert [(row.unknown, row.sets, row.accuracy) for row in actual.ceilings] == [
        ("letter case", (("O", "o"),), 1 - 1 / 6),
        ("letter case or 0/O/o", (("0", "O", "o"),), 1 - 2 / 6),
    ]
    assert actual.folded is None
    squares = [0.32, 0.25 + 0.49 + 0.04, 0.01 + 0.09 + 0.04, 0.01 + 0.49 + 0.36, 0.64 + 0.81 + 0.01, 1.82]
    assert actual.calibration.brier == pytest.approx(sum(squares) / 6)


def test_perfect_predictions_have_no_pairs() -> None:
    actual = analyse(Predictions.of(np.array([0, 1]), np.eye(2, dtype=np.float32)), ("a", "b"))
    assert (actual.accuracy, actual.errors, actual.pairs, actual.ceilings) == (1, 0, (), ())
    assert [(group.title, group.errors, group.share) for group in actual.groups] == [(OTHERS, 0, 0)]
    assert actual.calibration.ece == actual.calibration.brier == 0


def random_case(
    data: st.DataObject,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], tuple[str, ...]]:
    letters = st.sampled_from(string.digits + string.ascii_letters + "äÄß")
    classes = tuple(data.draw(st.lists(letters, min_size=2, max_size=70, unique=True)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n = data.draw(st.integers(1, 200))
    probabilities = rng.dirichlet(np.full(len(classes), 0.1), n).astype(np.float32)
    return rng.integers(len(classes), size=n), probabilities, classes


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_shares_add_up(data: st.DataObject) -> None:
    labels, probabilities, classes = random_case(data)
    actual = analyse(Predictions.of(labels, probabilities), classes)
    assert sum(group.errors for group in actual.groups) == actual.errors
    assert actual.groups[-1].forgiven == 1
    if actual.errors:
        assert sum(group.share for group in actual.groups) == pytest.approx(1)
    pairs = [pair.errors for pair in actual.pairs]
    assert pairs == sorted(pairs, reverse=True)
    assert sum(pairs) == actual.errors or len(pairs) == 50
    assert all(pair.errors == pair.forward + pair.backward for pair in actual.pairs)
    ceilings = [row.accuracy for row in actual.ceilings]
    assert ceilings == sorted(ceilings, reverse=True)
    assert sum(row.count for row in actual.calibration.bins) == actual.n
    text = json.dumps(actual.to_json(), allow_nan=False)
    assert TypeAdapter(ErrorAnalysis).validate_json(text) == actual


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_batches_make_no_difference(data: st.DataObject) -> None:
    labels, probabilities, classes = random_case(data)
    whole = Predictions.of(labels, probabilities)
    cut = data.draw(st.integers(0, len(labels)))
    parts = [Predictions.of(labels[rows], probabilities[rows]) for rows in (slice(cut), slice(cut, None))]
    joined = Predictions.join(parts)
    for column in ("labels", "predicted", "confidence", "true_class"):
        assert np.array_equal(getattr(joined, column), getattr(whole, column))
    assert joined.square_error == pytest.approx(whole.square_error, abs=1e-6)
    assert np.array_equal(joined.confusion(len(classes)), whole.confusion(len(classes)))


def test_by_class_is_folded_to_by_merge() -> None:
    classes = tuple(BY_CLASS)
    c, big_c, a, zero = (BY_CLASS.index(name) for name in "cCa0")
    probabilities = np.zeros((3, 62), dtype=np.float32)
    probabilities[0, [c, big_c]] = 0.6, 0.4  # C taken for c: right once folded
    probabilities[1, [c, big_c, a]] = 0.3, 0.3, 0.4  # c taken for a: the sum of both cases is right
    probabilities[2, [a, zero]] = 0.6, 0.4  # 0 taken for a: wrong in any way
    labels = np.array([big_c, c, zero])
    predictions = Predictions.of(labels, probabilities, folding_of(classes))
    folded = analyse(predictions, classes).folded
    assert folded is not None
    assert (folded.title, folded.classes) == ("the 47 classes of EMNIST ByMerge", 47)
    assert (folded.of_sums.accuracy, folded.of_predictions.accuracy) == (2 / 3, 1 / 3)
    low, high = folded.of_sums.interval
    assert 0 < low < 2 / 3 < high < 1
