"""Optuna's NSGA-II for one objective: a genetic algorithm."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from hpo.search.samplers.base import Observation, Sampler
from hpo.search.samplers.outcomes import PRUNED_COUNT, Outcome, outcomes
from hpo.search.samplers.points import Source, new_points, plan
from hpo.values.space import Point, SearchSpace, cell

GENERATION = "NSGAIISampler:generation"
"""The system attribute in which Optuna keeps the generation of a trial."""


class NsgaIiSampler(Sampler):
    """Optuna's NSGAIISampler for one objective: new points mix the parameters of the best trials. The first
    `population_size` trials are random. Parameters that do not apply in all parents are random.

    The parents are the best `population_size` trials, renewed whenever as many more have ended. Failed trials
    do not count. The sampler is Optuna's own, asked with the parents.
    """

    refused: ClassVar[Mapping[str, str]] = {
        "seed": "suggestions follow from the seed of the study",
        "mutation": "takes a Python object",
        "crossover": "takes a Python object; the crossover is uniform",
        "constraints_func": "takes a Python object; see `constraints` in [space]",
        "elite_population_selection_strategy": "takes a Python object",
        "child_generation_strategy": "takes a Python object",
        "after_trial_strategy": "takes a Python object",
    }

    name: Literal["NSGAIISampler"] = "NSGAIISampler"
    population_size: int = Field(default=50, ge=2, description="Trials of a generation.")
    mutation_prob: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Probability that a parameter is drawn anew; unset: 1 / number of parameters.",
    )
    crossover_prob: float = Field(
        default=0.9, ge=0, le=1, description="Probability that a point has two parents."
    )
    swapping_prob: float = Field(
        default=0.5, ge=0, le=1, description="Probability that a parameter comes from the second parent."
    )
    consider_pruned_trials: bool = PRUNED_COUNT

    def suggest(
        self, space: SearchSpace, history: Iterable[Observation], count: int, seed: int
    ) -> list[Point]:
        trials = list(history)
        taken = {cell(trial.point) for trial in trials}
        parents = self.parents(space, trials)
        if len(parents) < self.population_size:
            return plan(space, count, seed, taken)
        from optuna.samplers import NSGAIISampler

        from hpo.search.samplers.optuna_study import OptunaStudy

        sampler = NSGAIISampler(
            population_size=self.population_size,
            mutation_prob=self.mutation_prob,
            crossover_prob=self.crossover_prob,
            swapping_prob=self.swapping_prob,
            seed=seed,
        )
        study = OptunaStudy(space, sampler)
        study.add_complete(parents, {GENERATION: 0})
        return new_points(space, count, taken, Source(study.ask, np.random.default_rng(seed)))

    def parents(self, space: SearchSpace, trials: Iterable[Observation]) -> list[Outcome]:
        """Return the parents of new points: the best trials of all full generations. Empty before the first
        is full."""
        size = self.population_size
        ended = [
            outcome
            for outcome in outcomes(space, trials, self.consider_pruned_trials)
            if not outcome.has_failed
        ]
        return sorted(ended[: len(ended) // size * size], key=lambda outcome: outcome.loss)[:size]

    def load(self) -> None:
        import hpo.search.samplers.optuna_study  # noqa: F401
