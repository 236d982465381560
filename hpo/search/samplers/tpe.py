"""Optuna's TPE as a function of the history, without a database."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from hpo.search.samplers.base import Observation, Sampler
from hpo.search.samplers.distributions import distributions
from hpo.search.samplers.points import new_points, plan
from hpo.values.space import Cell, Point, SearchSpace, cell


class TpeSampler(Sampler):
    """Suggest points by TPE (Bergstra et al. 2011) with the constant liar (Ginsbourger et al. 2010).

    The liar keeps new points away from waiting and running trials, and from the other points of the same
    call. Points are random until `startup` trials are complete or pruned.
    """

    def initial(self, space: SearchSpace, count: int, seed: int, taken: Collection[Cell] = ()) -> list[Point]:
        return plan(space, count, seed, taken)

    def suggest(
        self, space: SearchSpace, history: Iterable[Observation], count: int, seed: int, startup: int
    ) -> list[Point]:
        trials = list(history)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup))
        optuna_space = distributions(space)
        for trial in trials:
            study.add_trial(_frozen_trial(trial, optuna_space))
        taken = {cell(trial.point) for trial in trials}
        rng = np.random.default_rng(seed)
        return new_points(space, count, taken, rng, lambda: dict(study.ask(optuna_space).params))


def _frozen_trial(trial: Observation, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    # Optuna's constant liar only covers RUNNING trials, so waiting trials are passed as running.
    state = trial.state if trial.state.is_finished() else TrialState.RUNNING
    return optuna.trial.create_trial(
        state=state,
        value=trial.value if state == TrialState.COMPLETE else None,
        params=trial.point,
        distributions=dict(space),
        intermediate_values=dict(trial.curve or {}),
    )
