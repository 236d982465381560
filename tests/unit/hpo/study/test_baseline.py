"""The comparison of the best trial with the baseline."""

from collections.abc import Mapping
from math import sqrt

import pytest
from optuna.trial import TrialState
from support.study_file import TEXT, load

from hpo.store.records import TrialRecord
from hpo.store.trials import TrialRow
from hpo.study.baseline import DEVIATIONS, compare
from hpo.study.study import Study
from hpo.values.epoch import VALIDATION_ACCURACY_ERROR, VALIDATION_LOSS_ERROR

BASELINE = "[baseline]\nlr = 0.01\nbatch_size = 32\nmomentum = 0.9\n"
POINT = {"lr": 0.01, "batch_size": 32, "momentum": 0.9, "weight_decay": 0.0}
OTHER = {**POINT, "lr": 0.001}


def study(metric: str = "loss") -> Study:
    spec = load(TEXT + BASELINE + f'[objective]\nmetric = "{metric}"\n')
    return Study(spec, 1, 2, "0" * 8, spec.fingerprint)


def row(
    number: int,
    value: float | None,
    metrics: Mapping[str, float] | None = None,
    state: TrialState = TrialState.COMPLETE,
) -> TrialRow:
    """Return a trial; trial 0 is at the baseline."""
    record = TrialRecord(number, metrics={} if metrics is None else metrics)
    return TrialRow(number, number, state, OTHER if number else POINT, record, value)


def described(metric: str, *rows: TrialRow) -> str:
    comparison = compare(study(metric), rows)
    assert comparison is not None
    return comparison.describe()


def test_interval_adds_the_errors_of_both_trials() -> None:
    error = {VALIDATION_LOSS_ERROR: 0.03}
    comparison = compare(study(), [row(0, 0.5, error), row(1, 0.3, {VALIDATION_LOSS_ERROR: 0.04})])
    assert comparison is not None
    assert comparison.gain == pytest.approx(0.2)
    assert comparison.half_width == pytest.approx(DEVIATIONS * 0.05)
    assert comparison.is_better
    assert (
        comparison.describe()
        == "trial 1 is better than your baseline (trial 0, loss 0.5000): by 0.2000 ± 0.0980"
    )


def test_shares_are_compared_in_percentage_points() -> None:
    error = {VALIDATION_ACCURACY_ERROR: 0.01}
    words = described("accuracy", row(0, 0.9, error), row(1, 0.92, error), row(2, 0.5, error))
    figures = f"by 2.00 ± {100 * DEVIATIONS * sqrt(2) * 0.01:.2f} percentage points"
    assert words == (
        f"trial 1 is not known to be better than your baseline (trial 0, accuracy 90.00%): {figures}"
    )


def test_gain_without_errors_is_not_known_to_be_one() -> None:
    comparison = compare(study(), [row(0, 0.5), row(1, 0.3)])
    assert comparison is not None
    assert (comparison.half_width, comparison.is_better) == (None, False)
    assert comparison.describe().endswith("by 0.2000, with an unknown error")


def test_baseline_may_be_the_best() -> None:
    assert described("loss", row(0, 0.2), row(1, 0.3)) == (
        "no trial is better than your baseline (trial 0, loss 0.2000)"
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (TrialState.RUNNING, "has not ended yet"),
        (TrialState.WAITING, "has not ended yet"),
        (TrialState.FAIL, "did not complete"),
    ],
)
def test_baseline_that_has_not_completed(state: TrialState, words: str) -> None:
    assert described("loss", row(0, None, state=state), row(1, 0.3)) == f"your baseline (trial 0) {words}"


def test_study_without_a_baseline_has_no_comparison() -> None:
    spec = load()
    plain = Study(spec, 1, 2, "0" * 8, spec.fingerprint)
    assert compare(plain, [row(0, 0.5)]) is None
    assert compare(study(), [row(1, 0.5)]) is None
