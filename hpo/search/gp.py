"""A Gaussian process over the points of a search, and expected improvement under it.

Three things let the process learn more from few trials than a general-purpose model does:

- Every learning curve counts, however short. `hpo.search.learning_curves` extrapolates each curve to the last
  epoch of the longest curve: a sampler is not given the epochs of the budget. A completed trial has all of
  them. The standard error of the extrapolation becomes observation noise.
- Learning rate, momentum and batch size enter as the effective learning rate, which replaces the learning
  rate as a coordinate (`hpo.search.coordinates`). Free parameters have no such meaning.
- Log losses are clipped from above (`hpo.search.final_losses`).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from hpo.search.coordinates import unit_coordinates
from hpo.search.final_losses import clipped, final_losses
from hpo.search.samplers.base import Observation
from hpo.values.space import Point, SearchSpace

Array = NDArray[np.float64]

MAX_OBSERVATIONS = 300
"""The best observations are used, up to this number: the time of a fit grows with its third power."""


@dataclass(frozen=True, slots=True)
class Observations:
    """Points with clipped log losses (N,) of `final_losses` and their standard errors (N,)."""

    points: Sequence[Point]
    losses: Array
    errors: Array


def observations(space: SearchSpace, trials: Sequence[Observation]) -> Observations:
    """Return the clipped `final_losses` of the best `MAX_OBSERVATIONS` trials."""
    losses, errors = final_losses(space, trials)
    losses = clipped(losses)
    if len(trials) > MAX_OBSERVATIONS:
        best = np.argsort(losses, kind="stable")[:MAX_OBSERVATIONS]
        trials, losses, errors = [trials[index] for index in best], losses[best], errors[best]
    return Observations([trial.point for trial in trials], losses, errors)


def select(
    space: SearchSpace,
    observed: Observations,
    candidates: Sequence[Point],
    pending: Sequence[Point],
    count: int,
) -> list[int]:
    """Return the indices of `count` candidates with the largest expected improvement, one after another.

    Each selected candidate and each `pending` point is treated as observed at its predicted loss.
    """
    coordinates = unit_coordinates(space)
    losses = observed.losses
    median, scale = np.median(losses), max(float(np.std(losses)), 1e-3)
    x, y = np.array([coordinates(point) for point in observed.points]), (losses - median) / scale
    process = _fit(x, y, observed.errors / scale)
    everything = np.array([coordinates(point) for point in (*candidates, *pending, *observed.points)])
    means, covariance = process.predict(everything, return_cov=True)
    noise = process.kernel_.k2.noise_level
    covariance = covariance - noise * np.eye(len(means))  # the covariance of the function without its noise
    for index in range(len(candidates), len(candidates) + len(pending)):
        covariance = _condition(covariance, index, noise)
    best = means[len(candidates) :].min()
    free, selected = np.ones(len(candidates), dtype=bool), list[int]()
    for _ in range(min(count, len(candidates))):
        deviations = np.sqrt(np.clip(np.diag(covariance)[: len(candidates)], 1e-9, None))
        z = (best - means[: len(candidates)]) / deviations
        improvements = np.where(free, deviations * (z * norm.cdf(z) + norm.pdf(z)), -np.inf)
        index = int(np.argmax(improvements))
        selected.append(index)
        free[index] = False
        covariance = _condition(covariance, index, noise)
    return selected


def _fit(x: Array, y: Array, errors: Array) -> GaussianProcessRegressor:
    kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(
        np.ones(x.shape[1]), [(0.2, 10.0)] * x.shape[1], nu=2.5
    ) + WhiteKernel(0.01, (1e-4, 0.3))
    process = GaussianProcessRegressor(kernel, alpha=errors**2 + 1e-8, random_state=0)
    with warnings.catch_warnings():
        # Hyperparameters at a bound of their range are fine.
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(x, y)
    return process


def _condition(covariance: Array, index: int, noise: float) -> Array:
    """Return the covariance after an observation at `index` that equals the predicted mean."""
    row = covariance[:, index] / math.sqrt(covariance[index, index] + noise)
    return covariance - np.outer(row, row)
