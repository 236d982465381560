"""The losses that trials end with, or would have ended with: what samplers learn from."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hpo.search.effective_lr import effective_lr
from hpo.search.learning_curves import log_losses, predict_final_losses
from hpo.values.space import SearchSpace

if TYPE_CHECKING:
    from hpo.search.samplers.base import Observation

Array = NDArray[np.float64]

SPREAD = 2.0
"""Log losses are clipped at `median + SPREAD * (median - best)`; median and best are log losses too."""


def final_losses(space: SearchSpace, trials: "Sequence[Observation]") -> tuple[Array, Array]:
    """Return the log losses (N,) predicted for the last epoch of the longest curve, and their standard errors
    (N,).

    A failed trial gets the worst current log loss of all trials, of which one has trained an epoch.
    """
    curves = [log_losses(trial.curve or {}) for trial in trials]
    usable = [index for index, trial in enumerate(trials) if not trial.has_failed and len(curves[index])]
    worst, errors = max(curve[-1] for curve in curves if len(curve)), np.zeros(len(trials))
    losses = np.full(len(trials), worst)
    if usable:
        losses[usable], errors[usable] = predict_final_losses(
            [curves[index] for index in usable],
            [effective_lr(space, trials[index].point) for index in usable],
            max(len(curves[index]) for index in usable),
        )
    return losses, errors


def clipped(losses: Array) -> Array:
    """Return the log losses (N,) clipped from above, see `SPREAD`: how bad a bad point is says nothing about
    where good ones are."""
    median = float(np.median(losses))
    result: Array = np.minimum(losses, median + SPREAD * (median - losses.min()))
    return result
