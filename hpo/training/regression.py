"""The criterion of numbers: squared errors, absolute errors, and the explained variance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hpo.errors import InputError
from hpo.training.criterion import Criterion, describe, shape_of
from hpo.training.loss import in_float32
from hpo.training.metrics import Scores, loss_moments
from hpo.training.weights import Tensors
from hpo.values.epoch import (
    VALIDATION_LOSS,
    VALIDATION_LOSS_ERROR,
    VALIDATION_MAE,
    VALIDATION_MAE_ERROR,
    VALIDATION_R2,
    VALIDATION_R2_ERROR,
    VALIDATION_RMSE,
    VALIDATION_RMSE_ERROR,
)


@dataclass(frozen=True)
class Regression(Criterion):
    """Outputs `(B,)` or `(B, K)` for targets of the same shape. `(B, 1)` and `(B,)` stand for each other.

    The loss of an example is the mean squared error over the K numbers. `target`: the shape of a target, `()`
    or `(K,)`.
    """

    target: tuple[int, ...]

    built_in = (
        VALIDATION_LOSS,
        VALIDATION_RMSE,
        VALIDATION_MAE,
        VALIDATION_R2,
        VALIDATION_LOSS_ERROR,
        VALIDATION_RMSE_ERROR,
        VALIDATION_MAE_ERROR,
        VALIDATION_R2_ERROR,
    )

    @property
    def target_axes(self) -> int:
        return len(self.target)

    def training_loss(self, output: Tensor, targets: Tensor, settings: Tensors) -> Tensor:  # noqa: ARG002 (no setting applies)
        return self._losses(self.as_given(in_float32(output), targets), targets).mean()

    def score(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.as_given(output, targets)
        losses = self._losses(output, targets)
        return losses.sum(dtype=torch.float64), losses.double().square().sum(), output

    def check_outputs(self, title: str, outputs: tuple[object, object], targets: Tensor) -> None:
        count = len(targets)
        allowed = [tuple(targets.shape)]
        if self.target in ((), (1,)):
            allowed = [(count,), (count, 1)]
        for output, mode in zip(outputs, ("", " in training mode"), strict=True):
            if shape_of(output) not in allowed:
                rule = " or ".join(map(str, allowed))
                raise InputError(f"{title.format(describe(output))}{mode}; it must give {rule}")

    def as_given(self, output: Tensor, targets: Tensor) -> Tensor:
        return output.reshape(targets.shape)

    def balanced_weights(self, targets: Tensor) -> Tensor:  # noqa: ARG002 (there are none)
        raise TypeError("numbers have no classes")

    def _losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each example, `(B,)`."""
        if self.own_loss is not None:
            losses: Tensor = self.own_loss(outputs, targets)
            return losses
        return _per_example((outputs - targets).square())

    def _metrics(self, scores: Scores, targets: Tensor) -> Tensor:
        loss, loss_error = loss_moments(scores, len(targets))
        # Member by member: a sum over a matrix may add in another order in another pack.
        rows = torch.stack([_errors(outputs, targets) for outputs in scores.predictions], dim=1)  # (6, M)
        return torch.stack([loss, *rows[:3], loss_error, *rows[3:]])


def _errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return RMSE, MAE and R2 of one member, then their standard errors, `(6,)` float64.

    R2 is the mean over the numbers of a target, as of `sklearn.metrics.r2_score`. A number that is constant
    in the targets counts as 0. The errors are those of means of independent examples. That of the RMSE
    follows from the derivative of the root, and that of R2 takes the variance of the targets for given.
    """
    exact = targets.double()
    differences = outputs.double() - exact
    variance = (exact - exact.mean(0)).square().mean(0)  # () or (K,)
    shares = torch.where(exact.amin(0) < exact.amax(0), differences.square() / variance, 1.0)
    squared, squared_error = _moments(_per_example(differences.square()))
    absolute, absolute_error = _moments(_per_example(differences.abs()))
    unexplained, unexplained_error = _moments(_per_example(shares))
    rmse = squared.sqrt()
    rmse_error = torch.where(rmse > 0, squared_error / (2 * rmse), 0.0)
    return torch.stack([rmse, absolute, 1 - unexplained, rmse_error, absolute_error, unexplained_error])


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of values `(N,)`, and the standard error of the mean."""
    mean = values.mean()
    return mean, ((values - mean).square().mean() / max(1, len(values) - 1)).sqrt()


def _per_example(values: Tensor) -> Tensor:
    """Return the mean of the numbers of each example, `(N,)`."""
    return values if values.ndim == 1 else values.mean(1)
