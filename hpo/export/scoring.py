"""The predictions of a trained network, and the metrics that follow from them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor, nn

from hpo.data import Dataset, Labelled
from hpo.errors import HpoError
from hpo.export.analysis.interval import wilson_interval
from hpo.export.analysis.predictions import Predictions
from hpo.export.evaluation import Evaluation
from hpo.export.metrics import AnyMetrics, ClassMetrics, Metrics, Normalization, RegressionMetrics
from hpo.training.criterion import Criterion
from hpo.training.metrics import Scores
from hpo.values.epoch import validation_key

BATCH = 256  # keeps the activations of the widest network (EnsNet) under a gigabyte


def probabilities(
    model: nn.Module,
    images: Tensor,
    normalization: Normalization,
    device: torch.device | str,
    batch_size: int = BATCH,
) -> npt.NDArray[np.float32]:
    """Return the class probabilities `(N, classes)` of `images`, see `outputs`.

    The outputs of the model are logits or log probabilities `(B, classes)`. Raises `HpoError` as `outputs`.
    """
    logits = outputs(model, images, normalization, device, batch_size)
    return as_probabilities(logits)


def values(
    model: nn.Module, inputs: Tensor, normalization: Normalization, device: torch.device | str
) -> npt.NDArray[np.float32]:
    """Return the numbers `(N, ...)` that a model predicts for `inputs`, see `outputs`.

    Raises `HpoError` if the model gives NaN or infinity.
    """
    return _finite(outputs(model, inputs, normalization, device).float())


def outputs(
    model: nn.Module,
    inputs: Tensor,
    normalization: Normalization,
    device: torch.device | str,
    batch_size: int = BATCH,
) -> Tensor:
    """Return the outputs `(N, ...)` for images `(N, C, H, W) uint8` or floats `(N, C, ...)`, on the CPU.

    `model` must be on `device`. It is left in eval mode.
    """
    per_channel = (-1, *[1] * (inputs.ndim - 2))
    center, scale = (
        torch.tensor(values, device=device).view(per_channel)  # (C, 1, ...)
        for values in (normalization.mean, normalization.std)
    )
    model.eval()
    batches = []
    with torch.inference_mode():
        for batch in torch.split(inputs, batch_size):
            numbers = batch.to(device).to(torch.float32)  # (B, C, ...)
            if batch.dtype == torch.uint8:
                numbers = numbers.div_(255)
            batches.append(model((numbers - center) / scale).cpu())
    return torch.cat(batches)


def _finite(predictions: Tensor) -> npt.NDArray[np.float32]:
    result: npt.NDArray[np.float32] = predictions.numpy()
    if not np.isfinite(result).all():
        raise HpoError("the network gives NaN or infinity: its training has diverged")
    return result


def metrics(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], classes: Sequence[str]
) -> Metrics:
    """Return the metrics of `probabilities` `(n, classes)` for `labels` `(n,)`, see `metrics_of`.

    Raises `HpoError` if the shapes do not match.
    """
    if probabilities.shape != (len(labels), len(classes)):
        raise HpoError(
            f"probabilities have shape {probabilities.shape}: "
            f"{len(labels)} labels and {len(classes)} classes need {(len(labels), len(classes))}"
        )
    return metrics_of(Predictions.of(labels, probabilities), classes)


def metrics_of(predictions: Predictions, classes: Sequence[str]) -> Metrics:
    """Return the metrics of at least one prediction.

    The most probable class is the prediction. Probabilities are clipped at the smallest normal float32,
    1.2e-38, so that the loss stays finite.
    """
    labels, predicted, true_class = predictions.labels, predictions.predicted, predictions.true_class
    correct = int((predicted == labels).sum())

    def rates(average: str | None) -> Any:
        return precision_recall_fscore_support(
            labels, predicted, labels=range(len(classes)), average=average, zero_division=0
        )

    weighted, macro = rates("weighted"), rates("macro")
    per_class = zip(classes, *(column.tolist() for column in rates(None)), strict=True)
    return Metrics(
        n=len(labels),
        accuracy=correct / len(labels),
        accuracy_interval=wilson_interval(correct, len(labels)),
        # In float64: a float32 mean over 100,000 examples loses digits.
        loss=float(-np.log(true_class.clip(np.finfo(np.float32).tiny), dtype=np.float64).mean()),
        weighted_precision=float(weighted[0]),
        weighted_recall=float(weighted[1]),
        weighted_f1=float(weighted[2]),
        macro_precision=float(macro[0]),
        macro_recall=float(macro[1]),
        macro_f1=float(macro[2]),
        per_class=tuple(ClassMetrics(*row) for row in per_class),
        confusion=tuple(tuple(row) for row in predictions.confusion(len(classes)).tolist()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """The metrics of a model on the test part, and of a model of classes the predictions behind them."""

    metrics: AnyMetrics
    evaluation: Evaluation | None


class HeldOutPart:
    """The test part of a data set, read but not scored. Nothing else in the project scores test examples.

    Score it in the last step, once for each exported model, and choose nothing by the result. Raises
    `DataError` as `Dataset.load_test` does.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.classes, self._part = dataset.classes, dataset.load_test()

    def __len__(self) -> int:
        return len(self._part)

    @property
    def image_of(self) -> Callable[[int], npt.NDArray[np.uint8]] | None:
        """Return what gives an image `(C, H, W)` by its row, to show those that a scored model gets wrong.

        None if the inputs are no images.
        """
        return self._part.image if self._part.is_images else None

    def score(
        self,
        model: nn.Module,
        normalization: Normalization,
        device: torch.device | str,
        criterion: Criterion,
    ) -> Score:
        """Return the score of a model. `criterion`: the loss and the metrics.

        Raises `HpoError` as `probabilities`, `values` and `metrics` do.
        """
        inputs = torch.from_numpy(self._part.images).view(-1, *self._part.shape)  # (N, C, ...)
        targets = torch.from_numpy(self._part.labels)
        raw = outputs(model, inputs, normalization, device)
        if self.classes is None:
            return Score(regression_metrics(raw, targets, criterion), None)
        labels = self._part.labels.astype(np.int64, copy=False)
        predicted = as_probabilities(raw)
        own = own_metrics(raw, targets, criterion)
        measured = replace(metrics(labels, predicted, self.classes), own=own)
        if criterion.own_loss is not None:
            losses: Tensor = criterion.own_loss(criterion.as_given(raw, targets), targets)
            measured = replace(measured, loss=float(losses.double().mean()))
        return Score(measured, Evaluation(labels, predicted, self.classes))


