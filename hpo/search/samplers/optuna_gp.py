"""Optuna's Gaussian process, without a database."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from hpo.search.final_losses import clipped
from hpo.search.samplers.base import Observation, Sampler
from hpo.search.samplers.outcomes import PRUNED_COUNT, Outcome, outcomes
from hpo.search.samplers.points import Source, new_points, plan
from hpo.values.space import Point, Range, SearchSpace, cell

if TYPE_CHECKING:
    from hpo.search.samplers.optuna_study import OptunaStudy

MAX_OBSERVATIONS = 100
"""The best trials are used, up to this number: the time of a fit grows with its third power."""

MAX_RUNNING = 8
"""The latest running trials are used, up to this number: the time of a suggestion grows with it."""

MAX_ASKED = 2
"""Suggestions that may repeat a cell or break a constraint; after that a random new cell is taken. Each takes
as long as the first."""

MAX_VALUES = 10_000
"""Values of a grid, all of which Optuna puts into an array."""


class OptunaGpSampler(Sampler):
    """Optuna's GPSampler: a general-purpose Gaussian process with expected improvement. Parameters under a
    condition are random. hpo's own `gp` learns from running trials as well, and knows the effective learning
    rate.

    Optuna's sampler is asked in memory, with the best trials. It computes with torch, in the worker that
    asks. A failed trial counts with the largest loss of the others. Log losses are clipped, as for `gp`.
    """

    refused: ClassVar[Mapping[str, str]] = {
        "seed": "suggestions follow from the seed of the study",
        "n_startup_trials": "the key is 'startup'",
        "independent_sampler": "parameters under a condition are random",
        "constraints_func": "takes a Python object; see `constraints` in [space]",
        "warn_independent_sampling": "parameters under a condition are random",
    }

    name: Literal["GPSampler"] = "GPSampler"
    deterministic_objective: bool = Field(
        default=False, description="Whether equal parameters always have equal losses."
    )
    consider_pruned_trials: bool = PRUNED_COUNT

    def suggest(
        self, space: SearchSpace, history: Iterable[Observation], count: int, seed: int
    ) -> list[Point]:
        trials = list(history)
        taken = {cell(trial.point) for trial in trials}
        ended = outcomes(space, trials, self.consider_pruned_trials)
        if len(ended) < self.startup:
            return plan(space, count, seed, taken)
        study = self._study(space, seed)
        study.add_complete(_best(ended))
        running = [trial.point for trial in trials if not trial.state.is_finished()]
        study.add_running(running[-MAX_RUNNING:])
        return new_points(space, count, taken, Source(study.ask, np.random.default_rng(seed), MAX_ASKED))

    def _study(self, space: SearchSpace, seed: int) -> "OptunaStudy":
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import GPSampler

        from hpo.search.samplers.optuna_study import OptunaStudy

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = GPSampler(
                seed=seed,
                n_startup_trials=1,
                deterministic_objective=self.deterministic_objective,
                warn_independent_sampling=False,
            )
        return OptunaStudy(space, sampler)

    def mistakes(self, space: SearchSpace) -> dict[str, str]:
        for name, domain in space.domains.items():
            if isinstance(domain, Range) and (domain.size or 0) > MAX_VALUES:
                return {
                    "name": f"takes ranges of at most {MAX_VALUES} values, and {name!r} has {domain.size}"
                }
        return {}

    def load(self) -> None:
        _load()


def _best(ended: list[Outcome]) -> list[Outcome]:
    losses = clipped(np.array([outcome.loss for outcome in ended])).tolist()
    known = [replace(outcome, loss=loss) for outcome, loss in zip(ended, losses, strict=True)]
    return sorted(known, key=lambda outcome: outcome.loss)[:MAX_OBSERVATIONS]


@cache
def _load() -> None:
    """Import what Optuna imports at its first suggestion, by two small suggestions."""
    space = SearchSpace({"x": Range(0.0, 1.0)})
    study = OptunaGpSampler()._study(space, 0)
    study.add_complete([Outcome({"x": 0.25}, 1.0), Outcome({"x": 0.75}, 2.0)])
    study.ask()
    study.ask()
