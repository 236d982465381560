"""Optuna's TPE, asked over the history of a study: a function of values, without a database."""

from collections.abc import Iterable, Mapping

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from hpo.search.samplers.base import Observation, distributions, new_points
from hpo.values.space import Point, SearchSpace, cell


def suggest(
    space: SearchSpace, history: Iterable[Observation], count: int, seed: int, startup: int
) -> list[Point]:
    """Up to `count` new points from TPE with the constant liar, fewer when a finite space runs out.

    `history` holds every trial of the study, also the waiting and running ones: the liar (Bergstra et
    al. 2011 for TPE; Ginsbourger et al. 2010 for the liar) keeps the proposals away from them. Proposals of
    one call see each other the same way. Until `startup` trials are complete or pruned, points are random.
    `seed` should differ from call to call: it is all the randomness there is.
    """
    trials = list(history)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup))
    space_in_optuna = distributions(space)
    for trial in trials:
        study.add_trial(_frozen(trial, space_in_optuna))
    taken = {cell(trial.point) for trial in trials}
    rng = np.random.default_rng(seed)
    return new_points(space, count, taken, rng, lambda: dict(study.ask(space_in_optuna).params))


def _frozen(trial: Observation, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    # What has no value yet is a lie in waiting: Optuna's liar takes RUNNING trials only.
    state = trial.state if trial.state.is_finished() else TrialState.RUNNING
    return optuna.trial.create_trial(
        state=state,
        value=trial.value if state == TrialState.COMPLETE else None,
        params=trial.point,
        distributions=dict(space),
        intermediate_values=dict(trial.curve or {}),
    )
