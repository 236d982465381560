"""Class probabilities of a trained network, and the metrics that follow from them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor, nn

from hpo.data import Dataset
from hpo.errors import HpoError
from hpo.export.metrics import ClassMetrics, Metrics, Normalization

BATCH = 256  # keeps the activations of the widest network (EnsNet) under a gigabyte


def probabilities(
    model: nn.Module,
    images: Tensor,
    normalization: Normalization,
    device: torch.device | str,
    batch_size: int = BATCH,
) -> npt.NDArray[np.float32]:
    """Return the class probabilities `(N, classes)` of `images` `(N, C, H, W) uint8`.

    `model` must be on `device` and return logits or log probabilities `(B, classes)`. It is left in eval
    mode. Raises `HpoError` if the network returns NaN or infinity.
    """
    center, scale = (
        torch.tensor(values, device=device).view(-1, 1, 1)  # (C, 1, 1)
        for values in (normalization.mean, normalization.std)
    )
    model.eval()
    batches = []
    with torch.inference_mode():
        for batch in torch.split(images, batch_size):
            pixels = batch.to(device).to(torch.float32).div_(255)  # (B, C, H, W)
            batches.append(model((pixels - center) / scale).softmax(-1, dtype=torch.float32).cpu())
    result: npt.NDArray[np.float32] = torch.cat(batches).numpy()  # (N, classes)
    if not np.isfinite(result).all():
        raise HpoError("the network gives NaN or infinity: its training has diverged")
    return result


def metrics(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], classes: Sequence[str]
) -> Metrics:
    """Return the metrics of `probabilities` `(n, classes)` for `labels` `(n,)`.

    The most probable class is the prediction. Probabilities are clipped at the smallest normal float32,
    1.2e-38, so that the loss stays finite. Raises `HpoError` if the shapes do not match.
    """
    if probabilities.shape != (len(labels), len(classes)):
        raise HpoError(
            f"probabilities have shape {probabilities.shape}: "
            f"{len(labels)} labels and {len(classes)} classes need {(len(labels), len(classes))}"
        )
    predicted = probabilities.argmax(axis=1)  # (n,)
    true_class = probabilities[np.arange(len(labels)), labels]  # (n,)
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
        loss=float(-np.log(true_class.clip(np.finfo(np.float32).tiny), dtype=np.float64).mean()),
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
    normalization: Normalization,
    device: torch.device | str,
) -> Metrics:
    """Return the metrics of a model on the test images. No other function of the project reads test images.

    Call it in the last step, once for each exported model, and choose nothing by its result. Raises
    `DataError` as `Dataset.load_test` does, and `HpoError` as `probabilities` and `metrics` do.
    """
    test = dataset.load_test()
    images = torch.from_numpy(test.images.reshape(len(test), test.channels, *test.size))  # (N, C, H, W)
    return metrics(test.labels, probabilities(model, images, normalization, device), dataset.classes)
