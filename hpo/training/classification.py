"""The criterion of classes: cross entropy, accuracy, and metrics that treat all classes alike."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from hpo.errors import InputError
from hpo.training.criterion import Criterion, describe, shape_of
from hpo.training.loss import balanced_weights, over_heads, training_loss
from hpo.training.metrics import VALIDATION_METRICS, Scores, validation_metrics
from hpo.training.weights import Tensors


@dataclass(frozen=True)
class Classification(Criterion):
    """Logits `(B, classes)` for labels `(B,)`.

    A network may return `(B, heads, classes)` in training mode. Its loss is then the sum over the heads.

    `classes`: the number of classes. Losses and scores do not depend on it.
    """

    classes: int = 0

    built_in = VALIDATION_METRICS

    def training_loss(self, output: Tensor, targets: Tensor, settings: Tensors) -> Tensor:
        loss = self.own_loss
        if loss is None:
            return training_loss(output, targets, settings)
        return over_heads(output, targets, lambda logits, labels: loss(logits, labels).mean())

    def score(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.own_loss is None:
            losses = F.cross_entropy(output, targets, reduction="none")  # (B,)
        else:
            losses = self.own_loss(output, targets)
        return (
            losses.sum(dtype=torch.float64),
            losses.double().square().sum(),
            output if self.own_metrics else output.argmax(1),
        )

    def check_outputs(self, title: str, outputs: tuple[object, object], targets: Tensor) -> None:
        evaluated, trained = outputs
        expected = (len(targets), self.classes)
        if shape_of(evaluated) != expected:
            raise InputError(f"{title.format(describe(evaluated))}; it must give {expected}")
        if shape_of(trained) not in (expected, (len(targets), *shape_of(trained)[1:2], self.classes)):
            raise InputError(
                f"{title.format(describe(trained))} in training mode; it must give {expected}, "
                f"or ({len(targets)}, heads, {self.classes})"
            )

    def balanced_weights(self, targets: Tensor) -> Tensor:
        return balanced_weights(targets, self.classes)

    def _metrics(self, scores: Scores, targets: Tensor) -> Tensor:
        if self.own_metrics:
            scores = replace(scores, predictions=scores.predictions.argmax(-1))
        return validation_metrics(scores, targets, self.classes)


CLASSES = Classification()
"""Has the loss and the scores of any number of classes."""
