"""The metrics of an evaluation of classes: sums over batches, and what follows at the end of an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo.values.epoch import (
    VALIDATION_ACCURACY,
    VALIDATION_ACCURACY_ERROR,
    VALIDATION_BALANCED_ACCURACY,
    VALIDATION_BALANCED_ACCURACY_ERROR,
    VALIDATION_LOSS,
    VALIDATION_LOSS_ERROR,
    VALIDATION_MACRO_F1,
)

VALIDATION_METRICS = (
    VALIDATION_LOSS,
    VALIDATION_ACCURACY,
    VALIDATION_MACRO_F1,
    VALIDATION_BALANCED_ACCURACY,
    VALIDATION_LOSS_ERROR,
    VALIDATION_ACCURACY_ERROR,
    VALIDATION_BALANCED_ACCURACY_ERROR,
)
"""The names of the rows of `validation_metrics`, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The evaluation of M members on B examples.

    `losses` and `squares`: the sums of the losses and of their squares, `(M,)` float64. `predictions`: what
    the metrics need, which is classes `(M, B)` int64, or the outputs of the networks `(M, B, ...)`.
    """

    losses: Tensor
    squares: Tensor
    predictions: Tensor

    @classmethod
    def stack(cls, members: Sequence[Sequence[Tensor]]) -> "Scores":
        """Return the scores of members from those of each: `()`, `()` and `(B, ...)`."""
        losses, squares, predictions = map(torch.stack, zip(*members, strict=True))
        return cls(losses, squares, predictions)


def validation_metrics(scores: Scores, labels: Tensor, classes: int) -> Tensor:
    """Return the `VALIDATION_METRICS` of M members on all validation images, `(7, M)` float64.

    `labels`: `(N,)`. The predictions of `scores` are classes. Does not wait for the device. The standard
    errors are those of a mean of N independent images: of the loss from the squares, of the accuracy by the
    binomial distribution. That of the balanced accuracy is binomial within each class.
    """
    count = len(labels)
    loss, loss_error = loss_moments(scores, count)
    hits = scores.predictions == labels  # (M, N)
    accuracy = hits.sum(1, dtype=torch.float64) / count
    support = _counts(labels[None], torch.ones_like(labels[None], dtype=torch.float64), classes)  # (1, C)
    predicted = _counts(scores.predictions, torch.ones_like(hits, dtype=torch.float64), classes)  # (M, C)
    correct = _counts(scores.predictions, hits.double(), classes)  # (M, C)
    # A class in neither labels nor predictions has no F1 score.
    either = support + predicted
    f1 = _mean(2 * correct / either.clamp(min=1), either > 0)
    recalls, present = correct / support.clamp(min=1), support > 0
    variances = recalls * (1 - recalls) / support.clamp(min=1)
    return torch.stack(
        [
            loss,
            accuracy,
            f1,
            _mean(recalls, present),
            loss_error,
            (accuracy * (1 - accuracy) / count).sqrt(),
            variances.sum(1).sqrt() / present.sum(),
        ]
    )


def loss_moments(scores: Scores, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean loss of `count` examples, and the standard error of the mean, both `(M,)`."""
    loss = scores.losses / count
    spread = (scores.squares / count - loss**2).clamp(min=0)
    return loss, (spread / max(1, count - 1)).sqrt()


def _counts(classes_of_images: Tensor, weights: Tensor, classes: int) -> Tensor:
    """Return the sums of `weights` `(M, N)` by class, `(M, classes)`. Sums of ones are exact in any order."""
    sums = weights.new_zeros(len(classes_of_images), classes)
    return sums.scatter_add_(1, classes_of_images, weights)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean over the `chosen` classes, `(M,)`."""
    return (values * chosen).sum(1) / chosen.sum(1)
