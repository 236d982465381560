"""How good a trained network is: its class probabilities, and the metrics of those."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic_core import to_jsonable_python
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor, nn

from hpo.data import Dataset
from hpo.errors import HpoError

BATCH = 256  # keeps the activations of the widest network (EnsNet) under a gigabyte


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Of one class: the rates 0 to 1, zero where nothing was predicted or there is nothing to find.

    `support`: examples of the class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """Of `n` examples. All but the loss are 0 to 1.

    accuracy_interval   95% Wilson score interval of the accuracy (Wilson 1927)
    loss                mean negative log likelihood in nats per example
    weighted_*          mean over the classes, weighted by support; weighted_recall is the accuracy
    macro_*             plain mean over all classes, those without examples included
    confusion           `(classes, classes)` counts: row true, column predicted
    """

    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    loss: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values: what `json.loads` gives back."""
        plain: dict[str, Any] = to_jsonable_python(self)
        return plain


def probabilities(
    model: nn.Module,
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str,
    batch_size: int = BATCH,
) -> npt.NDArray[np.float32]:
    """Class probabilities `(N, classes)` of `images` `(N, C, H, W) uint8`.

    `model` lives on `device` and is left in eval mode, in which it gives logits or log probabilities
    `(B, classes)`. `mean`, `std` `(C,)`: of pixels / 255. Raises HpoError when the network gives NaN or
    infinity.
    """
    center, scale = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (mean, std))
    model.eval()
    found = []
    with torch.inference_mode():
        for batch in torch.split(images, batch_size):
            pixels = batch.to(device).to(torch.float32).div_(255)  # (B, C, H, W)
            found.append(model((pixels - center) / scale).softmax(-1, dtype=torch.float32).cpu())
    result: npt.NDArray[np.float32] = torch.cat(found).numpy()  # (N, classes)
    if not np.isfinite(result).all():
        raise HpoError("the network gives NaN or infinity: its training has diverged")
    return result


def metrics(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], classes: Sequence[str]
) -> Metrics:
    """Metrics of `probabilities` `(n, classes)` for `labels` `(n,)`; the likeliest class is the prediction.

    A probability below the smallest normal float32, 1.2e-38, counts as that much, so the loss stays finite.
    Raises HpoError when there are not as many probabilities as classes.
    """
    if probabilities.shape != (len(labels), len(classes)):
        raise HpoError(
            f"probabilities have shape {probabilities.shape}: "
            f"{len(labels)} labels and {len(classes)} classes need {(len(labels), len(classes))}"
        )
    predicted = probabilities.argmax(axis=1)  # (n,)
    of_truth = probabilities[np.arange(len(labels)), labels]  # (n,)
    correct = int((predicted == labels).sum())
    interval = binomtest(correct, len(labels)).proportion_ci(0.95, method="wilson")

    def rates(average: str | None) -> Any:
        return precision_recall_fscore_support(
            labels, predicted, labels=range(len(classes)), average=average, zero_division=0
        )

    weighted, macro = rates("weighted"), rates("macro")
    per_class = zip(classes, *(column.tolist() for column in rates(None)), strict=True)
    confusion = confusion_matrix(labels, predicted, labels=range(len(classes)))
    return Metrics(
        n=len(labels),
        accuracy=correct / len(labels),
        accuracy_interval=(float(interval.low), float(interval.high)),
        # In float64: a float32 mean over 100,000 examples loses digits.
        loss=float(-np.log(of_truth.clip(np.finfo(np.float32).tiny), dtype=np.float64).mean()),
        weighted_precision=float(weighted[0]),
        weighted_recall=float(weighted[1]),
        weighted_f1=float(weighted[2]),
        macro_precision=float(macro[0]),
        macro_recall=float(macro[1]),
        macro_f1=float(macro[2]),
        per_class=tuple(ClassMetrics(*row) for row in per_class),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def test_metrics(
    dataset: Dataset,
    model: nn.Module,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str,
) -> Metrics:
    """Metrics on the test part. This is the one function in the project that reads a test part.

    It belongs to the last step, once for each promoted model; nothing may be chosen by what it returns.
    Raises DataError as `Dataset.load_test` does, and HpoError as `probabilities` and `metrics` do.
    """
    test = dataset.load_test()
    images = torch.from_numpy(test.images.reshape(len(test), test.channels, *test.size))  # (N, C, H, W)
    return metrics(test.labels, probabilities(model, images, mean, std, device), dataset.classes)
