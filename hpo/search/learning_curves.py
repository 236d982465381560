"""How learning curves go on, by a model of their own in every study: it knows no other study's curves."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FALL, FALL_ERROR = 0.4, 0.15
"""By how much the logarithm of a loss falls for each unit of the logarithm of the epoch, before any curve has
gone on, and the standard error of that."""

SLOPE_ERROR = 0.1
"""Standard error of how much that depends on the step: it is taken for 0 until curves show it."""

SCATTER, OWN = 0.06, 0.07
"""Standard errors of one fall from an epoch to the next, and of how far a curve's own rate is from theirs."""

FURTHEST = 0.3
"""A fall that is further from the prior one counts as one so far: who diverges tells nothing of others."""


def expected_ends(curves: Sequence[Array], steps: Sequence[float], epochs: int) -> tuple[Array, Array]:
    """(logarithms of the losses (N,) that are expected after so many epochs, their standard errors (N,)).

    `curves`: logarithms of the losses from the first epoch on, one epoch or more of each; `steps`: the
    lengths of their steps (`hpo.search.effective_lr`).

    A loss falls as a power of the epoch, and the longer the step, the sooner it has fallen: for each unit of
    log epoch log loss falls by a - b x, where x is how far log step is from its mean. a and b are found by
    Bayesian linear regression over the falls of all curves (Bishop 2006, section 3.3).
    """
    x = np.log(np.asarray(steps)) - np.mean(np.log(steps))
    shown = [
        (math.log((epoch + 1) / epoch), x[place], curve[epoch - 1] - curve[epoch])
        for place, curve in enumerate(curves)
        for epoch in range(1, len(curve))
    ]
    times, at, falls = np.array(shown).reshape(-1, 3).T
    falls = np.clip(falls, FALL * times - FURTHEST, FALL * times + FURTHEST)
    rows = times[:, None] * np.column_stack([np.ones(len(at)), -at])  # (falls shown, 2)
    precision = np.diag([FALL_ERROR**-2, SLOPE_ERROR**-2])
    covariance = np.linalg.inv(precision + rows.T @ rows / SCATTER**2)
    line = covariance @ (precision @ [FALL, 0.0] + rows.T @ falls / SCATTER**2)
    left = np.log(epochs / np.array([len(curve) for curve in curves]))
    to_come = left[:, None] * np.column_stack([np.ones(len(x)), -x])  # (N, 2)
    errors = np.sqrt(np.einsum("ni,ij,nj->n", to_come, covariance, to_come) + (OWN * left) ** 2)
    return np.array([curve[-1] for curve in curves]) - to_come @ line, errors


def logarithms(curve: Mapping[int, float]) -> Array:
    """Of the losses of its epochs, up to the first one that is missing or not finite."""
    found: list[float] = []
    while math.isfinite(loss := curve.get(len(found) + 1, math.nan)):
        found.append(math.log(max(loss, 1e-12)))
    return np.array(found)
