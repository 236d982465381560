"""Objectives: the way from values to costs and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.values.epoch import VALIDATION_ACCURACY, VALIDATION_BALANCED_ACCURACY_ERROR
from hpo.values.objective import LOSS, OBJECTIVES, Objective, metrics_among, own_metric

SCORE = Objective("score", "maximize", "score")
SHARES = [objective for objective in OBJECTIVES.values() if objective.values == "share"]


def test_loss_is_its_own_cost() -> None:
    assert (LOSS.cost(0.25), LOSS.value(0.25)) == (0.25, 0.25)


@pytest.mark.parametrize("objective", SHARES)
def test_cost_of_a_share_is_the_error(objective: Objective) -> None:
    assert objective.direction == "maximize"
    assert (objective.cost(1.0), objective.cost(0.75)) == (0.0, 0.25)
    assert objective.value(0.25) == 0.75


@given(st.sampled_from([*OBJECTIVES.values(), SCORE]), st.floats(0, 1), st.floats(0, 1))
def test_better_value_never_costs_more(objective: Objective, value: float, other: float) -> None:
    better, worse = max(value, other), min(value, other)
    if objective.direction == "minimize":
        better, worse = worse, better
    assert objective.cost(better) <= objective.cost(worse)
    assert objective.value(objective.cost(value)) == pytest.approx(value, abs=1e-15)


def test_metric_of_any_sign_is_negated() -> None:
    assert (SCORE.cost(-3.5), SCORE.cost(2.0)) == (3.5, -2.0)
    assert SCORE.may_be(-3.5)


def test_values_are_those_of_the_metrics_of_an_epoch() -> None:
    metrics = {VALIDATION_ACCURACY: 0.75, VALIDATION_BALANCED_ACCURACY_ERROR: 0.01}
    assert OBJECTIVES["accuracy"].of(metrics) == 0.75
    assert OBJECTIVES["accuracy"].cost_of(metrics) == 0.25
    assert OBJECTIVES["accuracy"].error_of(metrics) is None
    assert OBJECTIVES["macro_f1"].error_of(metrics) == 0.01
    assert SCORE.error_of(metrics) is None


def test_shares_are_shown_in_percent() -> None:
    assert OBJECTIVES["balanced_accuracy"].show(0.98765) == "98.77%"
    assert LOSS.show(0.98765) == "0.9877"
    assert OBJECTIVES["macro_f1"].title == "macro F1"
    assert Objective("val_f1", "maximize", "val_f1").title == "val_f1"


def test_metric_of_any_size_is_shown_with_six_digits() -> None:
    assert [SCORE.show(value) for value in (1234567.8, -0.5, 1.25e-7)] == ["1.23457e+06", "-0.5", "1.25e-07"]


def test_recorded_metrics_are_shown_beside_the_objective() -> None:
    recorded = [{"loss": 1.0, "score": 2.0}, {"score": 2.0, "val/loss": 0.5}]
    assert [metric.name for metric in SCORE.others(recorded)] == ["loss", "val/loss"]
    of_network = [{"train_loss": 2.0, "validation_loss": 1.0, "validation_mae": 0.5, "validation_worst": 3.0}]
    assert [metric.name for metric in LOSS.others(of_network)] == ["mae", "worst"]
    assert [metric.name for metric in LOSS.others([])] == ["accuracy", "macro_f1", "balanced_accuracy"]


def test_metrics_among_the_keys_of_an_epoch_leave_out_standard_errors() -> None:
    keys = ["train_loss", "validation_worst", "validation_r2", "validation_r2_error", "validation_loss"]
    names = [metric.name for metric in metrics_among([*keys, "validation_share_error"])]
    assert names == ["loss", "r2", "worst", "share_error"]


def test_own_metric_is_any_number_in_its_direction() -> None:
    score = own_metric("score", "maximize")
    assert (score.key, score.cost(-3.0), score.error_of({"validation_score": 1.0})) == (
        "validation_score",
        3.0,
        None,
    )
