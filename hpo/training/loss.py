"""The training loss of classes: cross entropy, and a term for each setting that a study searches."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from hpo.training.columns import CLASS_WEIGHTS
from hpo.training.weights import Tensors

MeanLoss = Callable[[Tensor, Tensor], Tensor]
"""Returns the mean loss of logits `(N, classes)` with labels `(N,)`."""

Term = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Returns what a setting adds to the mean loss of logits `(N, classes)` with labels `(N,)`.

The third argument is the value of the setting, `()`, the last one the class weights `(classes,)` if they are
in use.
"""


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean cross entropy; with `weights` `(classes,)` as `torch.nn.functional.cross_entropy`."""
    if weights is None:
        return F.cross_entropy(logits, labels)
    return _weighted_mean(_of_labels(F.log_softmax(logits, dim=1), labels).neg(), labels, weights)


def smooth_labels(logits: Tensor, labels: Tensor, share: Tensor, weights: Tensor | None) -> Tensor:
    """Return the term of label smoothing (Szegedy et al. 2016, arXiv 1512.00567, section 7).

    With the cross entropy it is the loss of `torch.nn.functional.cross_entropy(label_smoothing=share)`.
    """
    log_probabilities = F.log_softmax(logits, dim=1)  # (N, classes)
    if weights is None:
        return share * (F.nll_loss(log_probabilities, labels).neg() - log_probabilities.mean())
    difference = _of_labels(log_probabilities, labels) * weights.index_select(0, labels)
    difference = difference - (log_probabilities * weights).mean(dim=1)
    return share * difference.sum() / weights.index_select(0, labels).sum()


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Return class weights `(classes,)` float64 under which all classes count the same.

    The weight of a class is n / (classes * count), and 0 for a class without a label.
    """
    counts = labels.bincount(minlength=classes).double()
    return torch.where(counts > 0, len(labels) / (classes * counts), 0.0)


TERMS: Mapping[str, Term] = {"label_smoothing": smooth_labels}
"""The terms by the name of their hyperparameter, which has the role LOSS."""


def training_loss(output: Tensor, labels: Tensor, settings: Tensors) -> Tensor:
    """Return the mean loss of logits `(B, classes)`, or the sum over heads of `(B, heads, classes)`.

    `settings`: the values of the columns in use, by name. Each is `()`, but class weights are `(classes,)`.
    Without any setting of the loss, it is the cross entropy.
    """
    return over_heads(output, labels, lambda logits, labels: _mean_loss(logits, labels, settings))


def over_heads(output: Tensor, labels: Tensor, mean_loss: MeanLoss) -> Tensor:
    """Return the mean loss of logits `(B, classes)`, or the sum over heads of `(B, heads, classes)`."""
    output = in_float32(output)
    if output.ndim == 2:
        return mean_loss(output, labels)
    heads = output.shape[1]
    return heads * mean_loss(output.flatten(0, 1), labels.repeat_interleave(heads))


def in_float32(output: Tensor) -> Tensor:
    """Return outputs in bfloat16 as float32, in which losses are computed. Others stay as they are."""
    return output.float() if output.dtype == torch.bfloat16 else output


def _mean_loss(logits: Tensor, labels: Tensor, settings: Tensors) -> Tensor:
    weights = settings.get(CLASS_WEIGHTS)
    loss = cross_entropy(logits, labels, weights)
    for name, term in TERMS.items():
        if name in settings:
            loss = loss + term(logits, labels, settings[name], weights)
    return loss


def _of_labels(values: Tensor, labels: Tensor) -> Tensor:
    return values.gather(1, labels[:, None])[:, 0]  # (N,)


def _weighted_mean(losses: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    shares = weights.index_select(0, labels)  # (N,)
    return (losses * shares).sum() / shares.sum()