def validation_metrics(
    part: Labelled,
    model: nn.Module,
    normalization: Normalization,
    device: torch.device | str,
    criterion: Criterion,
) -> dict[str, float]:
    """Return the metrics of a model on validation examples, by the names of an epoch's metrics.

    A metric that is not finite is left out.
    """
    inputs = torch.from_numpy(part.images).view(-1, *part.shape)  # (N, C, ...)
    measured = _validation_metrics(
        criterion, outputs(model, inputs, normalization, device), torch.from_numpy(part.labels)
    )
    return {name: value for name, value in measured.items() if math.isfinite(value)}


def _validation_metrics(criterion: Criterion, raw: Tensor, targets: Tensor) -> dict[str, float]:
    rows = criterion.metrics(Scores.stack([criterion.score(raw, targets)]), targets)[:, 0]
    return dict(zip(criterion.names, rows.tolist(), strict=True))


def as_probabilities(raw: Tensor) -> npt.NDArray[np.float32]:
    """Return the class probabilities `(N, classes)` for logits or log probabilities. Raises `HpoError`."""
    return _finite(raw.softmax(-1, dtype=torch.float32))


def own_metrics(raw: Tensor, targets: Tensor, criterion: Criterion) -> dict[str, float | None]:
    """Return a user's own metrics by name."""
    given = criterion.as_given(raw, targets)
    return {name: _number(metric(given, targets)) for name, metric in criterion.own_metrics.items()}


def regression_metrics(raw: Tensor, targets: Tensor, criterion: Criterion) -> RegressionMetrics:
    """Return the metrics of the numbers `raw` for `targets`, both `(N, ...)`. Raises `HpoError`."""
    _finite(raw.float())
    measured = _validation_metrics(replace(criterion, own_metrics={}), raw, targets)
    numbers = {name.removeprefix(validation_key("")): value for name, value in measured.items()}
    return RegressionMetrics(len(targets), **numbers, own=own_metrics(raw, targets, criterion))


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
