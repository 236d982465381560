"""The results of an exported model as an artifact."""

import numpy as np
import pytest
from support.artifacts import MemoryStore, away

from hpo.errors import ArtifactError, AwayError
from hpo.export.evaluation import Evaluation
from hpo.export.metrics import RegressionMetrics
from hpo.export.results import Results, check_writable, read_results, write_results
from hpo.export.scoring import metrics

NAME = "test/trial-0000-1.safetensors"
CLASSES = ("0", "A", "ä")
LABELS = np.array([2, 0, 1])
PROBABILITIES = np.array([[0.1, 0.3, 0.6], [0.5, 0.25, 0.25], [0.7, 0.2, 0.1]], dtype=np.float32)


def test_results_of_classes_are_read_back_exactly() -> None:
    store = MemoryStore()
    measured = metrics(LABELS, PROBABILITIES, CLASSES)
    evaluation = Evaluation(LABELS, PROBABILITIES, CLASSES)
    results = Results(measured, {"validation_loss": 0.1}, {"validation_loss": 0.2}, evaluation)
    assert read_results(store, NAME) is None
    write_results(store, NAME, results)
    read = read_results(store, NAME)
    assert read is not None
    assert (read.metrics, read.validation, read.unshifted) == (
        measured,
        results.validation,
        results.unshifted,
    )
    assert read.evaluation is not None
    assert read.evaluation.classes == CLASSES
    np.testing.assert_array_equal(read.evaluation.labels, LABELS)
    np.testing.assert_array_equal(read.evaluation.probabilities, PROBABILITIES)
    assert metrics(read.evaluation.labels, read.evaluation.probabilities, CLASSES) == measured


def test_results_of_numbers_have_no_evaluation() -> None:
    store = MemoryStore()
    measured = RegressionMetrics(9, 4.0, 2.0, 1.5, 0.5, 0.1, 0.2, 0.3, 0.4, {"nothing": None})
    write_results(store, NAME, Results(measured, {}))
    read = read_results(store, NAME)
    assert read is not None
    assert (read.metrics, read.evaluation, read.unshifted) == (measured, None, None)


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"pickle"])
def test_damaged_results_are_an_error_of_one_line(content: bytes) -> None:
    store = MemoryStore()
    store.put(NAME, content)
    with pytest.raises(ArtifactError, match=rf"^{NAME}: damaged test results \(\w+\)$"):
        read_results(store, NAME)


def test_probe_leaves_nothing_and_finds_a_store_that_is_away() -> None:
    store = MemoryStore()
    check_writable(store)
    assert store.files == {}
    store.before = away
    with pytest.raises(AwayError):
        check_writable(store)
