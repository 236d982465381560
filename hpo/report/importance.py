"""How much of the spread of the ends each parameter explains, with the error of a bootstrap."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from hpo.report.ends import End
from hpo.report.positions import is_varied, position
from hpo.search.final_losses import clipped
from hpo.values.domains import Choices
from hpo.values.space import SearchSpace

LEAST_TRIALS = 20
"""Trials below which nothing is computed."""

PER_PARAMETER = 5
"""Trials per parameter below which nothing is computed."""

MAX_TRIALS = 200
"""Trials that are used, drawn evenly: the time grows faster than their number."""

REPEATS, TREES = 12, 16
"""Bootstrap samples, and trees of the forest of each."""


@dataclass(frozen=True, slots=True)
class Importance:
    """A parameter's share of the variance: mean, 5th and 95th percentile over the bootstrap samples."""

    name: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Importances:
    """The importances, largest first. `n`: the number of trials used. `explained`: the share of the variance
    that a forest explains in trials it has not seen; below 0 it is worse than the mean."""

    parameters: Sequence[Importance]
    n: int
    explained: float


def measurable(space: SearchSpace, known: Sequence[End]) -> list[str]:
    """Return the parameters that vary and that all trials have."""
    return [
        name
        for name, domain in space.domains.items()
        if is_varied(domain) and all(name in end.trial.row.point for end in known)
    ]


def needed(names: Sequence[str]) -> int:
    """Return the number of trials that importances of these parameters need."""
    return max(LEAST_TRIALS, PER_PARAMETER * len(names))


def importances(space: SearchSpace, known: Sequence[End], names: Sequence[str]) -> Importances | None:
    """Return the importances by fANOVA (Hutter, Hoos and Leyton-Brown 2014) in Optuna's implementation.

    Positions of values on the scales of their domains take the place of the values, so that a logarithmic
    range counts evenly in the logarithm. None if all ends are equal.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    chosen = known[:: max(1, -(-len(known) // MAX_TRIALS))]
    losses = clipped(np.array([end.log_loss for end in chosen]))
    places = np.array(
        [[position(end.trial.row.point[name], space.domains[name]) for name in names] for end in chosen]
    )
    if np.ptp(losses) < 1e-9:
        return None
    kinds = {name: _distribution(space, name) for name in names}
    trials = [
        optuna.trial.create_trial(
            params={name: _param(space, name, place) for name, place in zip(names, row, strict=True)},
            distributions=kinds,
            value=float(loss),
        )
        for row, loss in zip(places, losses, strict=True)
    ]
    rng = np.random.default_rng(0)
    samples = []
    for repeat in range(REPEATS):
        study = optuna.create_study()
        study.add_trials([trials[index] for index in rng.integers(len(trials), size=len(trials))])
        try:
            values = FanovaImportanceEvaluator(n_trees=TREES, seed=repeat).evaluate(study, params=list(names))
        except RuntimeError:  # all trials of the sample have the same value
            continue
        total = sum(values.values()) or 1.0
        samples.append([values[name] / total for name in names])
    if not samples:
        return None
    means, (low, high) = np.mean(samples, axis=0), np.percentile(samples, [5, 95], axis=0)
    entries = [
        Importance(name, float(means[i]), float(low[i]), float(high[i])) for i, name in enumerate(names)
    ]
    entries.sort(key=lambda entry: -entry.mean)
    return Importances(entries, len(chosen), _explained(places, losses))


def _distribution(space: SearchSpace, name: str) -> BaseDistribution:
    domain = space.domains[name]
    if isinstance(domain, Choices):
        return CategoricalDistribution(range(len(domain.values)))
    return FloatDistribution(0.0, 1.0)


def _param(space: SearchSpace, name: str, place: float) -> float | int:
    domain = space.domains[name]
    return round(place * (len(domain.values) - 1)) if isinstance(domain, Choices) else float(place)


def _explained(places: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """Return the share of the variance that a forest explains in the trials that each tree has not seen."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(n_estimators=200, oob_score=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a trial that all trees have seen has no prediction
        forest.fit(places, losses)
    return float(forest.oob_score_)
