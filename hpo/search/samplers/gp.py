"""Suggest points by expected improvement under a Gaussian process.

A pure function of space, seed and history. Three things let it learn more from few trials than a
general-purpose sampler does:

- Every learning curve counts, however short. `hpo.search.learning_curves` extrapolates the curve of an
  unfinished trial to the last epoch; the standard error of the extrapolation becomes observation noise.
- Learning rate, momentum and batch size enter as the effective learning rate (`hpo.search.effective_lr`),
  which replaces the learning rate as a coordinate.
- The startup points are random, but near the effective learning rate that worked for other networks.
"""

import math
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from optuna.trial import TrialState
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from hpo.search import effective_lr
from hpo.search.learning_curves import expected_ends, logarithms
from hpo.search.samplers.base import Observation
from hpo.search.samplers.random import first_points, plan
from hpo.values.space import Cell, Choices, Domain, Point, SearchSpace, Value, cell

Array = NDArray[np.float64]

CANDIDATES = 1000
"""Points that are compared: all of a finite space if it has no more, otherwise so many that are drawn."""

MOST = 300
"""Observations that are taken into account, the best: the time to fit grows with their third power."""

SPREAD = 2.0
"""Losses are cut off so many times as far above the median as the least is below it: how bad a bad cell is
tells nothing about where the good ones are."""


def suggest(
    space: SearchSpace, history: Iterable[Observation], count: int, seed: int, startup: int
) -> list[Point]:
    """Up to `count` new points by expected improvement, fewer when a finite space runs out.

    `history` holds every trial of the study, also the waiting and running ones: what is expected of those,
    and of the points of one call, is taken for known (the kriging believer of Ginsbourger et al. 2010). Until
    as many trials as `startup` says have shown an epoch, points are random.
    """
    trials = list(history)
    taken = {cell(trial.point) for trial in trials}
    known = [trial for trial in trials if trial.curve or trial.state == TrialState.FAIL]
    candidates = _candidates(space, seed, taken)
    if sum(logarithms(trial.curve or {}).size > 0 for trial in known) < max(2, startup) or not candidates:
        return first_points(space, "gp", count, seed, taken)
    losses, errors = carried_on(known)
    if len(known) > MOST:
        best = np.argsort(losses, kind="stable")[:MOST]
        known, losses, errors = [known[place] for place in best], losses[best], errors[best]
    open_points = [trial.point for trial in trials if not trial.curve and not trial.state.is_finished()]
    chosen = _best_of(space, [one.point for one in known], losses, errors, candidates, open_points, count)
    return [candidates[place] for place in chosen]


def carried_on(known: Sequence[Observation]) -> tuple[Array, Array]:
    """(logarithms of the losses (N,) expected at the last epoch of the longest curve, their standard errors
    (N,)); one that failed has the worst loss of all."""
    curves = [logarithms(trial.curve or {}) for trial in known]
    fine = [
        place for place, trial in enumerate(known) if trial.state != TrialState.FAIL and len(curves[place])
    ]
    worst, errors = max(curve[-1] for curve in curves if len(curve)), np.zeros(len(known))
    losses = np.full(len(known), worst)
    if fine:
        losses[fine], errors[fine] = expected_ends(
            [curves[place] for place in fine],
            [effective_lr.length(known[place].point) for place in fine],
            max(len(curves[place]) for place in fine),
        )
    middle = np.median(losses)
    return np.minimum(losses, middle + SPREAD * (middle - losses.min())), errors


def _best_of(
    space: SearchSpace,
    points: Sequence[Point],
    losses: Array,
    errors: Array,
    candidates: Sequence[Point],
    open_points: Sequence[Point],
    count: int,
) -> list[int]:
    """The places of the candidates to be tried next."""
    coordinates = coordinates_of(space)
    middle, scale = np.median(losses), max(float(np.std(losses)), 1e-3)
    x, y = np.array([coordinates(point) for point in points]), (losses - middle) / scale
    kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(
        np.ones(x.shape[1]), [(0.2, 10.0)] * x.shape[1], nu=2.5
    ) + WhiteKernel(0.01, (1e-4, 0.3))
    process = GaussianProcessRegressor(kernel, alpha=(errors / scale) ** 2 + 1e-8, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound that is reached is as good as any
        process.fit(x, y)
    everything = np.array([coordinates(point) for point in (*candidates, *open_points, *points)])
    means, covariance = process.predict(everything, return_cov=True)
    noise = process.kernel_.k2.noise_level
    covariance = covariance - noise * np.eye(len(means))  # of what is behind the noise
    places = range(len(candidates), len(candidates) + len(open_points))
    for place in places:
        covariance = _believing(covariance, place, noise)
    least = means[len(candidates) :].min()
    free, chosen = np.ones(len(candidates), dtype=bool), list[int]()
    for _ in range(min(count, len(candidates))):
        deviations = np.sqrt(np.clip(np.diag(covariance)[: len(candidates)], 1e-9, None))
        z = (least - means[: len(candidates)]) / deviations
        improvements = np.where(free, deviations * (z * norm.cdf(z) + norm.pdf(z)), -np.inf)
        place = int(np.argmax(improvements))
        chosen.append(place)
        free[place] = False
        covariance = _believing(covariance, place, noise)
    return chosen


def _believing(covariance: Array, place: int, noise: float) -> Array:
    """The covariance after an observation at `place` that is just what was expected."""
    row = covariance[:, place] / math.sqrt(covariance[place, place] + noise)
    return covariance - np.outer(row, row)


def _candidates(space: SearchSpace, seed: int, taken: Collection[Cell]) -> list[Point]:
    if space.cells is not None and space.cells <= CANDIDATES:
        points = (space.point_at(index) for index in range(space.cells))
        return [point for point in points if cell(point) not in taken]
    return plan(space, CANDIDATES, seed, taken)


def coordinates_of(space: SearchSpace) -> Callable[[Point], Array]:
    """Gives where a point lies, in coordinates that go from 0 to 1 over the space.

    They are the logarithms of the step of an example, of the batch size and of 1 / (1 - momentum), and the
    weight decay, of which only the order counts where it is a list of choices. One that never changes is left
    out.
    """
    decay = space.domains["weight_decay"]

    def unscaled(lr: Value, batch_size: Value, momentum: Value, weight_decay: Value) -> Array:
        size, gain = math.log(batch_size), -math.log1p(-momentum)
        return np.array([math.log(lr) + gain - size, size, gain, _placed(decay, weight_decay)])

    ends = [_ends(space.domains[name]) for name in ("lr", "batch_size", "momentum", "weight_decay")]
    corners = np.array([unscaled(*corner) for corner in product(*ends)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    moving = high > low

    def coordinates(point: Point) -> Array:
        at = unscaled(point["lr"], point["batch_size"], point["momentum"], point["weight_decay"])
        return np.asarray((at - low)[moving] / (high - low)[moving])

    return coordinates


def _ends(domain: Domain) -> tuple[Value, Value]:
    if isinstance(domain, Choices):
        return min(domain.values), max(domain.values)
    return domain.low, domain.high


def _placed(domain: Domain, value: Value) -> float:
    if isinstance(domain, Choices):
        return float(sorted(set(domain.values)).index(value))
    return math.log(value) if domain.log else value
