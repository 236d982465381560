"""The result of one epoch of one trial."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TRAIN_LOSS, VALIDATION_LOSS, VALIDATION_ACCURACY = "train_loss", "validation_loss", "validation_accuracy"
VALIDATION_MACRO_F1, VALIDATION_BALANCED_ACCURACY = "validation_macro_f1", "validation_balanced_accuracy"
"""The metrics of the built-in training. Losses are means per example, the others are shares.

The F1 score is the mean over the classes in labels or predictions. The balanced accuracy is the mean recall
over the classes in labels.
"""

VALIDATION_LOSS_ERROR, VALIDATION_ACCURACY_ERROR = "validation_loss_error", "validation_accuracy_error"
VALIDATION_BALANCED_ACCURACY_ERROR = "validation_balanced_accuracy_error"
"""The standard errors of metrics, as the validation images are a sample."""

VALIDATION_RMSE, VALIDATION_RMSE_ERROR = "validation_rmse", "validation_rmse_error"
VALIDATION_MAE, VALIDATION_MAE_ERROR = "validation_mae", "validation_mae_error"
VALIDATION_R2, VALIDATION_R2_ERROR = "validation_r2", "validation_r2_error"
"""The metrics of a regression beside the loss: root of the mean squared error, mean absolute error, and the
coefficient of determination."""

Metrics = Mapping[str, float]
"""The metrics of one epoch by name."""

METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,63}")
"""The form of the name of a metric of a user, such as `accuracy` or `val/loss`."""


@dataclass(frozen=True, slots=True)
class EpochResult:
    """The result of one epoch for one member of a pack.

    `epoch` counts from 1 over all phases of the budget, `phase` from 0. `seconds` and `evaluation_seconds`
    are the member's share of the device time that the pack took to train and to evaluate. Evaluation that
    overlaps with steps of the next epoch counts as training. `kept_epoch` is the epoch whose weights are the
    result so far. `status`: the member trains on, has used up the budget, or has a metric that is not finite.
    """

    member: int
    epoch: int
    metrics: Metrics
    seconds: float
    evaluation_seconds: float
    status: Literal["training", "finished", "diverged"]
    kept_epoch: int
    phase: int = 0

    @property
    def device_seconds(self) -> float:
        """Return the device seconds of training and evaluation together."""
        return self.seconds + self.evaluation_seconds


def are_finite(metrics: Metrics) -> bool:
    """Return whether all metrics are finite numbers."""
    return all(map(math.isfinite, metrics.values()))


def validation_key(name: str) -> str:
    """Return the key of a metric of the validation part among the metrics of an epoch."""
    return f"validation_{name}"
