"""The training loss: cross entropy, and a term for each setting that a study searches."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from hpo.training.weights import Tensors

Term = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Returns what a setting adds to the mean loss of logits `(N, classes)` with labels `(N,)`.

The last argument is the value of the setting, `()`.
"""


def smooth_labels(logits: Tensor, labels: Tensor, share: Tensor) -> Tensor:
    """Return the term of label smoothing (Szegedy et al. 2016, arXiv 1512.00567, section 7).

    With the cross entropy it is the loss of `torch.nn.functional.cross_entropy(label_smoothing=share)`.
    """
    log_probabilities = F.log_softmax(logits, dim=1)  # (N, classes)
    return share * (F.nll_loss(log_probabilities, labels).neg() - log_probabilities.mean())


TERMS: Mapping[str, Term] = {"label_smoothing": smooth_labels}
"""The terms by the name of their hyperparameter, which has the role LOSS."""


def training_loss(output: Tensor, labels: Tensor, settings: Tensors) -> Tensor:
    """Return the mean loss of logits `(B, classes)`, or the sum over heads of `(B, heads, classes)`.

    `settings`: the values `()` of the settings in use, by name. Without any, it is the cross entropy.
    """
    if output.dtype == torch.bfloat16:
        output = output.float()
    if output.ndim == 2:
        return _mean_loss(output, labels, settings)
    heads = output.shape[1]
    return heads * _mean_loss(output.flatten(0, 1), labels.repeat_interleave(heads), settings)


def _mean_loss(logits: Tensor, labels: Tensor, settings: Tensors) -> Tensor:
    loss = F.cross_entropy(logits, labels)
    for name, value in settings.items():
        loss = loss + TERMS[name](logits, labels, value)
    return loss
