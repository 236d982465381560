"""The criterion of numbers: metrics equal those of scikit-learn, losses are those of each example."""

from math import sqrt

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from torch import Tensor

from hpo.errors import InputError
from hpo.training.criterion import OwnFunction
from hpo.training.metrics import Scores
from hpo.training.regression import Regression

NUMBERS = st.floats(-1e3, 1e3, width=32)


def metrics_of(criterion: Regression, outputs: Tensor, targets: Tensor) -> list[dict[str, float]]:
    """Return the metrics of each member for its `outputs` `(M, N, ...)`."""
    scores = Scores.stack([criterion.score(output, targets) for output in outputs])
    rows = criterion.metrics(scores, targets)
    assert rows.dtype == torch.float64
    return [
        {key.removeprefix("validation_"): value for key, value in zip(criterion.names, column, strict=True)}
        for column in rows.T.tolist()
    ]


@given(
    array_shapes(min_dims=1, max_dims=2, min_side=2, max_side=7).flatmap(
        lambda shape: st.tuples(*[arrays(np.float32, shape, elements=NUMBERS)] * 3)
    )
)
def test_metrics_equal_those_of_scikit_learn(case: tuple[npt.NDArray[np.float32], ...]) -> None:
    targets, *members = case
    criterion = Regression(targets.shape[1:])
    outputs = torch.from_numpy(np.stack(members))
    for output, metrics in zip(
        members, metrics_of(criterion, outputs, torch.from_numpy(targets)), strict=True
    ):
        exact = targets.astype(np.float64), output.astype(np.float64)
        squared = mean_squared_error(*exact)
        assert metrics["rmse"] == pytest.approx(sqrt(squared), rel=1e-9, abs=1e-9)
        assert metrics["loss"] == pytest.approx(squared, rel=1e-4, abs=1e-4)
        assert metrics["mae"] == pytest.approx(mean_absolute_error(*exact), rel=1e-9, abs=1e-9)
        if np.ptp(targets.reshape(len(targets), -1), axis=0).min() > 1e-3:
            assert metrics["r2"] == pytest.approx(r2_score(*exact), rel=1e-6, abs=1e-6)


def test_standard_errors_are_those_of_means() -> None:
    targets, outputs = torch.tensor([0.0, 1.0, 2.0, 5.0]), torch.tensor([0.5, 1.0, 4.0, 4.0])
    (metrics,) = metrics_of(Regression(()), outputs[None], targets)
    squares, absolutes = np.array([0.25, 0, 4, 1]), np.array([0.5, 0, 2, 1])
    squared_error = np.std(squares, ddof=1) / 2
    assert metrics["loss_error"] == pytest.approx(squared_error)
    assert metrics["rmse_error"] == pytest.approx(squared_error / (2 * metrics["rmse"]))
    assert metrics["mae_error"] == pytest.approx(np.std(absolutes, ddof=1) / 2)
    assert metrics["r2_error"] == pytest.approx(squared_error / 3.5)  # the variance of the targets


def test_exact_predictions_have_no_error() -> None:
    targets = torch.tensor([[1.0, 7.0], [2.0, 7.0]])  # the second number is constant, and counts as 0
    (metrics,) = metrics_of(Regression((2,)), targets[None], targets)
    assert (metrics["rmse"], metrics["mae"], metrics["r2"]) == (0, 0, 0.5)
    assert metrics["rmse_error"] == metrics["mae_error"] == 0


def test_metrics_of_a_member_do_not_depend_on_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, targets = (torch.randn(size, 70_000, generator=generator) for size in (3, 1))
    criterion = Regression(())
    together = metrics_of(criterion, outputs, targets[0])
    assert together == [metrics_of(criterion, output[None], targets[0])[0] for output in outputs]


@pytest.mark.parametrize("target", [(), (1,)])
@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_a_column_of_outputs_stands_for_a_vector(target: tuple[int, ...], shape: tuple[int, ...]) -> None:
    criterion, targets = Regression(target), torch.arange(5.0).reshape(5, *target)
    outputs = torch.ones(shape)
    criterion.check_outputs("{}", (outputs, outputs), targets)
    assert criterion.training_loss(outputs, targets, {}).item() == (1 + 0 + 1 + 4 + 9) / 5
    assert criterion.score(outputs, targets)[2].shape == targets.shape


def test_outputs_of_another_shape_are_refused() -> None:
    right, wrong = torch.zeros(5, 2), torch.zeros(5, 3)
    with pytest.raises(InputError, match=r"^net gives \(5, 3\); it must give \(5, 2\)$"):
        Regression((2,)).check_outputs("net gives {}", (wrong, right), right)
    with pytest.raises(InputError, match=r"^net gives a list in training mode; it must give \(5, 2\)$"):
        Regression((2,)).check_outputs("net gives {}", (right, [right]), right)
    with pytest.raises(InputError, match=r"^net gives \(5, 2\); it must give \(5,\) or \(5, 1\)$"):
        Regression(()).check_outputs("net gives {}", (right, right), torch.zeros(5))


def test_own_loss_and_metrics_take_the_place_of_the_squared_error() -> None:
    absolute = OwnFunction("model.loss", "own:absolute", lambda outputs, targets: (outputs - targets).abs())
    worst = OwnFunction(
        "model.metrics.own", "own:worst", lambda outputs, targets: float((outputs - targets).abs().max())
    )
    criterion = Regression((), own_loss=absolute, own_metrics={"worst": worst})
    targets, outputs = torch.zeros(4), torch.tensor([[1.0, -2.0, 0.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
    assert criterion.training_loss(outputs[0][:, None], targets, {}).item() == 2
    first, second = metrics_of(criterion, outputs, targets)
    assert (first["loss"], first["mae"], first["worst"], second["worst"]) == (2, 2, 5, 1)
    assert first["loss_error"] == first["mae_error"]
