"""Extrapolate learning curves to a later epoch.

The model is fitted to the curves of one study alone and knows no other study.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PRIOR_DECAY, PRIOR_DECAY_ERROR = 0.4, 0.15
"""Prior mean and standard error of the decay: the fall of log loss per unit of log epoch."""

LR_SLOPE_ERROR = 0.1
"""Prior standard error of the slope of the decay over the log effective learning rate; the prior mean is
0."""

EPOCH_NOISE, CURVE_NOISE = 0.06, 0.07
"""Standard errors of the fall in one epoch, and of one curve's decay around the regression line."""

MAX_DEVIATION = 0.3
"""Falls are clipped to this distance from the prior fall: a diverging trial says nothing about other
trials."""


def predict_final_losses(
    curves: Sequence[Array], learning_rates: Sequence[float | None], epochs: int
) -> tuple[Array, Array]:
    """Return the predicted log losses (N,) after `epochs` epochs, and their standard errors (N,).

    `curves` holds log losses from the first epoch on, at least one epoch each. `learning_rates` are effective
    learning rates (`hpo.search.effective_lr`), None for a trial without one.

    The loss falls as a power of the epoch. At a high learning rate the loss falls earlier, and more slowly
    afterwards. Per unit of log epoch, log loss falls by a - b x, where x is the centred log effective
    learning rate. Bayesian linear regression over the falls of all curves gives a and b (Bishop 2006, section
    3.3).
    """
    x = _centred_logs(learning_rates)
    observed = [
        (math.log((epoch + 1) / epoch), x[index], curve[epoch - 1] - curve[epoch])
        for index, curve in enumerate(curves)
        for epoch in range(1, len(curve))
    ]
    log_epochs, rates, falls = np.array(observed).reshape(-1, 3).T
    falls = np.clip(falls, PRIOR_DECAY * log_epochs - MAX_DEVIATION, PRIOR_DECAY * log_epochs + MAX_DEVIATION)
    design = log_epochs[:, None] * np.column_stack([np.ones(len(rates)), -rates])  # (falls, 2)
    precision = np.diag([PRIOR_DECAY_ERROR**-2, LR_SLOPE_ERROR**-2])
    covariance = np.linalg.inv(precision + design.T @ design / EPOCH_NOISE**2)
    line = covariance @ (precision @ [PRIOR_DECAY, 0.0] + design.T @ falls / EPOCH_NOISE**2)
    remaining = np.log(epochs / np.array([len(curve) for curve in curves]))
    remaining_design = remaining[:, None] * np.column_stack([np.ones(len(x)), -x])  # (N, 2)
    errors = np.sqrt(
        np.einsum("ni,ij,nj->n", remaining_design, covariance, remaining_design)
        + (CURVE_NOISE * remaining) ** 2
    )
    return np.array([curve[-1] for curve in curves]) - remaining_design @ line, errors


def _centred_logs(rates: Sequence[float | None]) -> Array:
    """Return the log rates (N,) minus their mean, and 0 for a trial without a rate."""
    logs = np.log(np.array([math.nan if rate is None else rate for rate in rates]))
    known = ~np.isnan(logs)
    return np.where(known, logs - np.mean(logs[known]) if known.any() else 0.0, 0.0)


def log_losses(curve: Mapping[int, float]) -> Array:
    """Return the log losses of epochs 1, 2, ... up to the first epoch that is missing or not finite."""
    values: list[float] = []
    while math.isfinite(loss := curve.get(len(values) + 1, math.nan)):
        values.append(math.log(max(loss, 1e-12)))
    return np.array(values)
